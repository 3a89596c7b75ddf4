"""Finds the sound among the tags of an MP3 or ADTS file, and how many frames its Xing, Info or VBRI header promises.

FFmpeg skips only some of the tags: they lie before the sound (ID3v2), behind it (ID3v1, APE, Lyrics3) and, in files joined by
`cat`, inside it, and pictures in them hold patterns that it decodes as frames. So the tags are cut out here.
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO

from beats_jax.audio.decoding.byte_ranges import Range, SoundStream

VERSIONS = (0, 2, 3)  # 2.5, 2 and 1; 1 is reserved
LARGEST_PADDING = 1 << 16  # zeros behind a tag
BYTES_SLACK = 4_096  # encoders differ in what of the file they count


def looks_like_mpeg(head: bytes) -> bool:
    """Whether bytes begin with a tag or the sync word of MP3 or ADTS."""
    return head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def after_id3(file: BinaryIO) -> int:
    """First byte behind the ID3v2 tags that a file may begin with."""
    start = 0
    while True:
        file.seek(start)
        length = _id3_length(file.read(10))
        if not length:
            return start
        start += length


def mpeg_sound(file: BinaryIO, start: int, size: int) -> SoundStream:
    """The sound from byte `start` on, without tags, and the number of frames that its first frame promises.

    The middle is searched only where the byte count of the first frame differs from that of the file.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        padding = content[start : start + LARGEST_PADDING]
        start += len(padding) - len(padding.lstrip(b"\0"))
        stop = _before_last_tags(content, start, size)
        frames, held = _promise(content[start : start + 256])
        if held is not None and abs(held - (stop - start)) <= BYTES_SLACK:
            return SoundStream(((start, stop),), frames)
        ranges = []
        for tag_start, tag_stop in _tags_within(content, start, stop):
            if tag_start > start:
                ranges.append((start, tag_start))
            start = max(start, tag_stop)
        return SoundStream((*ranges, (start, max(start, stop))), frames)


def _id3_length(header: bytes) -> int:
    """Bytes of the ID3v2 tag with this header; 0 = it is no tag."""
    sizes = header[6:10]
    if len(header) < 10 or header[:3] != b"ID3" or header[3] > 4 or header[5] & 0x0F or max(sizes) > 0x7F:
        return 0
    length = sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3]
    return 10 + length + (10 if header[5] & 0x10 else 0)


def _before_last_tags(content: mmap.mmap, start: int, stop: int) -> int:
    while True:
        if content[stop - 128 : stop - 125] == b"TAG":
            length = 128
        elif content[stop - 32 : stop - 24] == b"APETAGEX":
            size, _, flags = struct.unpack("<3I", content[stop - 20 : stop - 8])
            length = size + (32 if flags & 1 << 31 else 0)
        elif content[stop - 9 : stop] == b"LYRICS200" and content[stop - 15 : stop - 9].isdigit():
            length = int(content[stop - 15 : stop - 9]) + 15
        else:
            return stop
        if not 0 < length <= stop - start:
            return stop
        stop -= length


def _tags_within(content: mmap.mmap, start: int, stop: int) -> list[Range]:
    """ID3v2, APE and ID3v1 tags between joined files. A frame or another tag must follow, or the bytes are sound by chance."""
    tags = []
    for mark in (b"ID3", b"APETAGEX", b"TAG"):
        place = content.find(mark, start, stop)
        while place >= 0:
            if mark == b"ID3":
                length = _id3_length(content[place : place + 10])
            elif mark == b"TAG":
                length = 128
            else:
                size, _, flags = struct.unpack("<3I", content[place + 12 : place + 24].ljust(12, b"\0"))
                length = size + 32 if flags & 1 << 29 else 0  # from the header of the tag; its footer lies within
            after = content[place + length : place + length + 8]
            if length and (looks_like_mpeg(after) or after[:3] == b"TAG" or after == b"APETAGEX"):
                tags.append((place, place + length))
            else:
                length = 1
            place = content.find(mark, place + length, stop)
    return sorted(tags)


def _promise(frame: bytes) -> tuple[int | None, int | None]:
    """(frames, bytes) that the Xing, Info or VBRI header in a first frame of Layer III counts; None where it does not."""
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2 or frame[1] >> 3 & 3 not in VERSIONS:
        return None, None
    version_1, mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    at = 4 + ((17 if mono else 32) if version_1 else (9 if mono else 17))
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags, first, second = struct.unpack(">3I", frame[at + 4 : at + 16])
        held = second if flags & 1 else first
        return (first if flags & 1 else None), (held if flags & 2 else None)
    if frame[36:40] == b"VBRI":
        held, frames = struct.unpack(">2I", frame[46:54])
        return frames, held
    return None, None
