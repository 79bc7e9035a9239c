"""Weights of published files, or of earlier runs, for a model: by the table of `core.models.import_sources`.

Nothing is loaded unless every weight that is needed fits, and what became of each name is told.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.errors import CheckpointError
from core.models.checkpoint import is_finite, plain_names, read_published, read_weights
from core.models.import_sources import SOURCES, TEXT_CORE, VISION_CORE, Source, recognise
from core.models.level_vit import LevelVisionTransformer3d, inflate_table
from core.models.model_file import FIRST_FORMAT, FORMAT
from core.models.text import BertBody
from core.models.vit import VisionTransformer3d

PARTS_FORMAT = "asap-viewer/weights/1"
"""Format of a file of converted weights that are no whole model."""
CONVERTED = ("model.safetensors", "weights.safetensors", "text.safetensors")
"""Files of a folder that hold weights, the first that is there."""
NAMED_MISFITS = 4
"""Misfits that an error names."""


class Found(NamedTuple):
    """Weights under our names, and where they come from."""

    source: Source
    weights: dict[str, Tensor]
    unused: list[str]  # names in the file that nothing here reads
    is_own: bool = False  # True = the file was written by this program


class Fitted(NamedTuple):
    """What a model takes of a file."""

    weights: dict[str, Tensor]  # by the model's names
    skipped: dict[str, str]  # our name, or the file's own for what is not used -> why it has no place
    missing: list[str]  # the model's names that the file does not give

    def __str__(self) -> str:
        return f"{len(self.weights)} weights matched, {len(self.skipped)} skipped, {len(self.missing)} missing"


class Places(NamedTuple):
    """Where a model keeps encoders."""

    vision: Mapping[str, nn.Module]  # what stands before the names of a ViT's weights -> the ViT
    text: list[str]  # the same of the BERTs that read texts


def read_source(files: Sequence[Path], source: Source | None = None) -> Found:
    """Weights of published files, or of one that this program wrote, or of its folder. Runs no code from them.

    source: what they are said to be; without it they are recognised. Raises CheckpointError for files that cannot be
    read or are of another source.
    """
    paths = [_weights_in(path) for path in files]
    own = _read_own(paths[0]) if len(paths) == 1 else None
    if own is not None:
        return own
    read = [(path, read_published(path)) for path in paths]
    for path, tensors in read:
        seen = recognise(tensors, path.name)
        source = source or seen
        if seen is not source:
            raise CheckpointError(
                f"{path.name} holds weights of {seen.name}, not of {source.name}; expected {source.published}."
            )
    assert source is not None
    first = re.compile(source.read_first)
    read.sort(key=lambda one: not any(first.search(name) for name in one[1]))
    return _rename(source, {name: value for _, tensors in read for name, value in tensors.items()})


def find_places(model: nn.Module) -> Places:
    """Every ViT of volumes, and every BERT that reads texts, in a model."""
    named = [(f"{name}." if name else "", module) for name, module in model.named_modules()]
    vision = {at: one for at, one in named if isinstance(one, VisionTransformer3d | LevelVisionTransformer3d)}
    return Places(vision, [at for at, one in named if isinstance(one, BertBody)])


def fit_weights(found: Found, model: nn.Module, recipe: str, needed: Iterable[str]) -> Fitted:
    """What `model`, of `recipe`, takes of a file: by name if the recipe is one of the source's, else its encoders.

    needed: beginnings of the model's names that must be there in the first case, if the source does not say so. In the
    second all blocks of a ViT that takes part, and all layers of a BERT, must be. Raises CheckpointError when too few
    are, naming the worst misfits, and for NaN. The model may be on the meta device; nothing is loaded into it.
    """
    source, wanted = found.source, {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if recipe in source.recipes:
        offered = {name: value for name, value in found.weights.items() if source.tied.get(name) not in found.weights}
        starts = tuple(needed if source.needed is None else source.needed)
        spare = [name for name in found.weights if name not in offered]
    else:
        offered, starts, spare = _offer_encoders(found, model, recipe)
    weights = {name: value for name, value in offered.items() if wanted.get(name) == tuple(value.shape)}
    weights |= {name: torch.zeros(shape) for name, shape in wanted.items() if re.search(source.zero, name)}
    skipped = _tell_skipped(offered, weights, wanted) | dict.fromkeys(spare, "has no place in this model")
    skipped |= dict.fromkeys(found.unused, "not used here")
    missing = [name for name in wanted if name not in weights and source.tied.get(name) not in weights]
    fitted = Fitted(weights, skipped, missing)
    computed = re.compile(source.computed)
    _require_enough(fitted, [n for n in wanted if n.startswith(starts) and not computed.search(n)], found, wanted)
    return fitted


def put_weights(model: nn.Module, fitted: Fitted) -> None:
    """Load what was fitted, in the types that the model has."""
    model.load_state_dict(fitted.weights, strict=False)


def start_from(model: nn.Module, recipe: str, file: Path, needed: Iterable[str]) -> tuple[Source, Fitted]:
    """Load weights into a model that is going to be trained, see `fit_weights`; what was loaded from where."""
    found = read_source([file])
    fitted = fit_weights(found, model, recipe, needed)
    put_weights(model, fitted)
    return found.source, fitted


def _weights_in(path: Path) -> Path:
    """The file itself, or the weights in a folder that this program wrote."""
    return next((path / name for name in CONVERTED if (path / name).is_file()), path)


def _read_own(path: Path) -> Found | None:
    """Weights of a file that this program wrote, None for another's."""
    if path.suffix != ".safetensors":
        return None
    tensors, metadata = read_weights(path)
    if metadata.get("format") == PARTS_FORMAT:
        name = metadata.get("source", "")
    elif metadata.get("format") in (FORMAT, FIRST_FORMAT):
        name = metadata.get("recipe", "asap")
    else:
        return None
    if name not in SOURCES:
        raise CheckpointError(f"{path.name} holds weights of {name!r}; expected one of {', '.join(SOURCES)}.")
    source = SOURCES[name]
    if metadata.get("format") != PARTS_FORMAT:  # a whole model of ours needs what its recipe needs
        source = replace(source, needed=None)
    if name == "cxr-bert":
        return _rename(source, tensors)._replace(is_own=True)  # kept with the prefix that a text encoder has
    return Found(source, plain_names(tensors), [], is_own=True)


