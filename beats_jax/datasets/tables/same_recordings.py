"""Recordings under two names: tables made on two machines name one file by two paths."""

from __future__ import annotations

import ntpath
import unicodedata
from collections.abc import Iterable

from beats_jax.audio.decoding.file_kinds import AUDIO_SUFFIXES
from beats_jax.errors import UserError


def match_recordings(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """name → the one of `others` whose path ends alike; names without one are left out.

    File names must be the same, but for a suffix that one of them lacks (HawkEars, label tracks); of several, the one with the
    longest common end counts, but for those that other names share more with.

    Raises:
      UserError: a name has two partners, or two names have one, and their ends are equally long.
    """
    known: dict[str, dict[str, tuple[str, ...]]] = {}
    for other in others:
        parts = _parts(other)
        known.setdefault(_stem(parts[0]), {})[other] = parts
    nearest: dict[str, tuple[int, list[str]]] = {}  # name → (parts in common, the others with as many)
    for name in dict.fromkeys(names):
        parts = _parts(name)
        common = {other: _in_common(parts, its) for other, its in known.get(_stem(parts[0]), {}).items()}
        if most := max(common.values(), default=0):
            nearest[name] = most, sorted(other for other, length in common.items() if length == most)
    held: dict[str, tuple[int, str]] = {}  # other → (parts in common, name)
    for name, (length, candidates) in sorted(nearest.items(), key=lambda item: -item[1][0]):
        free = [other for other in candidates if other not in held or held[other][0] == length]
        if len(free) > 1:
            raise UserError(f"{name} may be {free[0]} or {free[1]}; write the folder into the table")
        if free and free[0] in held:
            raise UserError(f"{free[0]} may be {held[free[0]][1]} or {name}; write the folder into the table")
        held |= dict.fromkeys(free, (length, name))
    found = {name: other for other, (_, name) in held.items()}
    return {name: found[name] for name in nearest if name in found}


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path of any system, the last one first, as `plain_name` writes them."""
    return tuple(part for part in reversed(plain_name(path).replace("\\", "/").split("/")) if part not in ("", "."))


def plain_name(name: str) -> str:
    """The name without case, accents composed: two names that another system may give to one file become equal."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    stem, suffix = ntpath.splitext(name)
    return stem if suffix.lower() in AUDIO_SUFFIXES else name


def _in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Parts at the end that are the same; 0 where the file names differ."""
    if one[0] != other[0] and (_stem(one[0]) == one[0]) == (_stem(other[0]) == other[0]):
        return 0
    length = 1
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length
