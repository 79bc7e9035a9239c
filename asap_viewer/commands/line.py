"""Arguments in, one JSON document out: what every command has in common.

Exit codes: 0 done, 2 the person can mend it (one line on stderr), 130 interrupted, 141 the reader of stdout went
away, 1 with a traceback for a bug of ours.
"""

import argparse
import importlib
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from asap_viewer.commands.streams import Streams, taken_streams
from asap_viewer.settings import read_settings
from core.errors import AsapError

COMMANDS: dict[str, str] = {
    "info": "what a CT is: shape, spacing, orientation, HU range, warnings",
    "segment": "organ masks on the CT's own grid, with volumes",
    "parse": "what a report says, sentence by sentence, and the 18 labels",
    "ground": "where each sentence of a report is in a CT",
    "findings": "the 18 findings in a CT, without any report",
    "index": "build or search a collection of reports and CT",
    "ask": "a question about a CT, answered with its evidence",
    "annotations": "hand over what people judged, drew and wrote",
    "engines": "which engines can run here, and what the others lack",
}
"""Command -> one line of help. The module of the same name has `add_arguments` and `run`."""


class UsageError(AsapError):
    """The arguments make no sense."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and leaves the exit code to `run_line`."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. Expected `{' '.join(self.format_usage().split()[1:])}`; --help explains.")


def build_parser(only: str = "") -> Parser:
    """The parser of all commands; only the command named `only` gets its arguments (the others stay unimported)."""
    parser = Parser(
        prog="python -m asap_viewer", description="Chest CT and its report, from the shell.", epilog=_EPILOG
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, help_line in COMMANDS.items():
        command = commands.add_parser(name, help=help_line, description=f"{help_line[0].upper()}{help_line[1:]}.")
        command.add_argument("--verbose", action="store_true", help="show progress and logs on stderr as they come")
        if name == only:
            importlib.import_module(f"asap_viewer.commands.{name}").add_arguments(command)
    return parser


_EPILOG = "Research use only, not a medical device. Nothing leaves this machine."


def run_line(arguments: Sequence[str]) -> int:
    """Run one command line and return the exit code; the answer goes to stdout, everything else to stderr."""
    named = next((word for word in arguments if word in COMMANDS), "")
    try:
        parsed = build_parser(named).parse_args(list(arguments))
    except UsageError as error:
        return _say_and_fail(error)
    with taken_streams(is_live=parsed.verbose) as streams:
        return _run_parsed(parsed, streams)


def _run_parsed(parsed: argparse.Namespace, streams: Streams) -> int:
    try:
        command = importlib.import_module(f"asap_viewer.commands.{parsed.command}")
        answer = command.run(parsed, read_settings(), streams.progress)
        streams.release_logs()
        streams.write_answer(_as_json(answer))
    except AsapError as error:
        streams.drop_logs()
        streams.write_error(_one_line(error))
        return 2
    except KeyboardInterrupt:
        streams.drop_logs()
        streams.write_error("Stopped; nothing was written.")
        return 130
    except BrokenPipeError:
        return 141
    return 0


def _as_json(answer: dict[str, Any]) -> str:
    return json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _say_and_fail(error: UsageError) -> int:
    import sys

    sys.stderr.write(_one_line(error) + "\n")
    return 2
