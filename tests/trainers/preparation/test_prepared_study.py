import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_tree import BLOCK_HU, SHAPE, a_ct, block_centre, block_mask, save_nifti
from dicom_series import axes_affine, oblique_affine
from safetensors.numpy import load_file

from core.errors import StudyError
from core.preprocess import Size3
from core.structures import BY_NAME
from core.volume import Grid
from trainers.preparation.metadata import HeaderRow
from trainers.preparation.study import StudyOptions, prepare_study, read_scan, resample_scan
from trainers.preparation.tree import Job
from trainers.store.layout import StoreSettings
from trainers.store.writing import PreparedStudy

HEART = BY_NAME["heart"].number
FIXTURES = Path(os.environ.get("ASAP_FIXTURES", Path(__file__).resolve().parents[4] / "shared" / "fixtures"))
GOLDEN = FIXTURES / "asap_preprocess"


def options(resample="smooth", **changes) -> StudyOptions:
    return StudyOptions(StoreSettings(resample=resample), **changes)


def centre_of(inside: np.ndarray, grid: Grid, weights: np.ndarray | None = None) -> np.ndarray:
    """Patient mm of the middle of the True voxels."""
    found = grid.to_mm(np.argwhere(inside))
    return np.average(found, axis=0, weights=None if weights is None else weights[inside])


def prepared(tmp_path: Path, affine: np.ndarray, chosen: StudyOptions, mask: bool = True) -> PreparedStudy:
    volume = save_nifti(tmp_path / "ct.nii.gz", a_ct(), affine)
    label = save_nifti(tmp_path / "mask.nii.gz", block_mask(HEART), affine) if mask else None
    return prepare_study(Job("ct", volume, "ct.nii.gz", label), chosen)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAR", "ILA", "oblique"])
@pytest.mark.parametrize("resample", ["smooth", "as_released"])
def test_a_landmark_and_its_mask_stay_at_their_millimetre(tmp_path, axes, resample):
    affine = oblique_affine() if axes == "oblique" else axes_affine(axes)
    study = prepared(tmp_path, affine, options(resample))
    assert study.grid.orientation == "RAS"
    assert study.hu.dtype == np.int16
    np.testing.assert_allclose(study.grid.spacing_mm, (1.5, 1.5, 3.0), rtol=0.1)
    bright = np.clip(study.hu.astype(float) - 300, 0, None)
    np.testing.assert_allclose(centre_of(bright > 0, study.grid, bright), block_centre(affine), atol=0.35)
    np.testing.assert_allclose(centre_of(study.structures == HEART, study.grid), block_centre(affine), atol=0.8)
    assert set(np.unique(study.structures)) == {0, HEART}  # never a mixture of two numbers


@pytest.mark.parametrize("resample", ["smooth", "as_released"])
def test_two_orientations_of_one_patient_become_the_same_study(tmp_path, resample):
    """The same voxels, turned: nothing but the order in the file differs."""
    image = nib.Nifti1Image(a_ct(), axes_affine("RAS"))
    one = prepared(tmp_path, axes_affine("RAS"), options(resample))
    for axes in ("LPS", "PIR"):
        turned = image.as_reoriented(
            nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
        )
        volume = save_nifti(tmp_path / f"{axes}.nii.gz", np.asanyarray(turned.dataobj), turned.affine)
        other = prepare_study(Job("x", volume, "x"), options(resample))
        assert np.abs(other.hu.astype(int) - one.hu).max() <= 1
        np.testing.assert_allclose(other.grid.affine, one.grid.affine, atol=1e-4)


def test_the_released_way_equals_the_published_step():
    if not GOLDEN.is_dir():
        pytest.skip(f"golden numbers {GOLDEN} are absent (set ASAP_FIXTURES)")
    about = json.loads((GOLDEN / "preprocess.json").read_text())
    expected = load_file(GOLDEN / about["files"]["expected"])
    for name, case in about["cases"].items():
        got, _ = resample_scan(read_scan(GOLDEN / case["file"]), StoreSettings(resample="as_released"))
        wanted = expected[f"{name}.expected"]
        assert got.shape == tuple(case["output_shape"])
        gap = np.abs(got.astype(int) - wanted)
        assert gap.max() <= 1
        assert (gap > 0).mean() <= 0.001, name


def test_spacing_and_window_are_the_stores(tmp_path):
    settings = StoreSettings(spacing_mm=(1.0, 1.0, 3.0), window_hu=(-1150.0, 350.0))
    study = prepared(tmp_path, axes_affine("LPS"), StudyOptions(settings))
    np.testing.assert_allclose(study.grid.spacing_mm, (1.0, 1.0, 3.0))
    assert study.hu.max() == 350
    assert study.hu.min() < -1000


