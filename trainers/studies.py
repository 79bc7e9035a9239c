"""The training set of a run: the data engine, or a folder's volumes, masks, reports and builders' files."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import ConfigError
from core.models.tokens import ReportTokenizer
from core.preprocess import Size3
from core.retrieval.table import ReportRow
from trainers.batches import Studies
from trainers.crops import DataView
from trainers.folder import CACHE, FolderImages
from trainers.recipes.recipe import FieldContext, Recipe
from trainers.report_tokens import REPORTS, ReportConfig, ReportTokens, read_report_table
from trainers.sources import ImageSource, RecipeStudies, require_fields
from trainers.splits import SPLITS, Split, SplitConfig, read_split, split_studies
from trainers.stage import Stage
from trainers.store.images import StoreImages
from trainers.store.layout import is_store
from trainers.store.reading import StudyStore
from trainers.synthetic import SyntheticConfig, SyntheticStudies, offered_fields

SYNTHETIC = "synthetic"
STORE = "store"
"""Name of the prepared store inside a data folder."""


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
    split: SplitConfig = field(default_factory=SplitConfig)
    """Which studies of a folder validate."""


class StudySets(NamedTuple):
    """The studies of a run."""

    train: Studies
    val: Studies | None  # seen without augmentation; None = nobody validates
    split: Split | None  # of a folder
    left_out: tuple[str, ...] = ()  # reports of the folder that cannot be used, and why


def open_studies(
    request: StudiesRequest, recipe: Recipe, stages: tuple[Stage, ...], model: Any, tokenizer: ReportTokenizer
) -> StudySets:
    """Training and validation set, refused early when they cannot feed this model by naming the builder to run."""
    requires = {name for stage in stages for name in stage.requires}
    size = recipe.image_size(model)
    if request.data == SYNTHETIC:
        studies = _open_synthetic(request.synthetic, requires, (size, recipe.patch_size(model)), tokenizer)
        return StudySets(studies, None, None)
    if request.view.crop not in (None, size):
        raise ConfigError(
            f"The view cuts {request.view.crop} voxels, the model reads {size}. Set --view.crop or --model."
        )
    root, view = Path(request.data), replace(request.view, crop=size)
    table = read_report_table(root)
    rows = {row.study_id: row for row in table.rows}
    kept = request.out / SPLITS
    split = read_split(kept, list(rows)) if kept.is_file() else split_studies(list(rows), request.split)
    sources = recipe.fields(FieldContext(root, rows, tokenizer, request.reports, view, model, request.out / CACHE))
    longest = recipe.longest_text(model)
    if request.reports.max_tokens > longest and any(isinstance(source, ReportTokens) for source in sources):
        raise ConfigError(
            f"Reports have up to {request.reports.max_tokens} tokens, the model reads {longest}. Set "
            f"--reports.max-tokens {longest}."
        )
    offered = {"image", "organ_mask"} | {name for source in sources for name in source.fields}
    require_fields(requires, offered, recipe.builders)
    sets = []
    for ids, seen in ((split.train, view), (split.val, replace(view, mirror_chance=0, flip_chance=0, offset_chance=0))):
        images = open_images(root, [rows[name] for name in ids], seen, request.out / CACHE, "organ_mask" in requires)
        sets.append(RecipeStudies(images, sources, seen) if ids else None)
    assert sets[0] is not None  # a split without anyone to train on is refused
    left_out = tuple(f"Line {row.line} of {REPORTS}, {row.study_id}: {row.reason}" for row in table.skipped)
    return StudySets(sets[0], sets[1], split, left_out)


def open_images(root: Path, rows: list[ReportRow], view: DataView, cache: Path, with_masks: bool) -> ImageSource:
    """The image source that a data folder holds: its store where trainers.prepare made one, else its volumes."""
    ids = [row.study_id for row in rows]
    if is_store(root / STORE):
        return StoreImages(StudyStore(root / STORE), ids, view, with_masks)
    return FolderImages(root, ids, view, cache, with_masks)


def _open_synthetic(
    config: SyntheticConfig, requires: set[str], sizes: tuple[Size3, Size3], tokenizer: ReportTokenizer
) -> SyntheticStudies:
    """sizes: what the model reads and its patch."""
    absent = sorted(requires - set(offered_fields(config)))
    if absent:
        raise ConfigError(
            f"The data engine has no {', '.join(absent)}, which this recipe reads. Give a folder with --data FOLDER, "
            "such as one of trainers.synthetic_folder."
        )
    if (config.crop, config.patch) != sizes:
        raise ConfigError(
            f"The synthetic studies have {config.crop} voxels in patches of {config.patch}, the model reads "
            f"{sizes[0]} in {sizes[1]}. Set --synthetic.crop and --synthetic.patch, or choose another preset."
        )
    return SyntheticStudies(config, tokenizer)
