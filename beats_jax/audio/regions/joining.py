"""Boxes that start and end together are parts of one sound: harmonics, and pieces of one broad call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOGETHER = 0.4  # shared time over the time of both; weaker harmonics are shorter
WITHIN, LEAST, WEAK = 0.8, 0.2, 10.0  # or mostly inside, not much shorter, and 10 dB weaker: a fragment


@dataclass(frozen=True)
class Found:
    """A box in frames and rows of the whole recording, with the power of its sound and of the noise in it."""

    first: int
    last: int
    low: int
    high: int
    signal: float
    noise: float


def join_harmonics(boxes: Sequence[Found]) -> list[Found]:
    """One box for each loud box and those at its time: the loudest takes its partners first. In order of starts."""
    first, last = (np.array([getattr(one, name) for one in boxes], np.int64) for name in ("first", "last"))
    power = np.array([one.signal for one in boxes])
    free = np.ones(len(boxes), bool)
    joined = []
    for row in np.argsort(-power, kind="stable"):
        if not free[row]:
            continue
        shared = np.minimum(last, last[row]) - np.maximum(first, first[row]) + 1
        both = np.maximum(last, last[row]) - np.minimum(first, first[row]) + 1
        within = (shared >= WITHIN * (last - first + 1)) & (shared >= LEAST * both) & (power < power[row] / WEAK)
        members = np.flatnonzero(free & ((shared >= TOGETHER * both) | within))
        free[members] = False
        joined.append(_around([boxes[place] for place in members.tolist()]))
    return in_order(joined)


def in_order(boxes: Sequence[Found]) -> list[Found]:
    """By start, then from low to high."""
    return sorted(boxes, key=lambda one: (one.first, one.low))


def settled(boxes: Sequence[Found], before: int, harmonics: bool) -> int:
    """How many of the boxes, which are in order, neither change by boxes that start at frame `before` or later nor follow one."""
    if not harmonics:
        return sum(one.first < before for one in boxes)
    # A later box shares at most last - before + 1 frames, and partners share LEAST of both, or more.
    waiting = [
        place
        for place, one in enumerate(boxes)
        if one.last - before + 1 >= LEAST * (one.last - one.first + 1) or one.first >= before
    ]
    while waiting and (reach := [place for place in range(waiting[0]) if boxes[place].last >= boxes[waiting[0]].first]):
        waiting.insert(0, reach[0])  # it may still join the one that waits
    return waiting[0] if waiting else len(boxes)


def _around(boxes: Sequence[Found]) -> Found:
    return Found(
        min(one.first for one in boxes),
        max(one.last for one in boxes),
        min(one.low for one in boxes),
        max(one.high for one in boxes),
        sum(one.signal for one in boxes),
        sum(one.noise for one in boxes),
    )
