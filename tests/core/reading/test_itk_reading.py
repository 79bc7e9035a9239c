"""NRRD and MetaImage: geometry as SimpleITK writes it, and what MetaIO would let pass."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import LANDMARK_HU, RAS_TO_LPS, axes_affine, oblique_affine, phantom_hu

from core.errors import StudyError
from core.reading.study import open_study

LANDMARK = (9, 25, 3)


def save(path, array, affine=None, packed=False):
    lps = RAS_TO_LPS @ (axes_affine("LPS") if affine is None else affine)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), packed)
    return path


@pytest.mark.parametrize("ending", ["nrrd", "mha", "mhd"])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "oblique"])
@pytest.mark.parametrize("packed", [True, False])
def test_landmark_stays_at_its_place_in_the_patient(tmp_path, ending, axes, packed):
    affine = oblique_affine() if axes == "oblique" else axes_affine(axes)
    study = open_study(save(tmp_path / f"ct.{ending}", phantom_hu(), affine, packed))
    found = np.argwhere(study.volume.hu == LANDMARK_HU)
    np.testing.assert_allclose(study.volume.grid.to_mm(found), [(affine @ [*LANDMARK, 1])[:3]], atol=1e-3)
    assert study.receipt.warnings == ()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_every_number_type_gives_the_same_hu(tmp_path, dtype):
    hu = phantom_hu().clip(0 if np.dtype(dtype).kind == "u" else -1024)
    study = open_study(save(tmp_path / "ct.mha", hu.astype(dtype)))
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), hu)


@pytest.mark.parametrize("ending", ["nrrd", "mha", "mhd"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, ending, packed, share):
    """MetaIO fills the rest of a truncated .mha with whatever is in memory, and says nothing."""
    path = save(tmp_path / f"ct.{ending}", phantom_hu(), packed=packed)
    data = next((p for p in tmp_path.iterdir() if p != path), path)
    data.write_bytes(data.read_bytes()[: int(data.stat().st_size * share)])
    with pytest.raises(StudyError, match=r"truncated|damaged"):
        open_study(path)


def test_a_header_that_points_elsewhere_is_refused(tmp_path):
    """Else a .mhd handed in could read any file of the server."""
    (tmp_path / "inside").mkdir()
    path = save(tmp_path / "inside" / "ct.mhd", phantom_hu())
    (tmp_path / "inside" / "ct.raw").rename(tmp_path / "ct.raw")
    for target in ("../ct.raw", str(tmp_path / "ct.raw"), "LIST", "..\\ct.raw"):
        text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("ElementDataFile"))
        path.write_text(f"{text}\nElementDataFile = {target}\n")
        with pytest.raises(StudyError, match="points to its voxels"):
            open_study(path)


def test_a_mhd_without_its_raw_asks_for_it(tmp_path):
    path = save(tmp_path / "ct.mhd", phantom_hu())
    (tmp_path / "ct.raw").unlink()
    with pytest.raises(StudyError, match=r"needs its voxels in ct\.raw"):
        open_study(path)


def test_nrrd_without_a_space_is_warned_of(tmp_path):
    hu = phantom_hu()
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 40 36 12\nspacings: 0.7 0.8 2.5\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "ct.nrrd").write_bytes(head.encode() + hu.tobytes(order="F"))
    study = open_study(tmp_path / "ct.nrrd")
    assert any("left and right" in line for line in study.receipt.warnings)
    assert study.receipt.spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_nrrd_in_metres_becomes_millimetres(tmp_path):
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 40 36 12\nendian: little\n"
        "space directions: (0.0007,0,0) (0,0.0008,0) (0,0,0.0025)\nspace origin: (0,0,0)\n"
        'space units: "m" "m" "m"\nencoding: raw\n\n'
    )
    (tmp_path / "ct.nrrd").write_bytes(head.encode() + phantom_hu().tobytes(order="F"))
    assert open_study(tmp_path / "ct.nrrd").receipt.spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_colour_and_time_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 8, 8, 3), np.uint8), isVector=True), str(tmp_path / "rgb.nrrd"))
    with pytest.raises(StudyError, match="3 values per voxel"):
        open_study(tmp_path / "rgb.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 8, 8), np.int16), isVector=False), str(tmp_path / "4d.nrrd"))
    with pytest.raises(StudyError, match="4 dimensions"):
        open_study(tmp_path / "4d.nrrd")
