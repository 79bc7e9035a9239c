"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from core.errors import ConfigError


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` on leaving, and vanishes after an error.

    ConfigError where it cannot be written.
    """
    path, name = Path(path), ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)  # mkstemp lets nobody else read it
        os.replace(name, path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}). Choose another folder or free some disk."
        ) from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)
