"""Garbage, truncation and flipped bytes: a StudyError or a CT, never anything else."""

import os
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import axes_affine, ct_slices, enhanced_ct, phantom_hu, write_slices

from core.errors import StudyError
from core.reading.study import open_study

HU = phantom_hu((16, 14, 6), (5, 8, 3))


def make_sample(folder: Path, kind: str) -> Path:
    path = folder / f"ct.{kind}"
    if kind in ("nii", "nii.gz"):
        nib.save(nib.Nifti1Image(HU, axes_affine("LPS")), path)
    elif kind in ("nrrd", "mha"):
        sitk.WriteImage(sitk.GetImageFromArray(HU.T.copy()), str(path), True)
    elif kind == "enhanced":
        path = next(write_slices(folder / "e", [enhanced_ct(HU, axes_affine("LPS"))]).iterdir())
    else:
        slices = write_slices(folder / "s", ct_slices(HU, axes_affine("LPS")))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in slices.iterdir():
                archive.write(file, file.name)
    return path


def damaged_copies(raw: bytes, rng: np.random.Generator):
    for _ in range(12):
        yield raw[: rng.integers(0, len(raw))]
    for _ in range(30):
        data = bytearray(raw)
        for at in rng.integers(0, min(len(raw), rng.choice([200, 1500, len(raw)])), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        yield bytes(data)
    start = rng.integers(0, len(raw) // 2)
    yield raw[start:]
    yield raw[: len(raw) // 2] + rng.bytes(len(raw) // 2)


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "nrrd", "mha", "zip", "enhanced"])
def test_only_study_errors_escape(tmp_path, kind):
    sample = make_sample(tmp_path, kind)
    rng = np.random.default_rng(11)
    refused = 0
    for raw in damaged_copies(sample.read_bytes(), rng):
        sample.write_bytes(raw)
        try:
            open_study(sample)
        except StudyError as error:
            refused += len(str(error)) > 20
    assert refused >= 12  # at least every truncation


@pytest.mark.parametrize("kept", [0, 3, 128, 132, 200, 400, 700, 1000])
def test_a_slice_cut_off_anywhere(tmp_path, kept):
    folder = write_slices(tmp_path, ct_slices(HU, axes_affine("LPS")))
    one = sorted(folder.iterdir())[2]
    one.write_bytes(one.read_bytes()[:kept])
    with pytest.raises(StudyError):
        open_study(folder)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"hello, this is a letter", "unknown kind"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "a JPEG picture"),
        (b"%PDF-1.7", "a PDF document"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"<html>", "a text file"),
    ],
)
def test_what_is_no_image_volume_is_named(tmp_path, data, words):
    (tmp_path / "thing.nii.gz").write_bytes(data)
    with pytest.raises(StudyError, match=words):
        open_study(tmp_path / "thing.nii.gz")


def test_random_bytes_are_refused(tmp_path):
    rng = np.random.default_rng(3)
    for size in (1, 10, 348, 352, 4000):
        for _ in range(5):
            (tmp_path / "x").write_bytes(rng.bytes(size))
            with pytest.raises(StudyError):
                open_study(tmp_path / "x")


def test_a_missing_path_and_an_empty_folder(tmp_path):
    with pytest.raises(StudyError, match="does not exist"):
        open_study(tmp_path / "nothing.nii")
    with pytest.raises(StudyError, match="no CT in an empty folder"):
        open_study(tmp_path)


def test_what_is_neither_file_nor_folder_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    with pytest.raises(StudyError, match="neither a file nor a folder"):
        open_study(tmp_path / "pipe.nii.gz")


def test_slices_without_pixels_are_named(tmp_path):
    def edit(_number, ds):
        del ds.PixelData

    with pytest.raises(StudyError, match="there are none"):
        open_study(write_slices(tmp_path, ct_slices(HU, axes_affine("LPS")), edit))
