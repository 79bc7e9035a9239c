"""Weights on disk: our safetensors with their config inside, and importing published PyTorch files safely."""

import argparse
import dataclasses
import json
import pickle
import re
import struct
import types
import typing
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from core.errors import CheckpointError, ConfigError
from core.folder import replace_file

C = TypeVar("C")

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which published files keep their weights."""

PREFIXES = ("module.", "backbone.", "vit.", "visual_extractor.model.", "visual_transformer.")
"""What wrappers put before every name (ASAP spec 5.1)."""

IGNORED = ("bert_encoder.bert.embeddings.position_ids",)
"""Entries of published files that hold no weight."""

HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    np.float64(0).__reduce__()[0],
    np.zeros(0).__reduce__()[0],
] + [getattr(np.dtypes, name) for name in ("Float32DType", "Float64DType", "Int32DType", "Int64DType", "BoolDType")]
"""Kinds of value, beside tensors, that a published file may hold: its training's arguments and its numbers. Making one
runs no code of the file."""

ENCODER_PARTS = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
"""Beginnings of the encoder's names; without these weights a file is not an encoder."""


DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, struct.error, LookupError, ValueError, TypeError)
"""What reading bytes that are no PyTorch file may raise, by where they happen to break off."""


class ImportReport(NamedTuple):
    """What became of the names of a file and of a model."""

    matched: list[str]  # loaded
    skipped: list[str]  # in the file, not in the model or of another shape
    missing: list[str]  # in the model, kept as it was

    def __str__(self) -> str:
        return f"{len(self.matched)} tensors matched, {len(self.skipped)} skipped, {len(self.missing)} missing"


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write the parts as one file so that a kill at any moment leaves the old one or the new one, never a part."""
    try:
        replace_file(path, *parts)
    except OSError as error:
        raise CheckpointError(
            f"{path} could not be written ({error}). Free some space or choose another folder."
        ) from error


def save_weights(path: Path, model: nn.Module, metadata: Mapping[str, str], dtype: torch.dtype | None = None) -> None:
    """All weights of `model` as safetensors with text metadata, atomically; floats as `dtype` when it is given."""
    write_tensors(path, model.state_dict(), metadata, dtype)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype | None = None
) -> None:
    """Tensors as safetensors with text metadata, atomically; floats as `dtype` when it is given."""
    kept = {}
    for name, value in tensors.items():
        kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
        kept[name] = value.detach().to("cpu", kind, copy=True).contiguous()  # a copy: tied weights share memory
    content = memoryview(to_bytes(kept, dict(metadata)))
    end = 8 + int.from_bytes(content[:8], "little")
    write_atomically(path, *sort_header(bytes(content[8:end])), content[end:])


def sort_header(header: bytes) -> tuple[bytes, bytes]:
    """Length and text of a safetensors header, its metadata in the order of their names: equal files are equal bytes.

    The library writes them in an order that it draws anew each time.
    """
    told = json.loads(header)
    told["__metadata__"] = dict(sorted(told.get("__metadata__", {}).items()))
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little"), text


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            return tensors, file.metadata() or {}
    except FileNotFoundError as error:
        raise CheckpointError(f"No weights at {path}; expected a .safetensors file.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is not a readable safetensors file ({error}). Copy it again.") from error


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load exactly the weights that the model has, refusing anything missing, unknown, mis-shaped or not finite."""
    report = compare_names(model, tensors)
    if report.skipped or report.missing:
        raise CheckpointError(
            f"{name} does not fit the model: {report}. First differences: {_first(report.skipped + report.missing)}. "
            "Expected a file written for the same config."
        )
    broken = [key for key, value in tensors.items() if not is_finite(value)]
    if broken:
        raise CheckpointError(f"{name} holds NaN or infinite weights in {_first(broken)}: that training run failed.")
    model.load_state_dict(dict(tensors))


