"""Keeps the page to itself. To be called before gradio is imported, which it therefore does not import."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Environment that keeps the page to itself; a value already set wins."""


def keep_quiet(environ: dict[str, str] | os._Environ[str]) -> None:
    """Set `QUIET`, and give uploads a temporary folder of this process alone, which goes when the process ends."""
    for name, value in QUIET.items():
        environ.setdefault(name, value)
    if "GRADIO_TEMP_DIR" not in environ:
        environ["GRADIO_TEMP_DIR"] = folder = str(Path(tempfile.mkdtemp(prefix="asap-viewer-")).resolve())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
