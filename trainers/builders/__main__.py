"""Supervision from reports: `python -m trainers.builders organ-text|organ-state|triplets|distill --reports FILE.csv`.

`import-fvlm`, `import-regions` and `import-presence` bring in published files instead. Run the same command again to go
on after a stop. Prints one JSON document: what was written, and what was left out and why.
"""

import io
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr

import tyro

from core.errors import AsapError, ConfigError
from trainers.builders.commands import build, import_published
from trainers.builders.jobs import ImportFvlmJob, ImportPresenceJob, ImportRegionsJob, Job

LONGEST_FAULT = 300
"""Characters shown of what is wrong with a command line."""
_FRAME = re.compile(r"[\u2500-\u257f]+")


def read_line(arguments: Sequence[str]) -> Job:
    """The job that a command line asks for; ConfigError where it makes no sense. --help prints and exits."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(Job, prog="python -m trainers.builders", args=arguments, description=__doc__)
    except SystemExit as stop:
        if not stop.code:
            raise
        told = " ".join(_FRAME.sub(" ", said.getvalue()).split())
        raise ConfigError(f"{told[:LONGEST_FAULT]} ... --help explains all arguments.") from stop


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask, print one JSON document, or one line on what to mend; returns the exit code."""
    start = time.monotonic()
    try:
        job = read_line(arguments)
        if isinstance(job, ImportFvlmJob | ImportRegionsJob | ImportPresenceJob):
            summary = import_published(job)
        else:
            summary = build(job)
    except AsapError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Run the same command again to go on.\n")
        return 130
    summary["seconds"] = round(time.monotonic() - start, 1)
    sys.stdout.write(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
