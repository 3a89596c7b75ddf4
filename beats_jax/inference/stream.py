"""Recordings to batches of windows: every file is decoded once, in order, by threads, in memory for a few batches.

    stretches of files ─groups: neighbouring stretches of one file share a decoder─> threads ─blocks─> cutters ─windows─>
    one queue a group, read in the order of the files ─> WindowBatch, always of one shape

A stretch that cannot be read to its end has an error beside its batch. Its windows before the damage are given, and the other
stretches go on.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from beats_jax.audio.io import AudioError, blocks
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.inference.cutter import Cut, Cutter
from beats_jax.inference.grid import Grid

NO_ROW = -1  # `row` of the padding in the last batch
GAP_SECONDS = 30.0  # between two stretches of one file: decoding this much in vain costs less than opening the file again
STOP_SECONDS = 0.1  # how often a waiting thread checks whether the caller has stopped


class Stretches(Protocol):
    """Stretches of recordings, N rows: a manifest, regions, or `Recordings` of whole files. A row's number is its identity.

    Attributes:
      files: texts [N], paths. starts, ends: float64 [N], seconds; NaN = start of the file, end of what the decoder gives.
    """

    @property
    def files(self) -> np.ndarray: ...
    @property
    def starts(self) -> np.ndarray: ...
    @property
    def ends(self) -> np.ndarray: ...


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
        # Python's texts: a name that is not UTF-8 does not fit numpy's
        return cls(np.array([os.fspath(file) for file in files], object), whole, whole)


@dataclass(frozen=True)
class WindowBatch:
    """b windows of one shape; the last batch is padded with zeros.

    Attributes:
      waveforms: float32 [b, S], zeros behind each sound. lengths: int32 [b], samples of sound.
      row: int64 [b], the stretch; `NO_ROW` = padding. number: int32 [b], place of the window in its stretch, from 0.
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
class _End:
    """Nothing more will come of a row."""

    row: int
    error: AudioError | None = None


@dataclass
class _Group:
    """Rows of one file that one pass of the decoder serves."""

    file: str
    rows: list[int]
    start: float
    end: float  # NaN = end of the sound


Item = Cut | _End


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
      skip: rows to leave out.
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
    read = partial(_read_group, recordings=recordings, grid=grid, audio=audio)
    with closing(_read_groups(groups, read, max(1, threads), ahead=max(4, batch_size))) as items:
        yield from _pack(items, batch_size, samples or window, window, audio.sample_rate)


def _groups(recordings: Stretches, skip: Container[int]) -> list[_Group]:
    """Neighbouring rows of one file as one group, where they are in order of their starts and their ends are known."""
    groups: list[_Group] = []
    starts = np.nan_to_num(np.asarray(recordings.starts, np.float64), nan=0.0).tolist()
    ends = np.asarray(recordings.ends, np.float64).tolist()
    for row, (file, start, end) in enumerate(zip(map(str, recordings.files.tolist()), starts, ends, strict=True)):
        if row in skip:
            continue
        last = groups[-1] if groups else None
        near = last is not None and last.file == file and last.start <= start <= last.end + GAP_SECONDS  # False for a NaN
        if last is not None and near and not np.isnan(end):
            last.rows.append(row)
            last.end = max(last.end, end)
        else:
            groups.append(_Group(file, [row], start, end))
    return groups


Read = Callable[[_Group], Generator[Item, None, None]]


def _read_groups(groups: Sequence[_Group], read: Read, threads: int, ahead: int) -> Generator[Item, None, None]:
    """The items of the groups, in their order. The next groups are decoded meanwhile, at most `ahead` windows of each."""
    stopped = threading.Event()
    waiting: deque[tuple[threading.Thread, queue.Queue[Any]]] = deque()
    pending = iter(groups)

    def begin() -> None:
        group = next(pending, None)
        if group is None:
            return
        items: queue.Queue[Any] = queue.Queue(ahead)
        reader = threading.Thread(target=_read_into, args=(items, stopped, read, group), daemon=True)
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


def _read_into(items: queue.Queue[Any], stopped: threading.Event, read: Read, group: _Group) -> None:
    """The work of one thread: all items of a group, then None. A fault of our own is handed to the caller, who raises it."""

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=STOP_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    try:
        with closing(read(group)) as found:
            for item in found:
                if not put(item):
                    return
        put(None)
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
        put(error)


def _read_group(group: _Group, recordings: Stretches, grid: Grid, audio: AudioConfig) -> Generator[Item, None, None]:
    """The windows of a group's stretches as its file is decoded, and the end of each stretch."""
    rate = audio.sample_rate
    cutters = [Cutter(row, float(recordings.starts[row]), float(recordings.ends[row]), grid, rate) for row in group.rows]
    pending = deque(sorted(cutters, key=lambda cutter: cutter.first))
    active: list[Cutter] = []
    position = round(group.start * rate)
    end = None if np.isnan(group.end) else group.end
    try:
        for block in blocks(group.file, sample_rate=rate, channel=audio.channel, start_seconds=group.start, end_seconds=end):
            while pending and pending[0].first < position + len(block):
                active.append(pending.popleft())
            for cutter in active:
                yield from cutter.feed(position, block)
            position += len(block)
            for cutter in [cutter for cutter in active if cutter.end is not None and cutter.end <= position]:
                active.remove(cutter)
                yield from _finish(cutter, group.file)
        for cutter in (*active, *pending):
            yield from _finish(cutter, group.file)
    except (UserError, OSError) as error:  # OSError: the disk went away
        reason = error.reason if isinstance(error, AudioError) else f"cannot be read: {error}"
        for cutter in (*active, *pending):
            yield _End(cutter.row, AudioError(group.file, reason))


def _finish(cutter: Cutter, file: str) -> Iterator[Item]:
    yield from cutter.finish()
    yield _End(cutter.row, AudioError(file, "the stretch starts behind the end of the sound") if cutter.is_empty else None)


def _pack(items: Iterable[Item], batch_size: int, samples: int, window: int, sample_rate: int) -> Iterator[WindowBatch]:
    """Puts windows together to batches. A full batch waits for the next window, so that it carries the ends of its rows."""
    cuts: list[Cut] = []
    ends: list[_End] = []
    for item in items:
        if isinstance(item, _End):
            ends.append(item)
            continue
        if len(cuts) == batch_size:
            yield _batch(cuts, ends, batch_size, samples, sample_rate)
            cuts, ends = [], []
        cuts.append(item)
        if len(item.sound) > samples:
            samples = window
    if cuts or ends:
        yield _batch(cuts, ends, batch_size, samples, sample_rate)


def _batch(cuts: Sequence[Cut], ends: Sequence[_End], size: int, samples: int, sample_rate: int) -> WindowBatch:
    waveforms, lengths = np.zeros((size, samples), np.float32), np.zeros(size, np.int32)
    row, number, start = np.full(size, NO_ROW, np.int64), np.zeros(size, np.int32), np.zeros(size)
    for place, cut in enumerate(cuts):
        lengths[place] = len(cut.sound)
        waveforms[place, : len(cut.sound)] = cut.sound
        row[place], number[place], start[place] = cut.row, cut.number, cut.start / sample_rate
    errors = tuple((end.row, end.error) for end in ends if end.error is not None)
    return WindowBatch(waveforms, lengths, row, number, start, lengths / sample_rate, tuple(end.row for end in ends), errors)
