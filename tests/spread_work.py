"""Work for the tests of spreading: functions that other processes can import by name."""

import os
import signal

from core.errors import StorageError


def double(number: int) -> int:
    """Twice the number, but for three that end otherwise."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise KeyError("five")
    if number == 99:
        raise StorageError("the disk is full")
    return 2 * number
