"""Stretches of a file that a decoder reads as one file: one stream of an Ogg chain, or an MP3 without its tags."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

Range = tuple[int, int]  # first byte, byte behind the last


@dataclass(frozen=True)
class SoundStream:
    """Where one stream of sound lies in a file.

    Attributes:
      ranges: its stretches of the file, in order.
      promise: Ogg: granule position of the last page, in samples; MP3: MPEG frames after the first; None = nothing is promised.
    """

    ranges: tuple[Range, ...]
    promise: int | None = None


class ByteRanges(io.RawIOBase):
    """`ranges` of `file`, joined. It has no name, so that FFmpeg goes by the content and not by a suffix."""

    def __init__(self, file: BinaryIO, ranges: Sequence[Range]) -> None:
        self._file = file
        self._ranges = tuple(ranges)
        self._ends = tuple(accumulate(stop - start for start, stop in self._ranges))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer, /) -> int:  # pyright: ignore[reportMissingParameterType]  (no public name of its type in 3.11)
        """Reads up to the end of the stretch that holds the position, so it may return less than is left."""
        for (start, stop), end in zip(self._ranges, self._ends, strict=True):
            if self._position < end:
                self._file.seek(max(start, stop - (end - self._position)))
                number = self._file.readinto(memoryview(buffer)[: end - self._position])  # pyright: ignore[reportAttributeAccessIssue]
                self._position += number
                return number
        return 0
