"""Recordings under two names: tables made on two machines name one file by two paths."""

from __future__ import annotations

import ntpath
from collections.abc import Iterable

from beats_jax.audio.decoding.file_kinds import AUDIO_SUFFIXES
from beats_jax.errors import UserError


def match_recordings(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """name → the one of `others` whose path ends alike; names without one are left out.

    File names must be the same, but for a suffix that one of them lacks (HawkEars, label tracks); of several, the one with the
    longest common end counts.

    Raises:
      UserError: a name has two partners, or two names have one, and their ends are equally long.
    """
    known: dict[str, list[tuple[str, ...]]] = {}
    paths = {_parts(other): other for other in others}
    for parts in paths:
        known.setdefault(_stem(parts[0]), []).append(parts)
    best: dict[str, tuple[int, str]] = {}  # other → (parts in common, name)
    for name in dict.fromkeys(names):
        parts = _parts(name)
        ranked = sorted(((_in_common(parts, other), paths[other]) for other in known.get(_stem(parts[0]), ())), reverse=True)
        ranked = [found for found in ranked if found[0]]
        if not ranked:
            continue
        length, other = ranked[0]
        if len(ranked) > 1 and ranked[1][0] == length:
            raise UserError(f"{name} may be {other} or {ranked[1][1]}; write the folder into the table")
        held = best.get(other)
        if held is not None and held[0] == length:
            raise UserError(f"{other} may be {held[1]} or {name}; write the folder into the table")
        if held is None or held[0] < length:
            best[other] = (length, name)
    return {name: other for other, (_, name) in best.items()}


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path of any system, the last one first."""
    return tuple(part for part in reversed(path.replace("\\", "/").split("/")) if part not in ("", "."))


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
