"""Inspects the size and the first bytes of a file before it is decoded: which decoder reads it, and is its container whole.

The content decides, not the suffix. Formats other than the uncompressed ones, Ogg, MP3, ADTS and WMA reach FFmpeg unchecked.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from beats_jax.audio.decoding.byte_ranges import SoundStream
from beats_jax.audio.decoding.chunks import libsndfile_reads
from beats_jax.audio.decoding.mpeg_frames import after_id3, looks_like_mpeg, mpeg_sound
from beats_jax.audio.decoding.ogg_pages import ogg_streams
from beats_jax.audio.recording import AudioError

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # WMA
COMPRESSED = (b"fLaC", b"OggS", b"\x1aE\xdf\xa3", ASF[:4])  # FLAC, Ogg, Matroska and WebM, WMA


def inspect(path: Path) -> tuple[bool, list[SoundStream], AudioError | None]:
    """Reads the structure of a file; decodes nothing.

    Returns:
      Whether libsndfile is tried first; the streams for PyAV, several where files with a header each were joined; the fault of
      uncompressed sound that was cut, which counts behind the last sample that is there.
    Raises:
      AudioError: missing, no file, no permission, empty; another container that holds less than it promises.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(path, "is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(path, "is not a regular file")
        if status.st_size == 0:
            raise AudioError(path, "empty file (0 bytes)")
        with path.open("rb") as file:
            return _inspect(path, file, status.st_size)
    except FileNotFoundError as error:
        raise AudioError(path, "no such file") from error
    except PermissionError as error:
        raise AudioError(path, "no permission to read it") from error


def _inspect(path: Path, file: BinaryIO, size: int) -> tuple[bool, list[SoundStream], AudioError | None]:
    start = after_id3(file)
    file.seek(start)
    head = file.read(16)
    if head[:4] == b"OggS" and start == 0:
        return False, ogg_streams(path, file, size), None
    known = head[:4] in COMPRESSED or head[:4] == b"RIFF" or head[4:8] == b"ftyp"
    if looks_like_mpeg(head) or (start and not known):  # zeros may fill the place between a tag and the first frame
        return False, [mpeg_sound(file, start, size)], None
    if head[:8] == ASF:
        _require_whole_asf(path, file, size)
    reads, fault = (False, None) if start or head[:4] in COMPRESSED else libsndfile_reads(path, file, size, head)
    return reads, [SoundStream(((start, size),))], fault


def _require_whole_asf(path: Path, file: BinaryIO, size: int) -> None:
    """Compares the size of a WMA's data object, which follows the header object, with the file; FFmpeg reports no cut file."""
    start = _asf_size(file, 0)
    promised = _asf_size(file, start)
    if 0 < start <= size and promised > size - start:
        raise AudioError(path, f"truncated: the header promises {promised} bytes of sound, the file holds {size - start}")


def _asf_size(file: BinaryIO, place: int) -> int:
    """Bytes of the object at `place`, its GUID and size included."""
    file.seek(place + 16)
    return int.from_bytes(file.read(8), "little")
