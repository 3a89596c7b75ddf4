"""The parts of a sound file in which recorders write: chunks of RIFF, RF64 and BW64, comments of FLAC. The sound is not read.

Layouts: RIFF and its INFO list (Microsoft, 1991), RF64 (EBU Tech 3306), FLAC's VORBIS_COMMENT (RFC 9639, section 8.6) and the
RIFF chunks that `flac --keep-foreign-metadata` keeps in APPLICATION blocks. Nothing here trusts a length: at most `MOST_BYTES` of
a chunk are read, at most `MOST_CHUNKS` chunks are visited, and a chunk that ends behind the file ends the search.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 1 << 20
MOST_CHUNKS = 1000
WANTED = (b"guan", b"wamd", b"LIST", b"junk")
_LONG = 0xFFFFFFFF


@dataclass
class Chunks:
    """What was found.

    Attributes:
      guano, wamd: contents of the chunks of these names, b"" where there is none.
      info: texts of the INFO list by their name (ICMT, IART).
      comments: comments of FLAC by their name in capitals.
      notes: a sentence for whatever was cut or damaged.
    """

    guano: bytes = b""
    wamd: bytes = b""
    info: dict[str, str] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: bytes, content: bytes) -> None:
        """Takes the content of a chunk; the first of a name counts."""
        if name == b"guan":
            self.guano = self.guano or content
        elif name == b"wamd" or (name == b"junk" and content.startswith(b"\0\0\2\0\0\0\1\0")):
            self.wamd = self.wamd or content  # Song Meters reserve room as junk, some of them with the metadata in it
        elif name == b"LIST" and content.startswith(b"INFO"):
            for inner, text in _chunks_in(content[4:]):
                self.info.setdefault(inner.decode("latin-1"), decode_text(text))


def read_chunks(path: Path) -> Chunks:
    """The metadata of a file; empty for other kinds of file.

    Raises:
      OSError: the file cannot be read.
    """
    found = Chunks()
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:] == b"WAVE":
            _read_riff(file, size, found)
        elif head[:4] == b"fLaC":
            file.seek(4)
            _read_flac(file, size, found)
    return found


def decode_text(content: bytes) -> str:
    """UTF-8, or Latin-1 where it is none; up to the first NUL, without blanks around it."""
    content = content.split(b"\0", 1)[0]
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return content.decode("latin-1").strip()


def _read_riff(file: BinaryIO, size: int, found: Chunks) -> None:
    long_sizes: dict[bytes, int] = {}
    place = 12
    for _ in range(MOST_CHUNKS):
        file.seek(place)
        header = file.read(8)
        if len(header) < 8:
            return
        name, length = header[:4], struct.unpack("<I", header[4:])[0]
        if name == b"ds64":
            sizes = file.read(16)
            if len(sizes) == 16:
                long_sizes[b"data"] = struct.unpack("<8xQ", sizes)[0]
        elif name in WANTED:
            found.add(name, _content(file, name, length, size - place - 8, found))
        if length == _LONG:
            length = long_sizes.get(name, length)
        place += 8 + length + length % 2
        if place > size + 1:
            if name != b"data":
                found.notes.append(f"its chunk {name.decode('latin-1')!r} is longer than the file")
            return
    found.notes.append(f"it has more than {MOST_CHUNKS} chunks; the others were not read")


def _content(file: BinaryIO, name: bytes, length: int, held: int, found: Chunks) -> bytes:
    if min(length, held) > MOST_BYTES and name != b"junk":
        found.notes.append(
            f"its chunk {name.decode('latin-1')!r} has {min(length, held)} bytes; the first {MOST_BYTES} were read"
        )
    return file.read(min(length, MOST_BYTES))


def _chunks_in(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of the chunks of a list; the last may be cut."""
    place = 0
    for _ in range(MOST_CHUNKS):
        if place + 8 > len(content):
            return
        name, length = struct.unpack_from("<4sI", content, place)
        yield name, content[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _read_flac(file: BinaryIO, size: int, found: Chunks) -> None:
    for _ in range(MOST_CHUNKS):
        header = file.read(4)
        if len(header) < 4:
            return
        kind, length = header[0] & 0x7F, int.from_bytes(header[1:], "big")
        start = file.tell()
        content = file.read(min(length, MOST_BYTES)) if kind in (2, 4) else b""
        if kind == 4:
            _add_comments(content, found)
        elif content.startswith(b"riff") and content[4:8] in WANTED:
            found.add(content[4:8], content[12:])
        if header[0] & 0x80 or start + length >= size:
            return
        file.seek(start + length)


def _add_comments(content: bytes, found: Chunks) -> None:
    """Comments of the form NAME=text, each behind its length; the vendor's name stands first."""
    place = 0
    for number in range(MOST_CHUNKS):
        if place + 4 > len(content):
            return
        length = struct.unpack_from("<I", content, place)[0]
        text = content[place + 4 : place + 4 + length]
        place += 4 + length
        if number == 0:
            found.comments["VENDOR"] = decode_text(text)
            place += 4  # the number of comments
        else:
            name, equals, value = decode_text(text).partition("=")
            if equals:
                found.comments.setdefault(name.upper(), value.strip())
