"""Writing a file or a folder of files so that either all of it appears or nothing."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write the parts as one file so that a kill at any moment leaves the old one or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with scratch.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def replace_folder(target: Path, manifest: str) -> Iterator[Path]:
    """A new empty folder that becomes `target` when the block ends well and vanishes when it does not.

    `target` may be absent, empty, or an earlier product of the same kind: a folder whose JSON file `manifest`
    has a "files" list that names everything else in it. Anything else is refused with FileExistsError, so that
    no file of somebody else is ever deleted. The block writes `manifest` itself. Raises OSError.
    """
    target = Path(target).absolute()
    require_replaceable(target, manifest)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh = work / "new"
        fresh.mkdir()
        yield fresh
        _swap(fresh, target, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_replaceable(target: Path, manifest: str) -> None:
    """Raise FileExistsError when `target` holds something that `replace_folder` must not delete."""
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"{target} is a file; expected a folder that is new or empty. Choose another place.")
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    foreign = sorted(found - {manifest} - _listed_files(target / manifest))
    if foreign:
        raise FileExistsError(
            f"{target} already holds other files ({', '.join(foreign[:3])}); expected a new or empty folder, or one "
            "written by this command before. Choose another folder."
        )


def _listed_files(manifest: Path) -> set[str]:
    """The "files" of an earlier product, or nothing when there is no such readable list."""
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return {name for name in listed if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _swap(fresh: Path, target: Path, old: Path) -> None:
    """Move `target` away and `fresh` into its place; put the old one back if that fails."""
    fresh.chmod(0o755)  # mkdtemp's parent is private; the product should be as readable as any folder
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
