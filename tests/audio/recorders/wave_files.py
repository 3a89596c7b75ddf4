"""WAV and FLAC files with any chunks, made byte by byte."""

import struct
from pathlib import Path

FORMAT = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)


def chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    """A chunk; `length` is what it claims, if that is not so."""
    return name + struct.pack("<I", len(content) if length is None else length) + content + b"\0" * (len(content) % 2)


def info(**texts: str) -> bytes:
    """An INFO list."""
    return chunk(b"LIST", b"INFO" + b"".join(chunk(name.encode(), text.encode() + b"\0") for name, text in texts.items()))


def wave(path: Path, *chunks: bytes, samples: int = 8, behind: bytes = b"") -> Path:
    """A WAV with these chunks before its sound, and others behind it."""
    body = b"WAVE" + chunk(b"fmt ", FORMAT) + b"".join(chunks) + chunk(b"data", bytes(2 * samples)) + behind
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def flac(path: Path, comments: dict[str, str], vendor: str = "Frontier Labs", foreign: bytes = b"") -> Path:
    """The metadata blocks of a FLAC; it has no sound."""
    pairs = [f"{name}={text}".encode() for name, text in comments.items()]
    body = struct.pack("<I", len(vendor)) + vendor.encode() + struct.pack("<I", len(pairs))
    body += b"".join(struct.pack("<I", len(pair)) + pair for pair in pairs)
    blocks = [(0, bytes(34)), *([(2, b"riff" + foreign)] if foreign else []), (4, body)]
    head = b"".join(
        bytes([kind | (0x80 if place == len(blocks) - 1 else 0)]) + len(content).to_bytes(3, "big") + content
        for place, (kind, content) in enumerate(blocks)
    )
    path.write_bytes(b"fLaC" + head)
    return path


def wamd(**fields: bytes) -> bytes:
    """A wamd chunk from fields by number, such as _01=b"SM4"."""
    pairs = [(0, struct.pack("<H", 1)), *((int(name[1:], 16), content) for name, content in fields.items())]
    return chunk(b"wamd", b"".join(struct.pack("<HI", number, len(content)) + content for number, content in pairs))
