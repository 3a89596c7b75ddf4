"""Checks the length that the header of an uncompressed file promises against the bytes that the file holds.

libsndfile reads these formats but shortens a cut file without an error, so their chunks are walked here: RIFF/WAVE, RF64 and
BW64 (EBU Tech 3306), AIFF, CAF, Wave64, AU. A promise counts only where it is plausible: recorders and pipes that cannot seek
back to the header leave a placeholder or a wrong size there, and the sound goes on to the end of the file.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from beats_jax.audio.recording import AudioError

UNKNOWN_SIZE = 0xFFFFFFFF
MARK_SLACK = 1 << 16  # sox, arecord, ffmpeg, mpg123 and others write 2**31 or 2**32 less a header, a block or a page
HEADER_SLIPS = (44, 36, 8)  # bytes of header that recorders count as sound (Frontier Labs: known problem FL005)
MPEG_IN_WAVE = (0x50, 0x55)
WAVE64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
WAVE64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


class Chunks(NamedTuple):
    """How a family of formats lays out its chunks."""

    first: int  # byte of the first chunk
    sound: bytes  # name of the chunk that holds the sound
    size: str  # struct format of a chunk's size, which follows its name
    counted: int = 0  # bytes of name and size that the size includes
    padding: int = 2  # chunks begin at multiples of this, counted from the first


RIFF, RIFX = Chunks(12, b"data", "<I"), Chunks(12, b"data", ">I")
AIFF, CAF = Chunks(12, b"SSND", ">I"), Chunks(8, b"data", ">q", padding=1)
W64 = Chunks(40, WAVE64_DATA, "<Q", counted=24, padding=8)


def libsndfile_reads(path: Path, file: BinaryIO, size: int, head: bytes) -> tuple[bool, AudioError | None]:
    """Whether libsndfile is tried first, for a file that begins with `head` (16 bytes), and the fault of one that was cut.

    Not where the header counts 0 bytes of sound although some follow (libsndfile believes it), and not for MPEG audio in a WAV
    (libmpg123 writes warnings to the terminal).

    Raises:
      AudioError: no sound at all, or a plain RIFF above 4 GB whose size has wrapped.
    """
    if head[:4] in (b".snd", b"dns."):
        start, promised = struct.unpack(">2I" if head[:4] == b".snd" else "<2I", head[4:12])
        return True, _cut(path, promised, size - start, frame_bytes=1)
    chunks = _chunks_of(head)
    if chunks is None:
        return True, None
    start, promised, wave_format, frame_bytes = _sound_chunk(path, file, chunks)
    if promised == 0 and _only_chunks(file, chunks, start, size):
        raise AudioError(path, f"no samples: the header gives 0 bytes of sound ({size - start} bytes follow it)")
    if promised == 0 and head[:4] in (b"RF64", b"BW64"):
        raise AudioError(path, "its RF64 header gives no length: the recorder did not close it")
    fault = _cut(path, promised, size - start, frame_bytes)
    return wave_format not in MPEG_IN_WAVE and (promised != 0 or chunks not in (RIFF, RIFX)), fault


def _chunks_of(head: bytes) -> Chunks | None:
    kinds = {b"RIFF": RIFF, b"RF64": RIFF, b"BW64": RIFF, b"RIFX": RIFX}
    if head[8:12] == b"WAVE" and head[:4] in kinds:
        return kinds[head[:4]]
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[:4] == b"caff":
        return CAF
    return W64 if head[:16] == WAVE64 else None


def _sound_chunk(path: Path, file: BinaryIO, chunks: Chunks) -> tuple[int, int, int, int]:
    """(first byte of the sound, bytes promised, format of a WAVE, bytes of a frame); -1 bytes = no promise."""
    wave_format, frame_bytes, long_size, place = 0, 1, None, chunks.first
    while header := _header(file, chunks, place):
        name, length = header
        start = file.tell()
        if name == chunks.sound:
            promised = long_size if long_size is not None and length == UNKNOWN_SIZE else length
            return start, promised, wave_format, frame_bytes
        if name == b"fmt ":
            wave_format, frame_bytes = struct.unpack(chunks.size[0] + "H10xH", file.read(14).ljust(14, b"\0"))
        if name == b"ds64":
            sizes = file.read(16)
            long_size = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        place = _next(chunks, start, length)
    raise AudioError(path, "no samples: the file ends within its header")


def _header(file: BinaryIO, chunks: Chunks, place: int) -> tuple[bytes, int] | None:
    """(name, bytes that follow) of the chunk at `place`; leaves `file` behind its header. None where the file ends."""
    file.seek(place)
    name = file.read(len(chunks.sound))
    size = file.read(struct.calcsize(chunks.size))
    if len(size) < struct.calcsize(chunks.size):
        return None
    return name, struct.unpack(chunks.size, size)[0] - chunks.counted


def _next(chunks: Chunks, start: int, length: int) -> int:
    return start + max(0, length) + -length % chunks.padding


def _only_chunks(file: BinaryIO, chunks: Chunks, start: int, size: int) -> bool:
    """Whether the rest of the file is nothing, or chunks with printable names that end where the file ends."""
    while start < size:
        header = _header(file, chunks, start)
        if header is None or not all(32 <= byte < 127 for byte in header[0][:4]):
            return False
        start = _next(chunks, file.tell(), header[1])
    return start < size + chunks.padding  # the last padding may be missing


def _cut(path: Path, promised: int, held: int, frame_bytes: int) -> AudioError | None:
    """The fault of a file that holds less than it promises. Raises `AudioError` as `libsndfile_reads`."""
    marked = promised <= 0 or any(abs(promised - mark) <= MARK_SLACK for mark in (1 << 31, 1 << 32))
    slipped = promised - held in HEADER_SLIPS
    if promised - held >= max(1, frame_bytes) and not (marked or slipped):
        fault = AudioError(path, f"truncated: the header promises {promised} bytes of sound, the file holds {held}")
        if held < frame_bytes:
            raise fault
        return fault
    wrapped = held - promised >= 1 << 31 and promised > 0
    cut_short = marked and 0 < promised < UNKNOWN_SIZE and held - promised > MARK_SLACK
    if wrapped or cut_short:
        raise AudioError(
            path, f"header counts {promised} of {held} bytes: too long for plain RIFF (over 4 GB); convert it to RF64 or FLAC"
        )
    return None