def is_finite(value: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity. (Extremes are 20 times as fast as looking at each number.)"""
    if not value.is_floating_point() or value.numel() == 0 or value.is_meta:
        return True
    return bool(torch.stack(value.aminmax()).isfinite().all())


def compare_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> ImportReport:
    """Which names of a file fit the model, by name and shape."""
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    matched = [name for name, value in tensors.items() if wanted.get(name) == value.shape]
    skipped = [name for name in tensors if name not in set(matched)]
    return ImportReport(matched, skipped, [name for name in wanted if name not in set(matched)])


def read_published(path: Path) -> dict[str, Tensor]:
    """Weights of a published .pth/.pt/.bin or .safetensors file under plain names; runs no code from the file."""
    if path.suffix == ".safetensors":
        return plain_names(read_weights(path)[0])
    try:
        is_lazy = zipfile.is_zipfile(path)  # then what is not used, such as two moments a weight, is never read
        with torch.serialization.safe_globals(HARMLESS):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_lazy)
    except FileNotFoundError as error:
        raise CheckpointError(f"No weights at {path}; expected a .pth or .safetensors file.") from error
    except DAMAGED as error:
        raise CheckpointError(
            f"{path.name} cannot be read as plain weights ({_reason(error)}). "
            "Expected a PyTorch file of tensors only; nothing was executed."
        ) from error
    return plain_names(_unwrap(loaded, path.name))


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of wrappers and without entries that are no weights."""
    plain = {}
    for name, value in tensors.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if name not in IGNORED:
            plain[name] = value
    return plain


def rename_weight(name: str, renamed: Iterable[tuple[str, str]], unused: str) -> str | None:
    """A weight's name by the first of the `renamed` patterns that fits, None where `unused` does."""
    if re.search(unused, name):
        return None
    for pattern, own in renamed:
        if re.search(pattern, name):
            return re.sub(pattern, own, name)
    return name


def import_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], required: Iterable[str] = ENCODER_PARTS
) -> ImportReport:
    """Load what fits; refuse when a name that begins with one of `required` is missing or mis-shaped.

    Position codes are fixed and computed, so a file may leave them out.
    """
    report = compare_names(model, tensors)
    starts = tuple(required)
    lacking = [name for name in report.missing if name.startswith(starts) and not name.endswith("pos_embed")]
    if lacking or not report.matched:
        misfits = [f"{name} {tuple(tensors[name].shape)}" for name in report.skipped]
        raise CheckpointError(
            f"The file does not hold this model's weights: {report}. Missing: {_first(lacking)}. In the file but not "
            f"fitting: {_first(misfits)}. Expected the published layout at the sizes of the config."
        )
    chosen = {name: tensors[name] for name in report.matched}
    tied = "bert_encoder.cls.predictions.decoder.weight"  # one parameter with the embedding, which is what is used
    if tied in chosen and "bert_encoder.bert.embeddings.word_embeddings.weight" in chosen:
        del chosen[tied]
    model.load_state_dict(chosen, strict=False)
    return report


def config_to_json(config: object) -> str:
    """A frozen dataclass config, nested ones included, as one JSON text."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected a config object, got {config!r}")
    return json.dumps(dataclasses.asdict(config), sort_keys=True, default=str)


def config_from_json(kind: type[C], text: str) -> C:
    """Inverse of `config_to_json`; unknown or impossible entries are refused by name."""
    try:
        return _build(kind, json.loads(text))
    except (ValueError, TypeError, ConfigError) as error:
        raise CheckpointError(f"The stored config is not a {kind.__name__} of this version ({error}).") from error


def _build(kind: Any, value: Any) -> Any:
    """`value` of plain JSON as `kind`: dataclass, tuple or plain."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        unknown = set(value) - set(hints)
        if unknown:
            raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
        return kind(**{name: _build_entry(name, hints[name], entry) for name, entry in value.items()})
    if typing.get_origin(kind) is types.UnionType:
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
        return None if value is None else _build(kind, value)
    _require_kind(kind, value)
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        return tuple(_build(part, entry) for part, entry in zip(kinds, value, strict=True))
    return Path(value) if kind is Path else value


def _build_entry(name: str, kind: Any, value: Any) -> Any:
    """As `_build`; says which entry is wrong."""
    try:
        return _build(kind, value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _require_kind(kind: Any, value: Any) -> None:
    """Refuse a word where a number belongs, a fraction where a count does, and a choice that does not exist."""
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    if choices and value not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(map(str, choices))}")
    wanted = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}.get(kind, (object,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted and kind in (int, float)):
        raise ValueError(f"{value!r} is not of type {kind.__name__}")
    if typing.get_origin(kind) is tuple and not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list")


def _unwrap(loaded: object, name: str) -> Mapping[str, Tensor]:
    """The mapping of tensors inside a loaded file, whichever wrapper it uses."""
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{name} holds a {type(loaded).__name__}; expected a mapping of names to tensors.")
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{name} holds no tensors; expected weights, bare or under {', '.join(WRAPPERS)}.")
    return tensors


def _reason(error: Exception) -> str:
    """Kind of fault, with the forbidden thing's name where the file holds one."""
    forbidden = re.search(r"GLOBAL:? ([\w.]+)", str(error))
    return f"it holds {forbidden[1].rstrip('.')}, which is code" if forbidden else type(error).__name__


def _first(names: list[str], count: int = 3) -> str:
    """A few names and how many more there are."""
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "none") + rest
