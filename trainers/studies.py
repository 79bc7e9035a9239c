"""The training set of a run: the data engine, or a folder's volumes, masks, reports and builders' files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.models.tokens import ReportTokenizer
from core.preprocess import Size3
from core.retrieval.table import ReportRow
from trainers.batches import Studies
from trainers.crops import DataView
from trainers.folder import CACHE, FolderImages
from trainers.recipes.recipe import FieldContext, Recipe
from trainers.report_tokens import ReportConfig, read_reports
from trainers.sources import ImageSource, RecipeStudies, require_fields
from trainers.stage import Stage
from trainers.synthetic import SyntheticConfig, SyntheticStudies

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class StudiesRequest:
    """Everything that decides what the training set of a run is."""

    data: str
    """"synthetic", or a folder."""
    view: DataView
    """How CTs are shown."""
    reports: ReportConfig
    """How reports become tokens."""
    synthetic: SyntheticConfig
    """The data engine."""
    out: Path
    """Folder of the run; prepared volumes are kept in it."""


def open_studies(
    request: StudiesRequest, recipe: Recipe, stages: tuple[Stage, ...], model: Any, tokenizer: ReportTokenizer
) -> Studies:
    """The training set, refused early when it cannot feed this model; names the builder of what is missing."""
    requires = {name for stage in stages for name in stage.requires}
    size = recipe.image_size(model)
    if request.data == SYNTHETIC:
        return _open_synthetic(request.synthetic, requires, (size, recipe.patch_size(model)), tokenizer)
    if request.view.crop not in (None, size):
        raise ConfigError(
            f"The view cuts {request.view.crop} voxels, the model reads {size}. Set --view.crop or --model."
        )
    root, view = Path(request.data), replace(request.view, crop=size)
    rows = read_reports(root)
    images = open_images(root, rows, view, request.out / CACHE, "organ_mask" in requires)
    by_study = {row.study_id: row for row in rows}
    sources = recipe.fields(FieldContext(root, by_study, tokenizer, request.reports, view, model))
    offered = {"image", "organ_mask"} | {name for source in sources for name in source.fields}
    require_fields(requires, offered, recipe.builders)
    return RecipeStudies(images, sources, view)


def open_images(root: Path, rows: list[ReportRow], view: DataView, cache: Path, with_masks: bool) -> ImageSource:
    """The image source that a data folder holds."""
    return FolderImages(root, [row.study_id for row in rows], view, cache, with_masks)


def _open_synthetic(
    config: SyntheticConfig, requires: set[str], sizes: tuple[Size3, Size3], tokenizer: ReportTokenizer
) -> SyntheticStudies:
    """sizes: what the model reads and its patch."""
    if (config.crop, config.patch) != sizes:
        raise ConfigError(
            f"The synthetic studies have {config.crop} voxels in patches of {config.patch}, the model reads "
            f"{sizes[0]} in {sizes[1]}. Set --synthetic.crop and --synthetic.patch, or choose another preset."
        )
    studies = SyntheticStudies(config, tokenizer)
    require_fields(requires, studies.fields)
    return studies
