"""Finds the links of a chained Ogg file (RFC 3533): files joined end to end, as `cat`, Icecast and Liquidsoap write them.

libsndfile reads only the first link, and neither it nor FFmpeg reports a last page that is cut.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import BinaryIO

from beats_jax.audio.decoding.byte_ranges import SoundStream
from beats_jax.audio.recording import AudioError

FIRST_PAGE = b"OggS\x00\x02"  # capture pattern, version 0, flag "begins a stream"
LARGEST_PAGE = 65_307
ENDS_STREAM = 4


def ogg_streams(path: Path, file: BinaryIO, size: int) -> list[SoundStream]:
    """The links of the chain, in order; one for a plain file.

    The whole file is searched for first pages, because two links may have the same serial number.

    Raises:
      AudioError: a stream ends within a page, or within a packet.
    """
    starts = _starts(file, size)
    ranges = zip(starts, [*starts[1:], size], strict=True)
    return [SoundStream(((start, stop),), _last_granule(path, file, start, stop)) for start, stop in ranges]


def _starts(file: BinaryIO, size: int) -> list[int]:
    """Where each link begins. First pages that follow each other directly are interleaved streams of one link."""
    starts, page_end = [0], 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = 0
        while 0 <= place < size:
            segments = content[place + 27 : place + 27 + content[place + 26]] if place + 27 <= size else b""
            position, number = content[place + 6 : place + 14], content[place + 18 : place + 22]
            if place != page_end and position + number == bytes(12):  # a real first page has position and page number 0
                starts.append(place)
            page_end = place + 27 + len(segments) + sum(segments)
            place = content.find(FIRST_PAGE, place + 1)
    return starts


def _last_granule(path: Path, file: BinaryIO, start: int, stop: int) -> int | None:
    """Position in samples on the last page, which must be whole and, unless it is marked as the end, finish its last packet.

    None where no packet ends there, or where interleaved streams make it another stream's page.
    """
    file.seek(max(start, stop - LARGEST_PAGE))
    tail = file.read(stop - file.tell())
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        raise AudioError(path, "truncated: the last Ogg page is incomplete")
    if segments and segments[-1] == 255 and not page[5] & ENDS_STREAM:
        raise AudioError(path, "truncated: the Ogg stream ends within a packet")
    file.seek(start)
    first = file.read(18)
    granule = struct.unpack("<q", page[6:14])[0]
    return granule if granule >= 0 and first[14:18] == page[14:18] else None
