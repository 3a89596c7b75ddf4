"""What a file's size and bytes tell before any decoder is asked: which decoder reads it, and whether its container is whole.

The content decides, not the suffix. What is neither uncompressed, Ogg, MP3, ADTS nor WMA passes to the decoders unseen.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from beats_jax.audio.decoding.byte_ranges import Range
from beats_jax.audio.decoding.chunks import libsndfile_reads
from beats_jax.audio.decoding.mpeg_frames import after_id3, looks_like_mpeg, mpeg_sound
from beats_jax.audio.decoding.ogg_pages import ogg_streams
from beats_jax.audio.recording import AudioError, name_surprises

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # WMA
COMPRESSED = (b"fLaC", b"OggS", b"\x1aE\xdf\xa3", ASF[:4])  # FLAC, Ogg, Matroska and WebM, WMA


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
      AudioError: missing, no file, no permission, empty; a container that holds less than it promises.
    """
    try:
        with name_surprises(path, "read"):
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
        head = file.read(16)
        if head[:4] == b"OggS" and start == 0:
            return Contents(False, tuple(SoundStream((link.range,), link.last_granule) for link in ogg_streams(path, file, size)))
        known = head[:4] in COMPRESSED or head[:4] == b"RIFF" or head[4:8] == b"ftyp"
        if looks_like_mpeg(head) or (start and not known):  # zeros may fill the place between a tag and the first frame
            sound = mpeg_sound(file, start, size)
            return Contents(False, (SoundStream(sound.ranges, sound.frames),))
        if head[:8] == ASF:
            _require_whole_asf(path, file, size)
        uncompressed = start == 0 and head[:4] not in COMPRESSED and libsndfile_reads(path, file, size, head)
        return Contents(uncompressed, (SoundStream(((start, size),)),))


def _require_whole_asf(path: Path, file: BinaryIO, size: int) -> None:
    """The data object of a WMA, which follows the header object, promises its bytes; FFmpeg shortens the duration in silence."""
    start = _asf_size(file, 0)
    promised = _asf_size(file, start)
    if 0 < start <= size and promised > size - start:
        raise AudioError(path, f"truncated: the header promises {promised} bytes of sound, the file holds {size - start}")


def _asf_size(file: BinaryIO, place: int) -> int:
    """Bytes of the object at `place`, its GUID and size included."""
    file.seek(place + 16)
    return int.from_bytes(file.read(8), "little")
