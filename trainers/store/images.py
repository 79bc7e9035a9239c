"""A store as an image source: crops at the price of the chunks they touch."""

from collections.abc import Sequence

import numpy as np

from core.errors import ConfigError
from core.organ_map import find_organ_map
from trainers.crops import Crop, DataView, cut_crop
from trainers.store.layout import STRUCTURES
from trainers.store.reading import StudyStore

SUFFIXES = (".nii.gz", ".nii")


class StoreImages:
    """See `trainers.sources.ImageSource`. Studies are named with or without .nii.gz, as tables of reports do."""

    def __init__(self, store: StudyStore, study_ids: Sequence[str], view: DataView, with_masks: bool = True) -> None:
        self.store, self.study_ids, self.view, self.with_masks = store, tuple(study_ids), view, with_masks
        self._organs = sorted(frozenset().union(*find_organ_map(view.organ_map).numbers()))
        require_view(store, view)
        _require_studies(store, [bare_name(study_id) for study_id in study_ids], with_masks)

    def read(self, study_id: str, rng: np.random.Generator) -> Crop:
        """A crop drawn anew."""
        stored, view = bare_name(study_id), self.view
        masks = self.store.array(stored, STRUCTURES) if self.with_masks else None
        around = None
        if view.place == "organs":
            around = self.store.structure_box(stored, self._organs)
        return cut_crop(study_id, (self.store.array(stored), masks), view, rng, around)


def bare_name(study_id: str) -> str:
    """A study's name in the store: the file's without its ending."""
    for suffix in SUFFIXES:
        study_id = study_id.removesuffix(suffix)
    return study_id


def require_view(store: StudyStore, view: DataView) -> None:
    """Refuse a view that the store was not prepared for."""
    have = store.settings
    (low, high), (black, white) = have.window_hu, view.window_hu
    is_late = not view.clip_late or view.resample == "smooth" or (low < black and white < high)
    wrong = [
        f"{name} {found}, wanted {wanted}"
        for name, found, wanted, is_right in (
            ("spacing_mm", have.spacing_mm, view.spacing_mm, have.spacing_mm == tuple(view.spacing_mm)),
            ("resample", have.resample, view.resample, have.resample == view.resample),
            ("window_hu", have.window_hu, view.window_hu, low <= black and white <= high),
            ("window_hu", have.window_hu, f"more than {view.window_hu}, which are clipped late", is_late),
        )
        if not is_right
    ]
    if wrong:
        raise ConfigError(
            f"The store {store.root} was prepared for another view: {'; '.join(wrong)}. Prepare another store, or "
            "change --view."
        )


def _require_studies(store: StudyStore, stored: Sequence[str], with_masks: bool) -> None:
    known = set(store.study_ids)
    absent = [name for name in stored if name not in known]
    if absent:
        raise ConfigError(
            f"{len(absent)} of {len(stored)} studies are not in the store {store.root} (first: {absent[0]}). Prepare "
            "them, see failures.jsonl there for those that could not be, or take them out of the table of reports."
        )
    bare = [name for name in stored if not store.has_structures(name)] if with_masks else []
    if bare:
        raise ConfigError(
            f"{len(bare)} of {len(stored)} studies have no mask in the store {store.root} (first: {bare[0]}). Delete "
            "their folders and prepare them with --masks or --segmenter."
        )
