"""Cases from lists like ReXGroundingCT's (arXiv 2507.22030): one segmentation a CT, one channel or label a finding.

Its segmentations are 4-D, findings first, in the voxel order of CT-RATE's files, and their affine is the identity: they
do not say where they lie. Such a file is taken in the order of the CT where shapes agree; a file that does say where it
lies has to lie on the CT.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import AsapError, ConfigError, StudyError
from core.volume import Grid, Volume
from trainers.grounding.cases import UNNAMED, Problem, Sentence, read_as_page
from trainers.grounding.listed import ListedCase, ListedSentence
from trainers.grounding.manifest import Found
from trainers.grounding.masks import is_without_place, open_nifti, place_on, read_values, require_grid

MASK_FOLDER = "segmentations"
CATEGORIES = {
    "1a": "Peribronchial thickening",
    "1b": "Bronchiectasis",
    "1c": "Emphysema",
    "1d": "Interlobular septal thickening",
    "1e": "micronodules",
    "1f": "other non-focal",
    "2a": "linear opacity",
    "2b": "atelectasis or consolidation",
    "2c": "Lung opacity",
    "2d": "nodule or mass",
    "2e": "pleural effusion or thickening",
    "2f": "honeycombing",
    "2g": "pneumothorax",
    "2h": "other focal",
}
"""The set's codes, in this project's words, for findings that the report parser cannot name."""
Item = Mapping[str, Any]


class ChannelMask(NamedTuple):
    """One finding of a segmentation of several."""

    path: Path
    number: int  # from 0
    findings: int  # of the CT

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its file."""
        return (self.path,)

    def check(self, ct: Grid | None) -> None:
        """StudyError for a missing file, or one that is not the CT's with one channel or label a finding."""
        image = open_nifti(self.path)
        if ct is not None:
            shape = tuple(int(n) for n in image.shape)
            axis = self._channel_axis(shape, ct)
            self._is_as_stored(_without(shape, axis), np.asarray(image.affine, np.float64), axis, ct)

    def read(self, volume: Volume) -> np.ndarray:
        """(X, Y, Z) bool on the CT's RAS grid. StudyError where the file does not fit the CT or the list."""
        values, affine = read_values(self.path)
        axis = self._channel_axis(values.shape, volume.source)
        # in a channel each value is one of the finding's places
        mask = self._labelled(values) if axis is None else np.take(values, self.number, axis=axis) > 0
        if self._is_as_stored(mask.shape, affine, axis, volume.source):
            return volume.from_source_array(mask)
        return place_on(volume, mask, affine, self.path.name)

    def _labelled(self, values: np.ndarray) -> np.ndarray:
        if self.findings == 1:
            return values > 0
        most = int(values.max())
        if most > self.findings:
            raise StudyError(
                f"{self.path.name} has labels up to {most}, the list {self.findings} findings; expected label 1 for "
                "the first finding, 2 for the second, and so on."
            )
        return values == self.number + 1

    def _channel_axis(self, found: tuple[int, ...], ct: Grid) -> int | None:
        """Which axis counts the findings; None for one 3-D label map."""
        fitting: list[int | None] = [
            axis
            for axis in (0, 3)
            if len(found) == 4 and found[axis] == self.findings and sorted(_without(found, axis)) == sorted(ct.shape)
        ]
        if len(found) == 3:
            fitting = [None]
        if len(fitting) != 1:
            raise StudyError(f"{self.path.name} has shape {found}; {self._expected(ct)}.")
        return fitting[0]

    def _is_as_stored(self, shape: tuple[int, ...], affine: np.ndarray, axis: int | None, ct: Grid) -> bool:
        """Whether a finding's voxels come in the order of the CT's file; False: turned, but of the same grid."""
        is_placed_by_ct = axis == 0 and np.allclose(affine, ct.affine, atol=1e-3)
        if not is_without_place(affine) and not is_placed_by_ct:
            require_grid(Grid((shape[0], shape[1], shape[2]), affine), ct, self.path.name)
            return False
        if shape != tuple(ct.shape):
            is_turned = sorted(shape) == sorted(ct.shape)
            hint = " Its axes are in another order: turn them to the CT's." if is_turned else ""
            raise StudyError(f"{self.path.name} has {shape} voxels a finding; {self._expected(ct)}.{hint}")
        return True

    def _expected(self, ct: Grid) -> str:
        return (
            f"expected {(self.findings, *ct.shape)}, one channel for each of {self.findings} findings on the CT's "
            f"{tuple(ct.shape)} voxels, or one label map"
        )


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """A shape without one of its axes."""
    return tuple(int(n) for place, n in enumerate(shape) if place != axis)


