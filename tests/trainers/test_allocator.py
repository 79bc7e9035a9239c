"""Freed tensors go back to the system, in a process of its own: the setting is for good."""

import subprocess
import sys
from pathlib import Path

import pytest

HOLES = """
import resource, sys
import numpy as np
from trainers.allocator import tune_allocator

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

if sys.argv[1] == "tuned":
    if not tune_allocator():  # another C library
        sys.exit(print(170))
del_me = np.ones(30 * 2**17)  # 30 MB: once it is freed, glibc keeps all that is smaller in its heap
del del_me
many = [np.ones(3 * 2**17) for _ in range(60)]
last = np.ones(3 * 2**17)  # holds the end of the heap
before = resident_mb()
many.clear()
print(before - resident_mb())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux")
@pytest.mark.parametrize(("way", "least", "most"), [("as it was", -20, 60), ("tuned", 150, 200)])
def test_freed_arrays_of_3_mb_leave_the_process(way: str, least: float, most: float) -> None:
    command = [sys.executable, "-c", HOLES, way]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    assert least <= float(told) <= most
