"""Recordings to batches of windows: every file is decoded once, in order, by threads, in memory for a few batches.

    stretches of files ─groups: neighbouring stretches of one file share a decoder─> threads ─blocks─> cutters ─windows─>
    one queue a group, read in the order of the files ─> WindowBatch, always of one shape

A stretch that cannot be read to its end has an error beside its batch; nothing of it is lost or stops the others.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Container, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from beats_jax.audio.io import AudioError, blocks
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid

NO_ROW = -1  # `row` of what fills the last batch up
GAP_SECONDS = 30.0  # between two stretches of one file: to decode so much in vain is cheaper than to open the file again
STOP_SECONDS = 0.1  # how often a waiting thread looks whether anybody still wants its windows


class Stretches(Protocol):
    """Stretches of recordings, N rows: a manifest, regions, or `Recordings` of whole files. A row's number is its identity."""

    @property
    def files(self) -> np.ndarray:
        """Texts [N], paths."""
        ...

    @property
    def starts(self) -> np.ndarray:
        """float64 [N], seconds; NaN = start of the file."""
        ...

    @property
    def ends(self) -> np.ndarray:
        """float64 [N], seconds; NaN = end of the sound, wherever the decoder finds it."""
        ...


@dataclass(frozen=True)
class Recordings:
    """`Stretches` made of arrays."""

    files: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of_files(cls, files: Sequence[str | os.PathLike[str]]) -> Recordings:
        """Whole files."""
        whole = np.full(len(files), np.nan)
        return cls(np.array([os.fspath(file) for file in files], np.dtypes.StringDType()), whole, whole)


@dataclass(frozen=True)
class WindowBatch:
    """Windows of one shape, b of them; the last batch is filled up with zeros.

    Attributes:
      waveforms: float32 [b, S], zeros behind each sound. lengths: int32 [b], samples of sound.
      row: int64 [b], the stretch; `NO_ROW` = nothing. number: int32 [b], place of the window in its stretch, from 0.
      start: float64 [b], seconds from the start of the file. seconds: float64 [b], length of the sound.
      finished: rows of which nothing more will come.
      errors: (row, why it could not be read to its end); such rows are among `finished`.
    """

    waveforms: np.ndarray
    lengths: np.ndarray
    row: np.ndarray
    number: np.ndarray
    start: np.ndarray
    seconds: np.ndarray
    finished: tuple[int, ...] = ()
    errors: tuple[tuple[int, AudioError], ...] = ()


@dataclass(frozen=True)
class _Window:
    row: int
    number: int
    start: int  # samples from the start of the file
    sound: np.ndarray


@dataclass(frozen=True)
class _Finished:
    row: int
    error: AudioError | None = None


@dataclass(frozen=True)
class _Group:
    """Rows of one file that one pass of the decoder serves."""

    file: str
    rows: tuple[int, ...]
    start: float
    end: float | None


class _Cutter:
    """Cuts one stretch into the windows of a grid while its sound arrives; keeps two windows of it at most."""

    def __init__(self, row: int, first: int, end: int | None, grid: Grid, sample_rate: int) -> None:
        self.row, self.first, self.end = row, first, end
        self._grid, self._rate, self._window = grid, sample_rate, grid.window_samples(sample_rate)
        self._held = np.zeros(0, np.float32)
        self._at = first  # of held[0], in samples of the file
        self._given = 0
        self._covered = first  # where the last window ended

    def feed(self, position: int, block: np.ndarray) -> Iterator[_Window]:
        """Takes the sound that starts at `position`; gives the windows that are full now."""
        low = max(self.first - position, 0)
        high = len(block) if self.end is None else min(len(block), self.end - position)
        if low >= high:
            return
        self._held = np.concatenate([self._held, block[low:high]])
        reached = self._at + len(self._held)
        while (start := self._next_start()) + self._window <= reached:
            yield self._window_at(start, start + self._window)
        kept = min(self._next_start(), reached - self._window)  # what the next window needs, or one that ends here
        if kept > self._at:
            self._held, self._at = self._held[kept - self._at :].copy(), kept

    def finish(self) -> Iterator[_Window]:
        """Gives what `Grid.tail` makes of the sound behind the last full window."""
        reached, start = self._at + len(self._held), self._next_start()
        if not self._given and reached > self.first:
            yield self._window_at(self.first, reached)
        elif self._given and reached > max(self._covered, start) and self._grid.tail != "drop":
            yield self._window_at(reached - self._window if self._grid.tail == "shift" else start, reached)

    @property
    def is_empty(self) -> bool:
        """Whether no window was given."""
        return not self._given

    def _next_start(self) -> int:
        return self.first + self._grid.start_sample(self._given, self._rate)

    def _window_at(self, start: int, end: int) -> _Window:
        window = _Window(self.row, self._given, start, self._held[start - self._at : end - self._at].copy())
        self._given, self._covered = self._given + 1, end
        return window


