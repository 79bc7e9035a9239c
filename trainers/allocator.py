"""How memory comes from the system and goes back, for processes whose tensors are large."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of `mallopt`'s settings in glibc's malloc.h."""
_LARGE = 2**20
"""Bytes from which on a freed tensor goes back to the system."""
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""What PyTorch reads at its first tensor: whether tensors of 2 MB and more ask for huge pages."""


def tune_allocator() -> bool:
    """Take large tensors from the system in huge pages and give them back when freed; True where that can be set.

    For the rest of the process, to be called before its first tensor. glibc raises its threshold up to 32 MB as a
    program frees, and below it freed tensors stay in a heap with holes. Pages of 4 kB instead of 2 MB, each cleared at
    its first touch, would make that dear. Other C libraries and systems are left as they are.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return False
    os.environ.setdefault(_HUGE_PAGES, "1")
    return all([library.mallopt(setting, _LARGE) == 1 for setting in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)])
