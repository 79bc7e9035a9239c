"""Unpacking a zip that a stranger made: nothing outside the folder, nothing larger than promised, nothing left over."""

import lzma
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from core.errors import StudyError
from core.progress import Progress, silent
from core.reading.limits import ReadLimits

CHUNK = 2**20
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    OSError,
    NotImplementedError,
    RuntimeError,
    LookupError,
    OverflowError,
)
"""What the zip module raises on damaged or unusual archives."""


@contextmanager
def unpacked(path: Path, limits: ReadLimits, progress: Progress = silent) -> Iterator[Path]:
    """A temporary folder with the members of the zip at `path`; removed on leaving, also after an error."""
    with tempfile.TemporaryDirectory(prefix="study-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _unpack(path, folder, limits, progress)
        yield folder


def _unpack(path: Path, folder: Path, limits: ReadLimits, progress: Progress) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not _is_clutter(info)]
            _require_safe(path.name, members, folder, limits)
            total, done = max(1, sum(info.file_size for info in members)), 0
            for info in members:
                done += _unpack_member(archive, info, folder)
                progress(done / total, f"Unpacking {path.name}")
    except ZIP_DAMAGE as error:
        raise StudyError(
            f"{path.name} cannot be unpacked ({error}). It is truncated or damaged: zip the CT again."
        ) from error


def _is_clutter(info: zipfile.ZipInfo) -> bool:
    """Folders, and what macOS and Windows add by themselves."""
    name = PurePosixPath(info.filename)
    return info.is_dir() or "__MACOSX" in name.parts or name.name in (".DS_Store", "Thumbs.db", "desktop.ini")


def _require_safe(name: str, members: list[zipfile.ZipInfo], folder: Path, limits: ReadLimits) -> None:
    if not members:
        raise StudyError(f"{name} is an empty zip. Expected a CT in it: zip the folder again.")
    if len(members) > limits.members:
        raise StudyError(f"{name} holds {len(members)} files; at most {limits.members} are read. Zip one series only.")
    seen: set[str] = set()
    for info in members:
        _require_safe_member(name, info, limits)
        if info.filename in seen:
            raise StudyError(f"{name} holds {info.filename!r} twice. Expected one file of each name: zip it again.")
        seen.add(info.filename)
    total = sum(info.file_size for info in members)
    free = shutil.disk_usage(folder).free
    if total > min(limits.unpacked_bytes, free):
        raise StudyError(
            f"{name} unpacks to {total / 1e9:.2f} GB; at most {min(limits.unpacked_bytes, free) / 1e9:.2f} GB fit. "
            "Zip one series only."
        )


def _require_safe_member(name: str, info: zipfile.ZipInfo, limits: ReadLimits) -> None:
    if info.flag_bits & 0x1:
        raise StudyError(f"{name} is protected by a password. Unpack it and give the folder, or zip it without.")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise StudyError(
            f"{name} holds a link or a device ({info.filename!r}). Expected plain files: zip the CT again."
        )
    member = PurePosixPath(info.filename)
    if member.is_absolute() or ".." in member.parts or set(info.filename) & set("\\:\0") or not member.name:
        raise StudyError(
            f"{name} holds the unsafe name {info.filename!r}. Expected names inside the zip: zip it again."
        )
    if info.file_size > limits.ratio_from_bytes and info.file_size > limits.ratio * max(1, info.compress_size):
        raise StudyError(
            f"{name}: {member.name} would grow {info.file_size / max(1, info.compress_size):.0f} times when unpacked; "
            f"at most {limits.ratio:.0f} times is taken for a CT. Give the file itself."
        )


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> int:
    """Write one member; the size it claims is all it gets."""
    target = folder.joinpath(*PurePosixPath(info.filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(info) as source, target.open("xb") as sink:
        while block := source.read(CHUNK):
            written += len(block)
            if written > info.file_size:
                raise zipfile.BadZipFile(f"{info.filename} is larger than it claims")
            sink.write(block)
    return written