def window_batches(
    recordings: Stretches,
    grid: Grid,
    audio: AudioConfig,
    batch_size: int,
    *,
    samples: int = 0,
    skip: Container[int] = (),
    threads: int = 4,
    host_index: int = 0,
    host_count: int = 1,
) -> Generator[WindowBatch, None, None]:
    """Every window of every stretch once: files in their order, windows of a stretch in order.

    Args:
      samples: S of the batches; 0 = a window of the grid. Stretches that are known to be shorter than a window may be given less,
        so that no padding is computed; where one turns out to be longer, batches are a window long from there on, compiled
        once more.
      skip: rows that are not wanted.
      threads: recordings that are decoded at once.
      host_index, host_count: every host gets whole groups of neighbouring stretches; hosts may give different numbers of batches.
    Yields:
      batches of `batch_size` rows. Closing the generator stops the threads.
    Raises:
      UserError: a batch size that is not positive.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1")
    groups = _groups(recordings, skip)[host_index::host_count]
    window = grid.window_samples(audio.sample_rate)
    packer = _Packer(batch_size, samples or window, window, audio.sample_rate)
    with closing(_read_groups(groups, recordings, grid, audio, max(1, threads), ahead=max(4, batch_size))) as items:
        for item in items:
            yield from packer.add(item)
    yield from packer.flush()


def _groups(recordings: Stretches, skip: Container[int]) -> list[_Group]:
    """Neighbouring rows of one file, in order of their starts and with ends that are known, as one group."""
    groups: list[_Group] = []
    starts = np.nan_to_num(np.asarray(recordings.starts, np.float64), nan=0.0).tolist()
    ends = np.asarray(recordings.ends, np.float64).tolist()
    for row, (file, start, end) in enumerate(zip(map(str, recordings.files.tolist()), starts, ends, strict=True)):
        if row in skip:
            continue
        known = None if end != end else end
        last = groups[-1] if groups else None
        near = last is not None and last.file == file and last.end is not None and last.start <= start <= last.end + GAP_SECONDS
        if last is not None and last.end is not None and known is not None and near:
            groups[-1] = _Group(file, (*last.rows, row), last.start, max(last.end, known))
        else:
            groups.append(_Group(file, (row,), start, known))
    return groups


def _read_groups(
    groups: Sequence[_Group], recordings: Stretches, grid: Grid, audio: AudioConfig, threads: int, ahead: int
) -> Generator[_Window | _Finished, None, None]:
    """What the groups give, in their order; the next ones are decoded meanwhile, `ahead` windows of each at most."""
    stopped = threading.Event()
    waiting: deque[tuple[threading.Thread, queue.Queue[Any]]] = deque()
    pending = iter(groups)

    def begin() -> None:
        group = next(pending, None)
        if group is None:
            return
        items: queue.Queue[Any] = queue.Queue(ahead)
        reader = threading.Thread(target=_read_into, args=(items, stopped, group, recordings, grid, audio), daemon=True)
        reader.start()
        waiting.append((reader, items))

    try:
        for _ in range(threads):
            begin()
        while waiting:
            items = waiting[0][1]
            while (item := items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
            waiting.popleft()
            begin()
    finally:
        stopped.set()
        for reader, _ in waiting:
            reader.join()


def _read_into(
    items: queue.Queue[Any], stopped: threading.Event, group: _Group, recordings: Stretches, grid: Grid, audio: AudioConfig
) -> None:
    """The work of one thread: all that a group gives, then None. A fault of our own is handed to the caller, who raises it."""

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=STOP_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    try:
        with closing(_read_group(group, recordings, grid, audio)) as found:
            for item in found:
                if not put(item):
                    return
        put(None)
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
        put(error)


def _read_group(
    group: _Group, recordings: Stretches, grid: Grid, audio: AudioConfig
) -> Generator[_Window | _Finished, None, None]:
    """The windows of a group's stretches as its file is decoded, and the end of each stretch."""
    rate = audio.sample_rate
    pending = deque(sorted((_cutter(row, recordings, grid, rate) for row in group.rows), key=lambda cutter: cutter.first))
    active: list[_Cutter] = []
    position = round(group.start * rate)
    try:
        found = blocks(group.file, sample_rate=rate, channel=audio.channel, start_seconds=group.start, end_seconds=group.end)
        for block in found:
            while pending and pending[0].first < position + len(block):
                active.append(pending.popleft())
            for cutter in active:
                yield from cutter.feed(position, block)
            position += len(block)
            for cutter in [cutter for cutter in active if cutter.end is not None and cutter.end <= position]:
                active.remove(cutter)
                yield from _end(cutter, group.file)
        for cutter in (*active, *pending):
            yield from _end(cutter, group.file)
    except (UserError, OSError) as error:  # OSError: the disk went away
        reason = error.reason if isinstance(error, AudioError) else f"cannot be read: {error}"
        for cutter in (*active, *pending):
            yield _Finished(cutter.row, AudioError(group.file, reason))


