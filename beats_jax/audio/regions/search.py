"""Regions of a stream of samples, in bounded memory, without cuts where the stretches of analysis meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from beats_jax.audio.regions.boxes import Boxes, close_gaps, components, hysteresis
from beats_jax.audio.regions.joining import Found, in_order, join_harmonics, settled
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
        mask, _ = hysteresis(levels.power / levels.background, plan.threshold)
        _, boxes = components(close_gaps(mask, *plan.reach, to_border=True))
        found = _measure(boxes, levels.power, Noise.of(levels, settings), 0)
        yield start, join_harmonics(found) if settings.join_harmonics else found


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
        self.plan, self.settings = plan, settings
        self.longest = max(1, round(settings.max_seconds / plan.frame_seconds))
        self.offset = 0  # frame of the recording at which the held ones begin
        self.power = np.zeros((0, len(plan.hz)), np.float32)
        self.level = np.zeros_like(self.power)  # over the background; 0 in boxes that were given
        self.noise = Noise(np.zeros((0, len(plan.hz)), np.float32), np.zeros(0, np.int64))
        self.waiting: list[Found] = []

    def add(self, levels: Levels) -> list[Found]:
        """The boxes that are complete with one more stretch, those of an earlier start first."""
        self.power = np.concatenate([self.power, levels.power])
        self.level = np.concatenate([self.level, levels.power / levels.background])
        self.noise = self.noise.followed_by(Noise.of(levels, self.settings))
        return self._settle(ended=False)

    def finish(self) -> list[Found]:
        """The boxes that remain when the sound has ended."""
        return self._settle(ended=True) if len(self.power) else self._in_order(None)

    def _settle(self, ended: bool) -> list[Found]:
        length = len(self.power)
        mask, open_pixels = hysteresis(self.level, self.plan.threshold, open_end=not ended)
        # The rest is decided, and stays so when a part of it is given and the level of its loudest pixel with it.
        decided = np.where(mask, np.float32(1.001 * self.plan.threshold.seed), np.float32(0))
        decided.ravel()[open_pixels] = self.level.ravel()[open_pixels]
        self.level = decided
        labels, boxes = components(close_gaps(mask, *self.plan.reach))
        final = np.ones(len(boxes), bool)
        if not ended:
            final = boxes.last < length - 1 - 2 * self.plan.reach[0]
            final[np.unique(labels.ravel()[open_pixels]) - 1] = False
            final |= length - boxes.first > self.longest  # cut here
        with_seed = np.zeros(len(boxes) + 1, bool)  # an open component without one is no region
        with_seed[labels[self.level > self.plan.threshold.seed]] = True
        self.waiting += _measure(boxes.take(final & with_seed[1:]), self.power, self.noise, self.offset)
        rest = boxes.first[~final]
        start = int(rest.min()) if len(rest) else length
        self.level = np.where(np.append(False, final)[labels[start:]], np.float32(0), self.level[start:])
        self.power, self.noise = self.power[start:].copy(), self.noise.since(start)
        self.offset += start
        return self._in_order(None if ended else self.offset)

    def _in_order(self, before: int | None) -> list[Found]:
        """Takes out the waiting boxes that nothing changes which starts at frame `before` or later, by start."""
        ordered = in_order(self.waiting)
        harmonics = bool(self.settings.join_harmonics)
        count = len(ordered) if before is None else settled(ordered, before, harmonics)
        self.waiting = ordered[count:]
        return join_harmonics(ordered[:count]) if harmonics else ordered[:count]


@dataclass(frozen=True)
class Noise:
    """Mean power of the noise: float32 [K, F] of K stretches, and int64 [T], the stretch of each frame."""

    rows: np.ndarray
    stretch: np.ndarray

    @classmethod
    def of(cls, levels: Levels, settings: RegionSettings) -> Noise:
        """Of one stretch."""
        rows = levels.background * np.float32(10 ** (MEAN_OF_NOISE_DB[settings.background] / 10))
        return cls(rows[None], np.zeros(len(levels.power), np.int64))

    def followed_by(self, other: Noise) -> Noise:
        """Both, one after the other."""
        return Noise(np.concatenate([self.rows, other.rows]), np.concatenate([self.stretch, other.stretch + len(self.rows)]))

    def since(self, frame: int) -> Noise:
        """Without the frames before one, and without the stretches of which no frame is left."""
        stretch = self.stretch[frame:]
        first = int(stretch[0]) if len(stretch) else len(self.rows)
        return Noise(self.rows[first:], stretch - first)

    def within(self, first: int, last: int, low: int, high: int) -> float:
        """Sum over a box."""
        frames = np.bincount(self.stretch[first : last + 1], minlength=len(self.rows))
        return float(frames @ self.rows[:, low : high + 1].sum(axis=1, dtype=np.float64))


def _measure(boxes: Boxes, power: np.ndarray, noise: Noise, offset: int) -> list[Found]:
    found = []
    for bounds in zip(boxes.first.tolist(), boxes.last.tolist(), boxes.low.tolist(), boxes.high.tolist(), strict=True):
        first, last, low, high = bounds
        expected = noise.within(*bounds)
        sound = float(power[first : last + 1, low : high + 1].sum(dtype=np.float64))
        found.append(Found(first + offset, last + offset, low, high, max(sound - expected, 1e-3 * expected), expected))
    return found


def _fits(box: Found, plan: Plan, settings: RegionSettings) -> bool:
    frames, rows = box.last - box.first, box.high - box.low
    if frames <= 0 or rows <= 0 or frames * plan.frame_seconds <= plan.min_seconds:
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