def _rename(source: Source, tensors: Mapping[str, Tensor]) -> Found:
    ours = {name: source.rename(name) for name in tensors}
    weights = {own: tensors[name] for name, own in ours.items() if own is not None}
    return Found(source, weights, [name for name, own in ours.items() if own is None])


def _offer_encoders(
    found: Found, model: nn.Module, recipe: str
) -> tuple[dict[str, Tensor], tuple[str, ...], list[str]]:
    """A file's encoders by the names of a model's: what is offered, what of it is needed, names that are left over."""
    source, places, offered = found.source, find_places(model), dict[str, Tensor]()
    starts: list[str] = []
    vision, text = _part_of(found.weights, source.vision), _part_of(found.weights, source.text)
    if any(name.startswith(VISION_CORE) for name in vision):
        for at, vit in places.vision.items():
            offered |= {at + name: value for name, value in _for_vit(vision, source, vit).items()}
            starts += [at + name for name in VISION_CORE]
    if any(name.startswith(TEXT_CORE) for name in text):
        for at in places.text:
            offered |= {at + name: value for name, value in text.items()}
            starts += [at + name for name in TEXT_CORE]
    if not offered and not any(name.startswith((*VISION_CORE, *TEXT_CORE)) for name in (*vision, *text)):
        raise CheckpointError(
            f"The file holds no encoder of {source.name}; expected {source.published or 'a whole run'}. Copy it again."
        )
    if not offered:
        raise CheckpointError(
            f"Weights of {source.name} have no place in this model of recipe {recipe}: it has no encoder of their "
            "kind. Choose a recipe, or a backbone, that has one."
        )
    taken = {id(value) for value in offered.values()}
    return offered, tuple(starts), [name for name, value in found.weights.items() if id(value) not in taken]


def _for_vit(part: Mapping[str, Tensor], source: Source, vit: nn.Module) -> dict[str, Tensor]:
    """What a ViT of another model takes: the blocks, and where patches lie alike also their embedding.

    Position codes are its own; only fVLM's learned table starts as the inflated one of flat pictures (its spec 4.1).
    """
    is_alike = source.is_vision_xyz and isinstance(vit, VisionTransformer3d)
    starts = (*VISION_CORE, "cls_token", "patch_embed.") if is_alike else VISION_CORE
    taken = {name: value for name, value in part.items() if name.startswith(starts)}
    if source.is_flat and isinstance(vit, LevelVisionTransformer3d) and "pos_embed" in part:
        taken["pos_embed"] = inflate_table(part["pos_embed"].float(), vit.vision.inner_grid)
    return taken


def _part_of(weights: Mapping[str, Tensor], start: str | None) -> dict[str, Tensor]:
    """Weights whose names begin with `start`, without it; none for None."""
    if start is None:
        return {}
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


def _tell_skipped(
    offered: Mapping[str, Tensor], weights: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    return {
        name: f"{tuple(value.shape)} in the file, {wanted[name]} in the model" if name in wanted else "unknown"
        for name, value in offered.items()
        if name not in weights
    }


def _require_enough(fitted: Fitted, asked: Sequence[str], found: Found, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file that gives too few of the weights asked for, or weights that are no numbers."""
    lacking = [name for name in asked if name not in fitted.weights]
    share = 1 - len(lacking) / max(1, len(asked))
    if not fitted.weights or share < found.source.threshold:
        worst = sorted(lacking, key=lambda name: -torch.Size(wanted[name]).numel())
        told = [f"{name} ({fitted.skipped.get(name, 'not in the file')})" for name in worst[:NAMED_MISFITS]]
        more = f" and {len(worst) - NAMED_MISFITS} more" if len(worst) > NAMED_MISFITS else ""
        raise CheckpointError(
            f"The file does not fit this model as weights of {found.source.name}: {len(asked) - len(lacking)} of "
            f"{len(asked)} needed weights. Largest misfits: {', '.join(told) or 'all'}{more}. Expected "
            f"{found.source.published or 'a run of this recipe'}, whole and of the model's sizes."
        )
    broken = [name for name, value in fitted.weights.items() if not is_finite(value)]
    if broken:
        raise CheckpointError(
            f"The file holds NaN or infinite weights in {', '.join(broken[:NAMED_MISFITS])}: it is damaged, or its "
            "training failed. Get another copy."
        )