def _cutter(row: int, recordings: Stretches, grid: Grid, sample_rate: int) -> _Cutter:
    start, end = float(recordings.starts[row]), float(recordings.ends[row])
    first = 0 if np.isnan(start) else round(start * sample_rate)
    return _Cutter(row, first, None if np.isnan(end) else max(round(end * sample_rate), first + 1), grid, sample_rate)


def _end(cutter: _Cutter, file: str) -> Iterator[_Window | _Finished]:
    yield from cutter.finish()
    nothing = AudioError(file, "the stretch starts behind the end of the sound") if cutter.is_empty else None
    yield _Finished(cutter.row, nothing)


@dataclass
class _Packer:
    """Puts windows together to batches. A full batch waits for the next window, so that it carries the ends of its rows."""

    batch_size: int
    samples: int
    window: int
    sample_rate: int
    windows: list[_Window] = field(default_factory=list)
    finished: list[_Finished] = field(default_factory=list)

    def add(self, item: _Window | _Finished) -> Iterator[WindowBatch]:
        """Takes an item; gives the batch that it makes complete."""
        if isinstance(item, _Finished):
            self.finished.append(item)
            return
        if len(self.windows) == self.batch_size:
            yield self._batch()
        self.windows.append(item)

    def flush(self) -> Iterator[WindowBatch]:
        """Gives the rest."""
        if self.windows or self.finished:
            yield self._batch()

    def _batch(self) -> WindowBatch:
        size, windows, rate = self.batch_size, self.windows, self.sample_rate
        lengths = np.zeros(size, np.int32)
        lengths[: len(windows)] = [len(window.sound) for window in windows]
        if lengths.max() > self.samples:
            self.samples = self.window
        waveforms = np.zeros((size, self.samples), np.float32)
        row, number, start = np.full(size, NO_ROW, np.int64), np.zeros(size, np.int32), np.zeros(size)
        for place, window in enumerate(windows):
            waveforms[place, : len(window.sound)] = window.sound
            row[place], number[place], start[place] = window.row, window.number, window.start / rate
        finished = tuple(item.row for item in self.finished)
        errors = tuple((item.row, item.error) for item in self.finished if item.error is not None)
        self.windows, self.finished = [], []
        return WindowBatch(waveforms, lengths, row, number, start, lengths / rate, finished, errors)
