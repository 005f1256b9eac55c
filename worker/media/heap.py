"""Frames are megabytes, and each is freed before the next one comes."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20
"""bytes; glibc takes no more"""


def keep() -> None:
    """Keep the memory of a frame for the next one. Else it goes back to the system and is asked for again,
    page by page: a millisecond for a frame of one megapixel. Where the C library has no such switch nothing
    changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 4 * _LARGEST)
