"""Files a command leaves behind: whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigError


def require_output(path: Path, endings: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> Path:
    """`path`, checked before the work begins: its ending, that it is no folder and none of the inputs."""
    if not path.name.lower().endswith(endings):
        raise ConfigError(f"The output is named {path.name!r}. Expected a name ending in {' or '.join(endings)}.")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder. Expected the name of a file to write.")
    for given in inputs:
        if path.exists() and given.exists() and path.samefile(given):
            raise ConfigError(f"{path} is also an input. Choose another name: inputs are never overwritten.")
    make_folder(path.parent)
    return path


def make_folder(folder: Path) -> Path:
    """`folder`, made if need be and writable; a ConfigError otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be made ({error.strerror}). Choose another.") from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"The folder {folder} cannot be written to. Choose another.")
    return folder


@contextmanager
def folder_for_results(folder: Path) -> Iterator[Path]:
    """`folder`, made if need be before the work begins; what was made and stayed empty is gone afterwards."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    make_folder(folder)
    try:
        yield folder
    finally:
        for one in made:
            if any(one.iterdir()):
                break
            one.rmdir()


@contextmanager
def filled_folder(target: Path) -> Iterator[Path]:
    """A new empty folder whose files move into `target` when the block ends well; they vanish when it does not.

    Files of the same name are replaced, all others in `target` stay.
    """
    is_new = not target.exists()
    work = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=make_folder(target)))
    try:
        yield work
        for path in sorted(work.iterdir()):
            os.replace(path, target / path.name)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror}). Is the disk full?") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if is_new and not any(target.iterdir()):
            target.rmdir()


@contextmanager
def unfinished(path: Path | None) -> Iterator[Path | None]:
    """A hidden name beside `path` that becomes `path` when the block ends well and vanishes when it does not.

    None gives None, for outputs nobody asked for.
    """
    if path is None:
        yield None
        return
    hidden = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        yield hidden
        os.replace(hidden, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}). Choose another folder.") from error
    finally:
        hidden.unlink(missing_ok=True)