def is_rex_list(told: object) -> bool:
    """Whether a JSON document lists CTs with "name" and "findings", by split or not."""
    items = _items(told, "")
    return bool(items) and all(isinstance(one, dict) and {"name", "findings"} <= one.keys() for one in items)


def _items(told: object, split: str) -> list[Any]:
    if isinstance(told, list):
        return told
    if not isinstance(told, dict) or not all(isinstance(part, list) for part in told.values()):
        return []
    return [one for name, part in told.items() if split in ("", name) for one in part]


def read_rex_list(told: object, folder: Path, ct_root: Path | None, mask_root: Path | None, split: str = "") -> Found:
    """Cases of a list; masks lie in `mask_root` (else `folder`/segmentations), CTs in `ct_root` (else `folder`).

    CTs are looked for by name, and in CT-RATE's folders (train_fixed/train_1/train_1_a/train_1_a_1.nii.gz). split:
    "" = all. ConfigError for an unknown split.
    """
    items = _items(told, split)
    if not items:
        known = ", ".join(told) if isinstance(told, dict) else "none"
        raise ConfigError(f"The list has no split {split!r}; expected one of: {known}.")
    masks = mask_root or folder / MASK_FOLDER
    cases, problems = [], list[Problem]()
    for item in items:
        try:
            cases.append(_read_item(item, ct_root or folder, masks, problems))
        except AsapError as error:
            problems.append(Problem(str(item["name"]), "", str(error)))
    return cases, problems


def _read_item(item: Item, ct_root: Path, masks: Path, problems: list[Problem]) -> ListedCase:
    name = str(item["name"])
    file = name if name.endswith((".nii", ".nii.gz")) else f"{name}.nii.gz"
    findings, stem = item["findings"], file.removesuffix(".gz").removesuffix(".nii")
    if not isinstance(findings, dict) or sorted(findings) != sorted(str(n) for n in range(len(findings))):
        raise ConfigError(f"findings is {str(findings)[:60]}; expected an object with the keys 0, 1, 2 and so on.")
    sentences = []
    for key in sorted(findings, key=int):
        try:
            sentence = _sentence(str(findings[key]), str(item.get("categories", {}).get(key, "")))
            sentences.append(ListedSentence(sentence, ChannelMask(masks / file, int(key), len(findings))))
        except AsapError as error:
            problems.append(Problem(stem, str(findings[key]), str(error)))
    return ListedCase(stem, patient_of(stem), find_ct(file, ct_root), tuple(sentences))


def _sentence(text: str, category: str) -> Sentence:
    sentence = read_as_page(text)
    named = CATEGORIES.get(category) if sentence.finding == UNNAMED else None
    return sentence._replace(finding=named) if named else sentence


def patient_of(stem: str) -> str:
    """CT-RATE's patient: train_1741_b_2 -> train_1741; other names are patients of their own."""
    parts = stem.split("_")
    return "_".join(parts[:2]) if len(parts) == 4 and parts[0] in ("train", "valid") else stem


def find_ct(file: str, root: Path) -> Path:
    """The CT by its file name; StudyError where it is not below `root`."""
    patient, scan = patient_of(file.split(".")[0]), "_".join(file.split("_")[:3])
    split = file.split("_")[0]
    nested = [Path(f"{split}{ending}") / patient / scan / file for ending in ("", "_fixed")]
    for path in (Path(file), *nested, *(Path("dataset") / place for place in nested)):
        if (root / path).is_file():
            return root / path
    raise StudyError(f"The CT {file} is not in {root}, nor in CT-RATE's folders below it. Give --ct-root.")
