"""What a file's size and bytes tell before any decoder is asked: which decoder reads it, and whether its container is whole.

The content decides, not the suffix. A length in a header is a hint: recorders and pipes that cannot go back to it leave a mark or
a slip there, and the sound then goes on to the end of the file. What promises a plausible length and holds less was cut.
Formats: RIFF/WAVE, RF64 and BW64 (EBU Tech 3306), AIFF, Ogg, MP3 and ADTS; others pass to the decoders unseen.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from beats_jax.audio.byte_ranges import Range
from beats_jax.audio.mpeg_frames import after_id3, looks_like_mpeg, mpeg_sound
from beats_jax.audio.ogg_pages import ogg_streams
from beats_jax.audio.recording import AudioError, surprises_named

UNKNOWN_SIZE = 0xFFFFFFFF
MARK_SLACK = 1 << 16  # sox, arecord, ffmpeg, mpg123 and others write 2**31 or 2**32 less a header, a block or a page
HEADER_SLIPS = (44, 36, 8)  # bytes of header that recorders count as sound (Frontier Labs: known problem FL005)
COMPRESSED = (b"fLaC", b"OggS", b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75")  # FLAC, Ogg, Matroska and WebM, WMA


@dataclass(frozen=True)
class SoundStream:
    """Bytes that PyAV shall see as one file.

    Attributes:
      ranges: stretches of the file.
      promise: Ogg: granule of the last page; MP3: MPEG frames behind the first; None where nothing is promised.
    """

    ranges: tuple[Range, ...]
    promise: int | None = None


@dataclass(frozen=True)
class Contents:
    """What a file turned out to hold.

    Attributes:
      uncompressed: whether libsndfile is asked first.
      streams: for PyAV; several where files were joined that each have a header.
    """

    uncompressed: bool
    streams: tuple[SoundStream, ...]


def inspect(path: Path) -> Contents:
    """Looks at the bytes; nothing is decoded.

    Raises:
      AudioError: missing, no file, no permission, empty; a WAV, RF64, AIFF or Ogg that holds less than it promises.
    """
    try:
        with surprises_named(path, "read"):
            return _inspect(path)
    except AudioError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise AudioError(path, "no such file") from error
        if isinstance(error.__cause__, PermissionError):
            raise AudioError(path, "no permission to read it") from error
        raise


def _inspect(path: Path) -> Contents:
    status = path.stat()
    size = status.st_size
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(path, "is not a regular file")
    if size == 0:
        raise AudioError(path, "empty file (0 bytes)")
    with path.open("rb") as file:
        start = after_id3(file)
        file.seek(start)
        head = file.read(12)
        if head[:4] == b"OggS" and start == 0:
            return Contents(False, tuple(SoundStream((link.range,), link.last_granule) for link in ogg_streams(path, file, size)))
        known = head[:4] in COMPRESSED or head[:4] == b"RIFF" or head[4:8] == b"ftyp"
        if looks_like_mpeg(head) or (start and not known):  # zeros may fill the place between a tag and the first frame
            sound = mpeg_sound(file, start, size)
            return Contents(False, (SoundStream(sound.ranges, sound.frames),))
        uncompressed = start == 0 and head[:4] not in COMPRESSED and not _goes_on_to_the_end(path, file, size, head)
        return Contents(uncompressed, (SoundStream(((start, size),)),))


def _goes_on_to_the_end(path: Path, file: BinaryIO, size: int, head: bytes) -> bool:
    """Whether the header counts 0 bytes of sound though there are some, which libsndfile would not read. Raises `AudioError`."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:] == b"WAVE":
        return _counts_nothing(path, file, size, data_id=b"data", order="<")
    if head[:4] == b"RIFX" and head[8:] == b"WAVE":
        return _counts_nothing(path, file, size, data_id=b"data", order=">")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        _counts_nothing(path, file, size, data_id=b"SSND", order=">")  # which libsndfile reads to the end of the file
    return False


def _counts_nothing(path: Path, file: BinaryIO, size: int, data_id: bytes, order: str) -> bool:
    """Walks the chunks from byte 12 to the one with the sound and compares its length with what the file holds."""
    frame_bytes, long_size = 1, None
    while len(header := file.read(8)) == 8:
        name, length = header[:4], struct.unpack(order + "I", header[4:])[0]
        start = file.tell()
        if name == data_id:
            promised = long_size if long_size is not None and length == UNKNOWN_SIZE else length
            if promised == 0 and _only_chunks(file, start, size, order):
                raise AudioError(path, f"no samples: the header gives 0 bytes of sound ({size - start} bytes follow it)")
            _require_held(path, promised, held=size - start, frame_bytes=frame_bytes)
            return promised == 0
        if name == b"fmt ":
            block_align = file.read(14)[12:]
            frame_bytes = max(1, struct.unpack(order + "H", block_align)[0]) if len(block_align) == 2 else 1
        if name == b"ds64":
            sizes = file.read(16)
            long_size = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        file.seek(start + length + length % 2)  # chunks are padded to even lengths
    raise AudioError(path, "no samples: the file ends within its header")


def _only_chunks(file: BinaryIO, start: int, size: int, order: str) -> bool:
    """Whether the rest of the file is nothing, or chunks with printable names that end where it ends."""
    while start < size:
        file.seek(start)
        header = file.read(8)
        if len(header) < 8 or not all(32 <= byte < 127 for byte in header[:4]):
            return False
        length = struct.unpack(order + "I", header[4:])[0]
        start += 8 + length + length % 2
    return start <= size + 1  # a last byte of padding may lack


def _require_held(path: Path, promised: int, held: int, frame_bytes: int) -> None:
    marked = promised == 0 or any(abs(promised - mark) <= MARK_SLACK for mark in (1 << 31, 1 << 32))
    slipped = promised - held in HEADER_SLIPS
    if promised - held >= frame_bytes and not (marked or slipped):
        raise AudioError(path, f"truncated: the header promises {promised} bytes of sound, the file holds {held}")
    wrapped = held - promised >= 1 << 31 and promised > 0
    cut_short = marked and 0 < promised < UNKNOWN_SIZE and held - promised > MARK_SLACK
    if wrapped or cut_short:
        raise AudioError(
            path, f"header counts {promised} of {held} bytes: too long for plain RIFF (over 4 GB); convert it to RF64 or FLAC"
        )
