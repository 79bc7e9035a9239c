"""`python -m asap_viewer COMMAND …`: the same work as the page, from the shell."""

import sys

from asap_viewer.commands.line import run_line

if __name__ == "__main__":
    sys.exit(run_line(sys.argv[1:]))
