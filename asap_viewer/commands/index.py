"""`index build` and `index search`: a collection of reports, some with their CT."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_viewer.commands.inputs import add_device, add_engine, find_masks, open_ct, require_file
from asap_viewer.commands.output import make_folder
from asap_viewer.engines import open_grounder
from asap_viewer.settings import Settings
from core.errors import ConfigError
from core.progress import Progress, part_of

if TYPE_CHECKING:
    from asap_viewer.sessions import Case
    from core.anatomy.masks import OrganMasks
    from core.grounding.engine import GroundingEngine
    from core.retrieval.build import EmbeddedStudies
    from core.retrieval.index import ReportIndex
    from core.retrieval.results import SearchResult
    from core.retrieval.table import ReportRow
    from core.volume import Volume

SHOWN_SKIPPED = 100
"""Skipped rows that are listed; all are counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `index build` and `index search`."""
    actions = parser.add_subparsers(dest="action", metavar="build|search", required=True, parser_class=type(parser))
    _add_build(actions.add_parser("build", help="make an index from a table of reports"))
    _add_search(actions.add_parser("search", help="find reports"))


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reports",
        metavar="REPORTS.csv",
        type=Path,
        required=True,
        help="UTF-8 table with the columns study_id,findings[,impression][,volume]",
    )
    parser.add_argument("--volumes", metavar="DIR", type=Path, help="folder that the column volume is relative to")
    parser.add_argument("--out", metavar="INDEX", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--map", choices=("pca", "umap"), default="pca", help="flat map of the collection (default pca)"
    )
    add_engine(parser)


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", metavar="INDEX", type=Path, help="folder that `index build` wrote")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--text", help="a phrase, a sentence or a whole report")
    query.add_argument("--ct", metavar="CT", type=Path, help="reports that fit this CT")
    query.add_argument("--study", metavar="ID", help="reports like that of this study, which is left out")
    parser.add_argument("-k", dest="count", type=_positive, default=10, metavar="N", help="results (default 10)")
    parser.add_argument(
        "--label", action="append", default=[], metavar='"NAME=1"', help="only reports with this finding (=0: without)"
    )
    add_device(parser)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10000")
    return int(text)


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Build or search."""
    action = build if arguments.action == "build" else search
    return action(arguments, settings, progress)


def build(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Read the table, embed reports and CT, write the index."""
    from core.folder import require_replaceable
    from core.retrieval.build import build_index
    from core.retrieval.storage import META, save_index
    from core.retrieval.table import read_table

    table = read_table(require_file(arguments.reports))
    try:
        require_replaceable(arguments.out, META)
    except FileExistsError as error:
        raise ConfigError(str(error)) from error
    make_folder(arguments.out.absolute().parent)
    engine = open_grounder(arguments.engine, settings, arguments.device)
    studies, unread = _embed_volumes(arguments, table.rows, engine, settings, part_of(progress, 0.0, 0.5))
    built = build_index(table.rows, engine, studies, arguments.map, part_of(progress, 0.5, 1.0))
    save_index(built.index, arguments.out)
    return _describe_build(built.index, arguments.out, [*table.skipped, *unread, *built.skipped])


def _embed_volumes(
    arguments: argparse.Namespace,
    rows: "tuple[ReportRow, ...]",
    engine: "GroundingEngine",
    settings: Settings,
    progress: Progress,
) -> "EmbeddedStudies":
    """Study vectors of the CT that the table names; none without --volumes."""
    from core.retrieval.build import EmbeddedStudies, embed_studies

    if arguments.volumes is None:
        return EmbeddedStudies({}, ())
    folder = _require_folder(arguments.volumes)

    def read(path: Path) -> "tuple[Volume, OrganMasks | None]":
        case = open_ct(path, settings)
        return case.volume, _masks_for(engine, case, settings)

    return embed_studies(rows, folder, read, engine, progress)


def _masks_for(engine: "GroundingEngine", case: "Case", settings: Settings) -> "OrganMasks | None":
    """Organ masks by the embedded engine where the grounding engine sees nothing without; placing a view needs none."""
    if engine.needs_masks:
        find_masks(case, None, settings)
    return case.masks


def _require_folder(path: Path) -> Path:
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise ConfigError(f"{path} {found}. Expected the folder that the table's volumes are in.")
    return path


def _describe_build(index: "ReportIndex", folder: Path, skipped: list) -> dict[str, Any]:
    return {
        "index": str(folder),
        "engine": index.info.engine,
        "reports": len(index),
        "sentences": len(index.sentences.vectors),
        "volumes": len(index.volumes.vectors),
        "skipped": len(skipped),
        "skipped_rows": [row._asdict() for row in skipped[:SHOWN_SKIPPED]],
    }


def search(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Search by text, CT or study."""
    from core.retrieval.results import describe_result
    from core.retrieval.storage import load_index

    index = load_index(_require_index(arguments.index))
    return describe_result(_ask_index(index, arguments, settings, progress))


def _require_index(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigError(f"{path} is no folder. Expected one that `index build` wrote: check the name.")
    return path


def _ask_index(
    index: "ReportIndex", arguments: argparse.Namespace, settings: Settings, progress: Progress
) -> "SearchResult":
    from core.retrieval.table import parse_label_filters

    where = parse_label_filters(arguments.label)
    if arguments.study is not None:
        return index.search_study(arguments.study, arguments.count, where)
    if arguments.text is not None:
        engine = open_grounder(index.info.engine, settings, arguments.device)
        return index.search_text(arguments.text, engine, arguments.count, where)
    case = open_ct(arguments.ct, settings, part_of(progress, 0.0, 0.3))
    engine = open_grounder(index.info.engine, settings, arguments.device)
    index.require_engine(engine)
    features = engine.embed_volume(case.volume, _masks_for(engine, case, settings), part_of(progress, 0.3, 1.0))
    return index.search_volume(features.study_vector, arguments.count, where, case.volume.content_hash)
