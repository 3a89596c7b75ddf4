"""What a file's name, size and first bytes tell before any decoder is asked.

libsndfile shortens a truncated WAV, AIFF or OGG in silence and believes the wrapped length of a plain RIFF above 4 GB; the
promises of the headers are therefore compared with the size of the file here. Formats: RIFF/WAVE and RF64 (EBU Tech 3306), AIFF,
Ogg (RFC 3533).
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path
from typing import BinaryIO

from beats_jax.audio.recording import AudioError

UNKNOWN_SIZE = 0xFFFFFFFF  # a recorder that streams leaves the size open; the sound then goes on to the end of the file
LARGEST_OGG_PAGE = 65_307  # RFC 3533


def require_sound_container(path: Path) -> None:
    """Raises `AudioError` unless `path` is a readable file whose container holds all the bytes that it promises.

    Looked at: existence, kind, permission, size; WAV, RF64, AIFF and Ogg structure. Nothing is decoded; other formats pass.
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
            _require_whole(path, file, status.st_size)
    except FileNotFoundError as error:
        raise AudioError(path, "no such file") from error
    except PermissionError as error:
        raise AudioError(path, "no permission to read it") from error
    except OSError as error:
        raise AudioError(path, f"cannot be read: {error.strerror or error}") from error


def _require_whole(path: Path, file: BinaryIO, size: int) -> None:
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:] == b"WAVE":
        _require_whole_chunk(path, file, size, data_id=b"data", order="<")
    elif head[:4] == b"RIFX" and head[8:] == b"WAVE":
        _require_whole_chunk(path, file, size, data_id=b"data", order=">")
    elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        _require_whole_chunk(path, file, size, data_id=b"SSND", order=">")
    elif head[:4] == b"OggS":
        _require_last_ogg_page(path, file, size)


def _require_whole_chunk(path: Path, file: BinaryIO, size: int, data_id: bytes, order: str) -> None:
    """Walks the chunks from byte 12 to the one with the sound and compares its length with what the file holds."""
    frame_bytes, long_size = 1, None
    while len(header := file.read(8)) == 8:
        name, length = header[:4], struct.unpack(order + "I", header[4:])[0]
        start = file.tell()
        if name == data_id:
            promised = long_size if long_size is not None and length == UNKNOWN_SIZE else length
            _compare(path, promised, held=size - start, frame_bytes=frame_bytes)
            return
        if name == b"fmt ":
            block_align = file.read(14)[12:]
            frame_bytes = max(1, struct.unpack(order + "H", block_align)[0]) if len(block_align) == 2 else 1
        if name == b"ds64":
            sizes = file.read(16)
            long_size = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        file.seek(start + length + length % 2)  # chunks are padded to even lengths
    raise AudioError(path, "no samples: the file ends within its header")


def _compare(path: Path, promised: int, held: int, frame_bytes: int) -> None:
    if promised == 0:
        raise AudioError(path, f"no samples: the header gives 0 bytes of sound ({held} bytes follow it)")
    if promised == UNKNOWN_SIZE:
        return
    if promised - held >= frame_bytes:
        raise AudioError(path, f"truncated: the header promises {promised} bytes of sound, the file holds {held}")
    if held - promised >= 1 << 31:
        raise AudioError(
            path, f"header counts {promised} of {held} bytes: too long for plain RIFF (over 4 GB); convert it to RF64 or FLAC"
        )


def _require_last_ogg_page(path: Path, file: BinaryIO, size: int) -> None:
    """The last page must be whole and marked as the end of its stream (flag 4)."""
    file.seek(max(0, size - LARGEST_OGG_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    segments = page[26] if len(page) > 26 else 0
    if len(page) < 27 + segments or len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        raise AudioError(path, "truncated: the last Ogg page is incomplete")
    if not page[5] & 4:
        raise AudioError(path, "truncated: the Ogg stream has no last page")
