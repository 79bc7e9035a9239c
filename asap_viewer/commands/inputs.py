"""Arguments that several commands share, and the files behind them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError, ReportError
from core.progress import Progress, silent

if TYPE_CHECKING:
    from asap_viewer.sessions import Case
    from asap_viewer.settings import Settings
    from core.reading.study import HuFix

MAX_REPORT_BYTES = 4_000_000
"""A larger file is no report."""
DEFAULT_ENGINE = "bundled"


def add_ct(parser: argparse.ArgumentParser) -> None:
    """The CT to work on."""
    parser.add_argument(
        "ct", metavar="CT", type=Path, help=".nii, .nii.gz, .nrrd, .mha or .mhd file, DICOM folder, or .zip of either"
    )
    parser.add_argument(
        "--hu-fix",
        choices=("none", "auto"),
        default="none",
        help="auto mends values that were never rescaled, or twice; none only warns (default)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where models run."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="where models run (default: ASAP_DEVICE, else auto)"
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Which grounding engine, and where it runs."""
    parser.add_argument(
        "--engine", default=DEFAULT_ENGINE, metavar="NAME", help=f"grounding engine (default {DEFAULT_ENGINE})"
    )
    add_device(parser)


def add_masks(parser: argparse.ArgumentParser) -> None:
    """Organ masks made beforehand."""
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="MASK.nii.gz",
        help="organ masks on the CT's grid (default: the embedded engine's)",
    )


def open_ct(path: Path, settings: "Settings", progress: Progress = silent, hu_fix: "HuFix" = "none") -> "Case":
    """The CT as a case. StudyError says what is wrong with it."""
    from asap_viewer.workflow import open_case

    return open_case(path, None, settings.limits, hu_fix, progress)


def find_masks(case: "Case", masks: Path | None, settings: "Settings", progress: Progress = silent) -> None:
    """Give the case organ masks: those of the file, or the embedded engine's."""
    from asap_viewer.workflow import find_organs, keep_masks

    if masks is None:
        from asap_viewer.engines import open_segmenter

        find_organs(case, open_segmenter("embedded", settings), progress)
        return
    from core.anatomy.provided import load_masks

    keep_masks(case, load_masks(require_file(masks), case.volume))


def read_text(path: Path) -> str:
    """The text of a report: UTF-8, or UTF-16 with its mark, or else Windows-1252. ReportError if it is no text."""
    if require_file(path).stat().st_size > MAX_REPORT_BYTES:
        raise ReportError(
            f"{path.name} has {path.stat().st_size / 1e6:.0f} MB. Expected a report as plain text, at most 4 MB."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path.name} cannot be read ({error.strerror}). Check its permissions.") from error
    if b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ReportError(f"{path.name} is not text. Expected a report as plain text: export it as .txt.")
    return _decode(data)


def _decode(data: bytes) -> str:
    encodings = ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def require_file(path: Path) -> Path:
    """`path`, or a ConfigError when it is not a file."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"{path} {found}. Expected a file: check the name.")
    return path
