"""The C library's memory, kept for the tensors of the next step."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_LARGEST = 1 << 30
"""[bytes] of a block that is kept when it is freed"""


def keep_freed_memory() -> bool:
    """Keep what large tensors free for those that come next; return whether the C library could be told so.

    By default glibc gives blocks above 32 MB back to the system, and each layer's output is then memory that the system
    clears page by page at the first touch. Over batches of images that takes longer than many a layer. A process stays
    as large as it ever was. Other C libraries are left as they are. (A frame alone has no such blocks.)
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # Both, or glibc trims the top of the heap instead.
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, -1))
