"""Zips: any format inside, nothing outside the folder, nothing left behind."""

import io
import stat
import tempfile
import zipfile

import nibabel as nib
import numpy as np
import pytest
from dicom_series import axes_affine, ct_slices, phantom_hu, write_slices

from core.errors import Cancelled, StudyError
from core.reading.limits import ReadLimits
from core.reading.study import list_series, open_study


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Temporary files go here, and none may be left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def nifti_file(path):
    nib.save(nib.Nifti1Image(phantom_hu(), axes_affine("PIR")), path)
    return path


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_of_a_nested_dicom_folder(tmp_path):
    folder = write_slices(tmp_path / "s", ct_slices(phantom_hu(), axes_affine("LPS")))
    members = {f"disk/a b/{p.name}": p.read_bytes() for p in folder.iterdir()}
    path = zip_of(
        tmp_path / "ct.zip", {**members, "__MACOSX/._x": b"junk", "disk/.DS_Store": b"", "AUTORUN.INF": b"[a]"}
    )
    study = open_study(path)
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), phantom_hu())


def test_a_zip_of_a_nifti_and_its_mask_opens_the_ct(tmp_path):
    nib.save(nib.Nifti1Image((phantom_hu() > 0).astype(np.uint8), axes_affine("PIR")), tmp_path / "mask.nii.gz")
    ct = nifti_file(tmp_path / "zz_ct.nii.gz")
    path = zip_of(tmp_path / "ct.zip", {p.name: p.read_bytes() for p in (tmp_path / "mask.nii.gz", ct)})
    assert open_study(path).receipt.source == ("zz_ct.nii.gz",)
    assert [row.id for row in list_series(path)] == ["zz_ct.nii.gz", "mask.nii.gz"]


@pytest.mark.parametrize("name", ["../evil.nii", "/etc/evil.nii", "a/../../evil.nii", "C:/evil.nii", "a\\..\\evil.nii"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    path = tmp_path / "ct.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"data")
    with pytest.raises(StudyError, match="unsafe name"):
        open_study(path)
    assert not (tmp_path.parent / "evil.nii").exists()


def test_links_are_refused(tmp_path):
    info = zipfile.ZipInfo("link.nii")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(StudyError, match="link or a device"):
        open_study(tmp_path / "ct.zip")


def test_a_password_is_named(tmp_path):
    path = zip_of(tmp_path / "ct.zip", {"ct.nii": nifti_file(tmp_path / "ct.nii").read_bytes()})
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    raw[6] |= 1
    path.write_bytes(raw)
    with pytest.raises(StudyError, match="protected by a password"):
        open_study(path)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ReadLimits(members=2), "holds 3 files"),
        (ReadLimits(unpacked_bytes=1000), "unpacks to"),
        (ReadLimits(upload_bytes=100), "larger than"),
        (ReadLimits(ratio=5, ratio_from_bytes=1000), "would grow"),
    ],
)
def test_limits(tmp_path, limits, words):
    path = zip_of(tmp_path / "ct.zip", {name: bytes(4000) for name in "abc"})
    with pytest.raises(StudyError, match=words):
        open_study(path, limits=limits)


def test_a_member_that_lies_about_its_size_is_stopped(tmp_path):
    path = zip_of(tmp_path / "ct.zip", {"ct.nii": bytes(2**20)})
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02") + 24
    raw[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(StudyError, match="cannot be unpacked"):
        open_study(path)


def test_a_zip_of_a_zip_is_refused_clearly(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("ct.nii", nifti_file(tmp_path / "ct.nii").read_bytes())
    with pytest.raises(StudyError, match="another zip inside"):
        open_study(zip_of(tmp_path / "outer.zip", {"inner.zip": inner.getvalue()}))


@pytest.mark.parametrize("members", [{}, {"notes.txt": b"hello"}, {"a.png": b"\x89PNG\r\n"}])
def test_a_zip_without_ct_says_so(tmp_path, members):
    with pytest.raises(StudyError, match=r"empty zip|no CT among"):
        open_study(zip_of(tmp_path / "ct.zip", members))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_zip_is_refused(tmp_path, share):
    path = zip_of(tmp_path / "ct.zip", {"ct.nii": nifti_file(tmp_path / "ct.nii").read_bytes()})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(StudyError, match="damaged"):
        open_study(path)


def test_cancelling_leaves_nothing(tmp_path):
    path = zip_of(tmp_path / "ct.zip", {"ct.nii": nifti_file(tmp_path / "ct.nii").read_bytes()})

    def stop(fraction, _message):
        if fraction > 0.4:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        open_study(path, progress=stop)


def test_a_name_that_comes_twice_is_refused(tmp_path):
    data = nifti_file(tmp_path / "ct.nii").read_bytes()
    path = tmp_path / "ct.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ct.nii", data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("ct.nii", data)
    with pytest.raises(StudyError, match="twice"):
        open_study(path)