def test_a_window_as_wide_as_the_type_keeps_every_value(tmp_path):
    wide = StudyOptions(StoreSettings((0.7, 0.8, 2.5), (-32768, 32767)))
    hu = a_ct()
    hu[0, 0, 0] = 3000
    volume = save_nifti(tmp_path / "ct.nii.gz", hu, axes_affine("RAS"))
    assert prepare_study(Job("ct", volume, "ct"), wide).hu.max() == 3000


def test_a_mask_on_the_prepared_grid_is_taken_as_it_is(tmp_path):
    """As ASAP's published masks are: the shape of the prepared CT, and an affine without a place."""
    bare = prepared(tmp_path, axes_affine("LPS"), options("as_released"), mask=False)
    labels = np.zeros(bare.hu.shape, np.uint8)
    labels[2:5, 6:9, 1:4] = 1
    mask = save_nifti(tmp_path / "small.nii.gz", labels, np.diag([1.5, 1.5, 3.0, 1.0]))
    (tmp_path / "names.json").write_text('{"1": "heart"}')
    job = Job("ct", tmp_path / "ct.nii.gz", "ct", mask)
    study = prepare_study(job, options("as_released", mask_names=tmp_path / "names.json"))
    np.testing.assert_array_equal(study.structures, labels * HEART)


def test_a_mask_elsewhere_is_refused(tmp_path):
    volume = save_nifti(tmp_path / "ct.nii.gz", a_ct(), axes_affine("LPS"))
    moved = axes_affine("LPS")
    moved[0, 3] += 5
    mask = save_nifti(tmp_path / "mask.nii.gz", block_mask(HEART), moved)
    with pytest.raises(StudyError, match="Expected a mask on the CT's own grid"):
        prepare_study(Job("ct", volume, "ct", mask), options())


def test_a_folder_of_one_file_per_structure_becomes_one_mask(tmp_path):
    affine = axes_affine("LPS")
    volume = save_nifti(tmp_path / "ct.nii.gz", a_ct(), affine)
    save_nifti(tmp_path / "masks/ct/heart.nii.gz", block_mask(1), affine)
    liver = np.zeros(SHAPE, np.uint8)
    liver[40:50, 10:20, 2:10] = 1
    save_nifti(tmp_path / "masks/ct/liver.nii.gz", liver, affine)
    study = prepare_study(Job("ct", volume, "ct", tmp_path / "masks/ct"), options())
    assert set(np.unique(study.structures)) == {0, HEART, BY_NAME["liver"].number}
    np.testing.assert_allclose(centre_of(study.structures == HEART, study.grid), block_centre(affine), atol=0.8)


def raw_ct(tmp_path: Path, intercept: int = -1024) -> Path:
    """The same CT as CT-RATE first published it: stored values, nothing in the header."""
    blank = np.diag([-1.0, -1.0, 1.0, 1.0])
    return save_nifti(tmp_path / "raw.nii.gz", (a_ct().astype(int) - intercept).astype(np.int16), blank)


