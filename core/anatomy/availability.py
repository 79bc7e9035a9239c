"""Whether an organ engine can run on this machine."""

from typing import NamedTuple


class Availability(NamedTuple):
    """Can it run, and if not, what is missing and how to get it."""

    can_run: bool
    reason: str  # "" when it can run
