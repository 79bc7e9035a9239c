"""`annotations export --db URL --out DIR`: what people judged, drew and wrote, as files."""

import argparse
from pathlib import Path
from typing import Any

from asap_viewer.settings import Settings
from core.errors import AnnotationError
from core.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `annotations export`."""
    actions = parser.add_subparsers(dest="action", metavar="export", required=True, parser_class=type(parser))
    export = actions.add_parser("export", help="write annotations.json and one NIfTI per region")
    export.add_argument("--db", metavar="URL", help="database, such as sqlite:///FILE (default: this installation's)")
    export.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write: new, empty or an export"
    )


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Export the database and return what was written."""
    from core.annotation.export import export_database

    progress(0.0, "Exporting annotations")
    if arguments.db is not None and not arguments.db.strip():
        raise AnnotationError("The database URL is empty. Expected for example sqlite:///FILE.")
    return export_database(arguments.db or settings.annotations_url, arguments.out)._asdict()
