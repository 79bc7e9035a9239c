"""Synthetic CT with known millimetres, as arrays and as DICOM series, for the tests of reading and export."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LANDMARK_HU = 1500
Edit = Callable[[int, pydicom.Dataset], None]


def phantom_hu(shape: tuple[int, int, int] = (40, 36, 12), landmark: tuple[int, int, int] = (9, 25, 3)) -> np.ndarray:
    """(I, J, K) int16: noisy air, fat, soft tissue and lung in nested boxes, and one voxel of `LANDMARK_HU`."""
    rng = np.random.default_rng(7)
    hu = np.full(shape, -1000.0)
    i, j, _ = shape
    hu[i // 8 : -i // 8, j // 8 : -j // 8] = -100
    hu[i // 6 : -i // 6, j // 6 : -j // 6] = 40
    hu[i // 4 : i // 2, j // 4 : -j // 4] = -850
    hu += rng.normal(0, 8, shape)
    hu[landmark] = LANDMARK_HU
    return np.clip(np.rint(hu), -1024, 3000).astype(np.int16)


def axes_affine(axes: str, spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)) -> np.ndarray:
    """(4, 4) RAS+ affine whose array axes grow towards `axes`, with anisotropic spacing and an origin off zero."""
    affine = np.eye(4)
    for column, (letter, edge) in enumerate(zip(axes, spacing, strict=True)):
        row = next(n for n, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[:3, column] = 0
        affine[row, column] = edge if letter in "RAS" else -edge
    affine[:3, 3] = (11.0, -37.0, 150.0)
    return affine


def oblique_affine() -> np.ndarray:
    """Like `axes_affine("LPS")`, turned by 12 degrees about x and 7 about z."""
    a, b = np.radians(12), np.radians(7)
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = axes_affine("LPS")
    affine[:3, :3] = turn_z @ turn_x @ affine[:3, :3]
    return affine


def ct_slices(
    hu: np.ndarray, affine: np.ndarray, *, intercept: int = -1024, series: str = "", description: str = "Chest 2.5"
) -> list[pydicom.FileDataset]:
    """DICOM images of (column, row, slice) HU on a RAS+ affine, in the order of the array; unsigned, rescaled."""
    series = series or generate_uid()
    shared = {"study": generate_uid(), "frame": generate_uid()}
    return [_slice(hu[:, :, k], affine, k, intercept, (series, description, shared)) for k in range(hu.shape[2])]


def _slice(plane: np.ndarray, affine: np.ndarray, k: int, intercept: int, names: tuple) -> pydicom.FileDataset:
    series, description, shared = names
    lps = RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    ds = pydicom.FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, shared["study"], shared["frame"]
    ds.Modality, ds.SeriesDescription, ds.ImageType = "CT", description, ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom", "P1", "", ""
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = "", "", "", "1", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 1, 1000 - k, 1  # instance numbers run backwards
    ds.ImageOrientationPatient = [float(f"{v:.9f}") for v in (*lps[:3, 0] / spacing[0], *lps[:3, 1] / spacing[1])]
    ds.ImagePositionPatient = [float(f"{v:.6f}") for v in (lps @ [0, 0, k, 1])[:3]]
    ds.PixelSpacing, ds.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
    ds.Columns, ds.Rows = plane.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, intercept, "HU"
    ds.PixelData = (plane.T.astype(np.int32) - intercept).astype("<u2").tobytes()
    return ds


def write_slices(folder: Path, slices: list[pydicom.FileDataset], edit: Edit | None = None) -> Path:
    """Write images under names that sort in no useful order and have no ending; `edit` changes each one first."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(slices):
        if edit is not None:
            edit(number, ds)
        ds.save_as(folder / f"IM{(number * 7919) % 10007:05d}", enforce_file_format=True)
    return folder


def enhanced_ct(hu: np.ndarray, affine: np.ndarray) -> pydicom.FileDataset:
    """One Enhanced CT file of (column, row, slice) HU, its frames stored from last to first."""
    slices = ct_slices(hu, affine)[::-1]
    ds = slices[0]
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    shared, frames = pydicom.Dataset(), []
    shared.PixelMeasuresSequence = [_group(ds, "PixelSpacing", "SliceThickness")]
    shared.PlaneOrientationSequence = [_group(ds, "ImageOrientationPatient")]
    shared.PixelValueTransformationSequence = [_group(ds, "RescaleSlope", "RescaleIntercept", "RescaleType")]
    for one in slices:
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = [_group(one, "ImagePositionPatient")]
        frames.append(frame)
    pixels = b"".join(one.PixelData for one in slices)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        del ds[keyword]
    ds.NumberOfFrames, ds.PixelData = len(slices), pixels
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    return ds


def _group(ds: pydicom.Dataset, *keywords: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for keyword in keywords:
        item[keyword] = ds[keyword]
    return item
