"""Memory of mapped files: what has been copied to a device need not stay in memory as well."""

from __future__ import annotations

import mmap

import numpy as np


def release(array: np.ndarray) -> None:
    """Gives the memory under a view of a mapped file back to the system; the values stay readable, from the file.

    An array that is no view of a mapped file, or a system without `madvise`, is left alone.
    """
    mapped: object = array
    while mapped is not None and not isinstance(mapped, mmap.mmap):  # strided views keep theirs in an object of numpy's own
        mapped = mapped.obj if isinstance(mapped, memoryview) else getattr(mapped, "base", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    low, high = np.lib.array_utils.byte_bounds(array)
    start = low - np.frombuffer(mapped, np.uint8).ctypes.data
    first = start - start % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, first, high - low + start - first)
