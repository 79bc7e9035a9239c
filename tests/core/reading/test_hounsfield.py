"""The verdict on the HU scale, on phantoms and on real CT made wrong in the usual ways."""

import numpy as np
import pytest
from dicom_series import phantom_hu

from core.errors import StudyError
from core.reading.hounsfield import judge_hounsfield
from core.reading.study import open_study


@pytest.mark.parametrize(
    ("change", "kind", "correction"),
    [
        (lambda hu: hu, "plausible", 0),
        (lambda hu: hu + 1024, "unscaled", -1024),
        (lambda hu: hu + 8192, "unscaled", -8192),
        (lambda hu: hu - 1024, "double_scaled", 1024),
        (lambda hu: hu - 8192, "double_scaled", 8192),
        (lambda hu: (np.clip(hu, -1000, 500) + 1000) * 255 // 1500, "eight_bit", 0),
        (lambda hu: np.clip(hu, -1000, 500) + 1000 - 20, "unscaled", -1024),
        (lambda hu: np.abs(hu) // 2 + 300, "not_hu", 0),
    ],
)
def test_the_usual_mistakes_are_told_apart(change, kind, correction):
    values = change(phantom_hu((60, 60, 20)).astype(np.int32)).astype(np.int16)
    verdict = judge_hounsfield(values)
    assert (verdict.kind, verdict.correction_hu) == (kind, correction)
    assert verdict.is_plausible == (verdict.message == "")


def test_padding_does_not_hide_a_missing_rescale():
    values = phantom_hu((60, 60, 20)) + 1024
    values[:5] = -2000
    assert judge_hounsfield(values).kind == "unscaled"


def test_constant_and_mask_like_volumes_are_refused():
    with pytest.raises(StudyError, match="empty"):
        judge_hounsfield(np.full((4, 4, 4), -1024, np.int16))
    with pytest.raises(StudyError, match="a mask"):
        judge_hounsfield((np.arange(64).reshape(4, 4, 4) % 30).astype(np.int16))


@pytest.mark.real_ct
@pytest.mark.parametrize(
    "name",
    [
        "LIDC-IDRI-0002/ct_2mm",
        "pyradiomics_lung2/ct_2mm",
        "LUNG1-001/ct_2mm",
        "TS_aorta/ct_cropped",
        "TS_abdomen/example_ct",
    ],
)
def test_real_ct_is_plausible_and_its_mistakes_are_found(shared, name):
    study = open_study(shared / "data/ct" / f"{name}.nii.gz")
    assert study.receipt.hu_verdict.is_plausible
    hu = study.volume.hu[:, :, ::4].astype(np.int32)
    assert judge_hounsfield((hu + 1024).astype(np.int16)).correction_hu == -1024
    assert judge_hounsfield((hu - 1024).astype(np.int16)).kind in ("double_scaled", "not_hu")
    grey = (np.clip(hu, -1350, 150) + 1350) * 255 // 1500
    assert judge_hounsfield(grey.astype(np.int16)).kind == "eight_bit"
