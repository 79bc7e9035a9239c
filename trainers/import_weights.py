"""Published weights as files of ours, once: `python -m trainers.import_weights --source fvlm FILE --out models/fvlm`.

Prints one JSON document: weights that were matched, skipped and why, and missing. See docs/weights.md.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from core.errors import AsapError, CheckpointError, ConfigError
from core.models.bert import BertConfig
from core.models.checkpoint import config_to_json, write_atomically, write_tensors
from core.models.import_sources import SOURCES, find_source
from core.models.imports import PARTS_FORMAT, Fitted, Found, read_source
from core.models.model_file import FORMAT
from core.models.published_models import PUBLISHED_MODELS, check_source, complete_weights, makes_engine
from core.models.tokens import ReportTokenizer, find_vocabulary

MODEL, PARTS, TEXT, REPORT = "model.safetensors", "weights.safetensors", "text.safetensors", "import.json"


@dataclass(frozen=True)
class ImportConfig:
    """One conversion."""

    source: str
    """A name of `core.models.import_sources`."""
    files: tuple[Path, ...]
    """The published file or files."""
    out: Path
    """Folder to write; for an engine models/NAME."""
    tokenizer: Path | None = None
    """The vocabulary: a tokenizers JSON or vocab.txt; without it, one that lies beside the first file or in `out`."""
    is_half: bool = False
    """Whether floats are written in half precision."""


def import_weights(config: ImportConfig) -> dict[str, Any]:
    """Convert, and return what became of every name. Nothing is written unless all that is needed fits."""
    source = find_source(config.source)
    found = read_source(config.files, source)
    if found.is_own:
        raise CheckpointError(f"{config.files[0]} was written by this program; it needs no conversion.")
    fitted = check_source(found)
    tokenizer, vocabulary = _vocabulary(config)
    name, weights, metadata = _product(found, fitted, tokenizer)
    path = config.out / name
    write_tensors(path, weights, metadata, torch.float16 if config.is_half else None)
    summary = {
        "source": source.name,
        "files": [file.name for file in config.files],
        "weights": str(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "vocabulary": vocabulary.name if vocabulary else None,
        "use": _use(name, path, tokenizer is not None),
        "matched": sorted(fitted.weights),
        "skipped": fitted.skipped,
        "missing": fitted.missing,
    }
    write_atomically(config.out / REPORT, json.dumps(summary, indent=1).encode() + b"\n")
    return summary


def _vocabulary(config: ImportConfig) -> tuple[ReportTokenizer | None, Path | None]:
    """The vocabulary that goes with the weights and where it lay; None where there is none yet."""
    path = config.tokenizer or find_vocabulary(config.files[0].parent) or find_vocabulary(config.out)
    return (None, None) if path is None else (ReportTokenizer.from_file(path), path)


def _product(
    found: Found, fitted: Fitted, tokenizer: ReportTokenizer | None
) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """File name, weights and metadata: a whole model, a text encoder, or parts to start a training from."""
    name, words = found.source.name, {} if tokenizer is None else {"tokenizer": tokenizer.to_json()}
    if makes_engine(found, fitted):
        published = PUBLISHED_MODELS[name]
        facts = dict(published.facts) | {"data": f"published: {found.source.published}"}
        about = {"recipe": published.recipe, "preset": "released", "config": config_to_json(published.config())}
        return MODEL, complete_weights(found, fitted), {"format": FORMAT, **about, "facts": json.dumps(facts), **words}
    parts = {"format": PARTS_FORMAT, "source": name}
    if name == "cxr-bert":
        named = {f"bert.{key}": value for key, value in found.weights.items()}
        return TEXT, named, {**parts, "config": config_to_json(BertConfig()), **words}
    return PARTS, found.weights, parts


def _use(name: str, path: Path, has_words: bool) -> str:
    """What can be done with the file now."""
    words = "" if has_words else f" once CXR-BERT's vocabulary (vocab.txt or a tokenizers JSON) lies in {path.parent}"
    if name == MODEL:
        return f"engine {path.parent.name!r} of the page and the command line{words}; --init of trainers.pretrain"
    if name == TEXT:
        return "--init of trainers.pretrain" + (", --text too" if has_words else "; --text needs --tokenizer here")
    return "--init of trainers.pretrain"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. Expected `--source NAME FILE [FILE2] --out DIR`; --help explains.")


def read_options(arguments: Sequence[str]) -> ImportConfig:
    """The command line as a config; ConfigError in one line."""
    parser = _Parser(prog="python -m trainers.import_weights", description=__doc__)
    sources = ", ".join(f"{source.name}: {source.published}" for source in SOURCES.values() if source.published)
    parser.add_argument("--source", required=True, help=sources)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the published file or files")
    parser.add_argument("--out", required=True, type=Path, help="folder to write, models/NAME for an engine")
    parser.add_argument("--tokenizer", type=Path, help="vocabulary: tokenizers JSON or vocab.txt")
    parser.add_argument("--half", action="store_true", help="write floats in half precision")
    told = parser.parse_args(list(arguments))
    return ImportConfig(told.source, tuple(told.files), told.out, told.tokenizer, told.half)


def main(arguments: Sequence[str]) -> int:
    """Convert, print one JSON document, or one line on what to mend; returns the exit code."""
    try:
        summary = import_weights(read_options(arguments))
    except AsapError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; nothing was written.\n")
        return 130
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
