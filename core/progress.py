"""How long work reports where it is, and how it is stopped."""

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction done in [0, 1] and a phrase for the person; may raise `Cancelled`."""


def silent(_fraction: float, _message: str) -> None:
    """Report to nobody."""


def part_of(progress: Progress, start: float, end: float) -> Progress:
    """A progress whose 0..1 covers only `start`..`end` of `progress`."""

    def report(fraction: float, message: str) -> None:
        progress(start + (end - start) * fraction, message)

    return report