def header_row(affine: np.ndarray, intercept: float = -1024.0) -> HeaderRow:
    """What the metadata table says of a CT with this RAS+ affine."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    edges = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = lps[:3, :3] / edges
    x, y, z = edges
    return HeaderRow(1.0, intercept, (x, y, z), tuple(cosines[:, :2].T.ravel()), tuple(lps[:3, 3]))


@pytest.mark.parametrize("axes", ["LPS", "LAI", "oblique"])
@pytest.mark.parametrize("intercept", [-1024, -8192])
def test_a_blank_header_is_mended_from_the_table(tmp_path, axes, intercept):
    affine = oblique_affine() if axes == "oblique" else axes_affine(axes)
    whole = prepared(tmp_path, affine, options(), mask=False)
    row = header_row(affine, intercept)
    mended = prepare_study(Job("raw", raw_ct(tmp_path, intercept), "raw", None, row), options())
    np.testing.assert_allclose(mended.grid.affine, whole.grid.affine, atol=1e-3)
    assert np.abs(mended.hu.astype(int) - whole.hu).max() <= 1
    assert len(mended.facts["mended"]) == 2
    assert mended.hu.max() > 0.9 * BLOCK_HU


def test_a_mask_of_a_blank_ct_goes_where_the_table_says(tmp_path):
    affine = axes_affine("LPS")
    mask = save_nifti(tmp_path / "mask.nii.gz", block_mask(HEART), np.diag([-1.0, -1.0, 1.0, 1.0]))
    study = prepare_study(Job("raw", raw_ct(tmp_path), "raw", mask, header_row(affine)), options())
    np.testing.assert_allclose(centre_of(study.structures == HEART, study.grid), block_centre(affine), atol=0.8)


def test_a_mended_file_is_not_rescaled_again(tmp_path):
    affine = axes_affine("LPS")
    volume = save_nifti(tmp_path / "ct.nii.gz", a_ct(), affine)
    plain = prepare_study(Job("ct", volume, "ct"), options())
    told = prepare_study(Job("ct", volume, "ct", None, header_row(affine)), options())
    np.testing.assert_array_equal(told.hu, plain.hu)
    assert told.facts["mended"] == ()


def test_a_good_place_with_stored_values_is_rescaled(tmp_path):
    affine = axes_affine("LPS")
    volume = save_nifti(tmp_path / "ct.nii.gz", (a_ct().astype(int) + 1024).astype(np.int16), affine)
    with pytest.raises(StudyError, match="look unscaled"):
        prepare_study(Job("ct", volume, "ct"), options())
    for chosen, row in ((options(), header_row(affine)), (options(mend_hu=True), None)):
        study = prepare_study(Job("ct", volume, "ct", None, row), chosen)
        assert study.hu.max() > 0.9 * BLOCK_HU
        assert study.hu.min() < -900


def test_header_and_table_that_contradict_each_other_are_refused(tmp_path):
    volume = save_nifti(tmp_path / "ct.nii.gz", a_ct(), axes_affine("LPS"))
    row = header_row(axes_affine("LPS", (0.9, 0.8, 2.5)))
    with pytest.raises(StudyError, match=r"the header has voxels of 0.7 x 0.8 x 2.5 mm, the metadata table 0.9"):
        prepare_study(Job("ct", volume, "ct", None, row), options())


def test_a_blank_header_without_a_row_is_refused(tmp_path):
    with pytest.raises(StudyError, match="the header is blank"):
        prepare_study(Job("raw", raw_ct(tmp_path), "raw"), options())


def test_a_real_scan_of_one_millimetre_is_not_taken_for_blank(tmp_path):
    affine = axes_affine("LPS", (1.0, 1.0, 1.0))
    study = prepared(tmp_path, affine, options(), mask=False)
    np.testing.assert_allclose(study.grid.spacing_mm, (1.5, 1.5, 3.0))


def broken(kind: str, tmp_path: Path) -> Path:
    hu, affine = a_ct().astype(np.float32), axes_affine("LPS")
    if kind == "nan":
        hu[3, 3, 3] = np.nan
    if kind == "four_d":
        hu = np.stack([hu, hu], axis=-1)
    if kind == "empty":
        hu[:] = 0
    if kind == "mask":
        hu = block_mask(HEART).astype(np.float32)
    path = save_nifti(tmp_path / "ct.nii.gz", hu, affine)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if kind == "text":
        path.write_text("not an image")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "NaN or infinite"),
        ("four_d", "has 4 dimensions"),
        ("truncated", "truncated or damaged"),
        ("text", "an unknown kind of file"),
        ("empty", "the volume is empty"),
        ("mask", "a mask or a normalised image"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path, kind, reason):
    with pytest.raises(StudyError, match=reason):
        prepare_study(Job("ct", broken(kind, tmp_path), "ct"), options())


def test_a_thin_scan_is_prepared_all_the_same(tmp_path):
    affine = axes_affine("LPS")
    volume = save_nifti(tmp_path / "ct.nii.gz", np.ascontiguousarray(a_ct()[:, :, 12:16]), affine)
    study = prepare_study(Job("ct", volume, "ct"), options())
    size: Size3 = (28, 37, 3)
    assert study.hu.shape == size


def test_an_engine_finds_organs_where_there_is_no_mask(tmp_path):
    sample = Path(__file__).resolve().parents[3] / "assets/sample/lidc-idri-0001"
    job = Job("s", sample / "ct.nii.gz", "s")
    study = prepare_study(job, options(segmenter="embedded"))
    assert study.facts["organs"] == "embedded"
    assert study.structures.shape == study.hu.shape
    lungs = np.isin(study.structures, [BY_NAME[f"lung_lower_lobe_{side}"].number for side in ("left", "right")])
    assert study.hu[lungs].mean() < -600
