"""Regions of a stream of samples, in bounded memory, without cuts where the stretches of analysis meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from beats_jax.audio.regions.boxes import Boxes, close_gaps, components, hysteresis
from beats_jax.audio.regions.levels import Levels, Plan, levels_of
from beats_jax.audio.regions.settings import RegionSettings

MEAN_OF_NOISE_DB = {"median": 1.592, "quiet": 1.592, "mean": 2.507}  # mean power of Gaussian noise above its median, mean of dB


@dataclass(frozen=True, order=True)
class Region:
    """A box in a recording: seconds from its start, Hz, and how far its sound lies above the noise.

    `snr_db` is 10 log10 (S / N) inside the box: N, the power of the noise there (of each row, its background as the mean of
    Gaussian noise), S, what the power exceeds N by.
    """

    start: float
    end: float
    low_hz: float
    high_hz: float
    snr_db: float


@dataclass(frozen=True)
class Found:
    """A box in frames and rows of the whole recording, with the power of its sound and of the noise in it."""

    first: int
    last: int
    low: int
    high: int
    signal: float
    noise: float


def search(blocks: Iterator[np.ndarray], plan: Plan, settings: RegionSettings) -> Iterator[Region]:
    """Regions of a recording in order of their starts.

    Args:
      blocks: float32 [n] each, in order, at `plan.rate`.
      settings: without None.
    """
    found = _separate(blocks, plan, settings) if settings.separate_chunks else _joined(blocks, plan, settings)
    for offset, boxes in found:
        for one in boxes:
            if _fits(one, plan, settings):
                yield _region(one, offset, plan)


def _separate(blocks: Iterator[np.ndarray], plan: Plan, settings: RegionSettings) -> Iterator[tuple[int, list[Found]]]:
    """(first sample of the stretch, its boxes): each stretch by itself."""
    length = int(settings.chunk_seconds * plan.rate)
    for start, samples in _stretches(blocks, length, length, 0):
        if not plan.frames(len(samples)):
            continue
        levels = levels_of(samples, plan, settings)
        level = levels.power - levels.background
        mask, _ = hysteresis(level, settings.edge_db, settings.seed_db)
        _, boxes = components(close_gaps(mask, *_reach(plan, settings), to_border=True))
        yield start, _measure(boxes, levels.power, np.broadcast_to(levels.background, level.shape), settings, 0)


def _joined(blocks: Iterator[np.ndarray], plan: Plan, settings: RegionSettings) -> Iterator[tuple[int, list[Found]]]:
    """(0, boxes that are complete and in order), as stretches come."""
    frames = max(1, round(settings.chunk_seconds / plan.frame_seconds))
    overlap = plan.fft - plan.hop
    stretches = _stretches(blocks, frames * plan.hop + overlap, frames * plan.hop, (frames // 2) * plan.hop)
    joiner = Joiner(plan, settings)
    for _, samples in stretches:
        if plan.frames(len(samples)):
            yield 0, joiner.add(levels_of(samples, plan, settings))
    yield 0, joiner.finish()


class Joiner:
    """Grows the mask stretch by stretch, and gives a box once nothing that comes later can change it."""

    def __init__(self, plan: Plan, settings: RegionSettings) -> None:
        self.settings = settings
        self.reach = _reach(plan, settings)
        self.longest = max(1, round(settings.max_seconds / plan.frame_seconds))
        self.offset = 0  # frame of the recording at which the held ones begin
        self.power = np.zeros((0, len(plan.hz)), np.float32)
        self.background = np.zeros_like(self.power)
        self.done = np.zeros(self.power.shape, bool)  # pixels of boxes that were given
        self.waiting: list[Found] = []

    def add(self, levels: Levels) -> list[Found]:
        """The boxes that are complete with one more stretch, those of an earlier start first."""
        self.power = np.concatenate([self.power, levels.power])
        self.background = np.concatenate([self.background, np.broadcast_to(levels.background, levels.power.shape)])
        self.done = np.concatenate([self.done, np.zeros(levels.power.shape, bool)])
        return self._settle(ended=False)

    def finish(self) -> list[Found]:
        """The boxes that remain when the sound has ended."""
        return self._settle(ended=True)

    def _settle(self, ended: bool) -> list[Found]:
        length = len(self.power)
        if not length:
            return self._in_order(None)
        level = np.where(self.done, -np.inf, self.power - self.background)
        mask, open_pixels = hysteresis(level, self.settings.edge_db, self.settings.seed_db, open_end=not ended)
        labels, boxes = components(close_gaps(mask, *self.reach))
        final = np.ones(len(boxes), bool)
        if not ended:
            final = boxes.last < length - 1 - 2 * self.reach[0]
            final[np.unique(labels[open_pixels]) - 1] = False
            final |= length - boxes.first > self.longest  # cut here
        given = boxes.take(final)
        if not ended:  # an open component without a seed is none
            given = given.take(_with_seed(labels, level > self.settings.seed_db, len(boxes))[final])
        self.waiting += _measure(given, self.power, self.background, self.settings, self.offset)
        rest = boxes.first[~final]
        start = int(rest.min()) if len(rest) else length
        answer = self._in_order(self.offset + start if not ended else None)
        self.done |= np.append(False, final)[labels]
        self._forget(start)
        return answer

    def _forget(self, frames: int) -> None:
        self.offset += frames
        self.power, self.background, self.done = (part[frames:].copy() for part in (self.power, self.background, self.done))

    def _in_order(self, before: int | None) -> list[Found]:
        """Takes out the waiting boxes that start before a frame."""
        ordered = sorted(self.waiting, key=lambda one: (one.first, one.low))
        count = sum(before is None or one.first < before for one in ordered)
        self.waiting = ordered[count:]
        return ordered[:count]


def _with_seed(labels: np.ndarray, seeds: np.ndarray, count: int) -> np.ndarray:
    """bool [count]: whether a pixel of each label is a seed."""
    found = np.zeros(count + 1, bool)
    found[labels[seeds]] = True
    return found[1:]


def _measure(boxes: Boxes, power: np.ndarray, background: np.ndarray, settings: RegionSettings, offset: int) -> list[Found]:
    above = np.float32(MEAN_OF_NOISE_DB[settings.background])
    found = []
    for first, last, low, high in zip(boxes.first, boxes.last, boxes.low, boxes.high, strict=True):
        inside = slice(first, last + 1), slice(low, high + 1)
        noise = float(np.sum(10 ** ((background[inside] + above) / 10), dtype=np.float64))
        sound = float(np.sum(10 ** (power[inside] / 10), dtype=np.float64))
        found.append(Found(int(first) + offset, int(last) + offset, int(low), int(high), max(sound - noise, 1e-3 * noise), noise))
    return found


def _reach(plan: Plan, settings: RegionSettings) -> tuple[int, int]:
    """Half-sizes of the closing rectangle in frames and rows."""
    assert settings.join_seconds is not None and settings.join_hz is not None
    return round(settings.join_seconds / plan.frame_seconds), round(settings.join_hz / plan.row_hz)


def _fits(box: Found, plan: Plan, settings: RegionSettings) -> bool:
    assert settings.min_seconds is not None
    frames, rows = box.last - box.first, box.high - box.low
    if frames <= 0 or rows <= 0 or frames * plan.frame_seconds <= settings.min_seconds:
        return False
    return not settings.max_ratio or rows / frames < settings.max_ratio


def _region(box: Found, offset: int, plan: Plan) -> Region:
    """From the middle of the first frame to that of the last, and of the lowest row to the highest, as upstream."""
    start, end = ((offset + frame * plan.hop + plan.fft / 2) / plan.rate for frame in (box.first, box.last))
    snr = 10 * float(np.log10(box.signal / box.noise))
    return Region(start, end, float(plan.hz[box.low]), float(plan.hz[box.high]), snr)


def _stretches(blocks: Iterator[np.ndarray], length: int, step: int, rest: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples [length]) every `step` samples; an end of up to `rest` samples belongs to the stretch before it."""
    held: list[np.ndarray] = []
    start = count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        while count >= length + rest + 1:
            samples = np.concatenate(held)
            yield start, samples[:length]
            held = [samples[step:]]
            start, count = start + step, count - step
    if count:
        yield start, np.concatenate(held)
