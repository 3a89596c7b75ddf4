"""Reducers combine the windows of a recording into one answer, exact over all tokens of all windows.

`OnError` decides about a recording that cannot be read to its end. nan: it has no answer and is listed; rest: it has the answer
of the windows before the damage and is listed; raise: the first one stops the job.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.inference.run import WindowValues

OnError = Literal["nan", "rest", "raise"]


class Reducer(Protocol):
    """Collects windows: `add` takes those of a batch, `take` gives the answer for a row, or None, and forgets it."""

    def add(self, values: WindowValues) -> None: ...
    def take(self, row: int) -> Any: ...


class Row(NamedTuple):
    """The answer for a row."""

    row: int
    value: Any  # None without an answer
    error: AudioError | None  # why it could not be read to its end
    start: float  # of the sound in its windows, in seconds of the file; NaN without a window
    end: float


def reduce_rows(values: Iterable[WindowValues], reducer: Reducer, on_error: OnError = "nan") -> Iterator[Row]:
    """Yields every row once, as soon as its last window has been computed.

    Raises:
      AudioError: the first bad row, with `on_error` raise.
    """
    spans: dict[int, tuple[float, float]] = {}
    for batch in values:
        errors = dict(batch.errors)
        if errors and on_error == "raise":
            raise next(iter(errors.values()))
        if len(batch.row):
            reducer.add(batch)
        for row, start, seconds in zip(batch.row.tolist(), batch.start.tolist(), batch.seconds.tolist(), strict=True):
            first, last = spans.get(row, (start, start))
            spans[row] = (first, max(last, start + seconds))
        for row in batch.finished:
            value, error = reducer.take(row), errors.get(row)
            dropped = error is not None and on_error == "nan"
            yield Row(row, None if dropped else value, error, *spans.pop(row, (math.nan, math.nan)))


class Scores(NamedTuple):
    """Logits of a row, float64 [C], and for each class where the window with its largest logit starts, float64 [C] seconds."""

    logits: np.ndarray
    peaks: np.ndarray


class MeanLogits:
    """The mean of the logits of a row's windows."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[int, np.ndarray, np.ndarray, np.ndarray]] = {}  # row → windows, sum, largest, where

    def add(self, values: WindowValues) -> None:
        logits = values.values["logits"].astype(np.float64)
        for row, start, scores in zip(values.row.tolist(), values.start.tolist(), logits, strict=True):
            count, total, largest, peaks = self._sums.get(row, (0, 0.0, np.full_like(scores, -np.inf), np.zeros_like(scores)))
            better = scores > largest
            self._sums[row] = (count + 1, total + scores, np.maximum(scores, largest), np.where(better, start, peaks))

    def take(self, row: int) -> Scores | None:
        if row not in self._sums:
            return None
        count, total, largest, peaks = self._sums.pop(row)
        return Scores(self._answer(count, total, largest), peaks)

    def _answer(self, count: int, total: np.ndarray, largest: np.ndarray) -> np.ndarray:
        return total / count


class MaxLogits(MeanLogits):
    """The largest logit of each class over a row's windows: is the sound anywhere in the recording?"""

    def _answer(self, count: int, total: np.ndarray, largest: np.ndarray) -> np.ndarray:
        return largest


class Pooled:
    """Poolings over all real tokens of all windows of a row, float32 [L, P, D], as one pass over all of them would give.

    Means are weighted by tokens; deviations are combined by the rule of Chan, Golub and LeVeque (1979) in float64. `cls` is the
    mean over the special tokens of all windows. Sound that two windows share counts in both.
    """

    def __init__(self, poolings: tuple[str, ...]) -> None:
        self.poolings = poolings
        self._states: dict[int, dict[str, np.ndarray]] = {}

    def add(self, values: WindowValues) -> None:
        for place, row in enumerate(values.row.tolist()):
            new = {name: value[place] for name, value in values.values.items()}
            old = self._states.get(row)
            self._states[row] = _first(new) if old is None else _merge(old, _first(new))

    def take(self, row: int) -> np.ndarray | None:
        state = self._states.pop(row, None)
        return None if state is None else _pool(state, self.poolings)


class Moments(Pooled):
    """Of a row's real tokens: `count`, their `mean` and `m2`, the sum of squared distances from it, float64 [L, D]."""

    def __init__(self) -> None:
        super().__init__(("mean", "std"))

    def take(self, row: int) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return self._states.pop(row, None)


class Window(NamedTuple):
    """One window of a row: where it is, in seconds of its file, and what the program gave."""

    start: float
    seconds: float
    values: dict[str, np.ndarray]


class EachWindow:
    """All windows of a row, in order: a list of `Window`."""

    def __init__(self) -> None:
        self._windows: dict[int, list[Window]] = {}

    def add(self, values: WindowValues) -> None:
        places = zip(values.row.tolist(), values.start.tolist(), values.seconds.tolist(), strict=True)
        for place, (row, start, seconds) in enumerate(places):
            own = {name: value[place] for name, value in values.values.items()}
            self._windows.setdefault(row, []).append(Window(start, seconds, own))

    def take(self, row: int) -> list[Window] | None:
        return self._windows.pop(row, None)


def pool_window(values: Mapping[str, np.ndarray], poolings: tuple[str, ...]) -> np.ndarray:
    """`Pooled` of a single window: float32 [L, P, D]."""
    return _pool(_first(values), poolings)


def _first(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state after one window: sums in float64."""
    wide = {name: np.asarray(value, np.float64) for name, value in values.items() if name in ("count", "mean", "m2", "cls")}
    return {**values, **wide, "windows": np.ones(())}


def _merge(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state after two stretches, the first one `old`."""
    count, windows = old["count"] + new["count"], old["windows"] + new["windows"]
    if not new["count"]:
        return {**old, "windows": windows}
    if not old["count"]:
        return {**new, "windows": windows}
    state: dict[str, np.ndarray] = {"count": count, "windows": windows}
    share = new["count"] / count
    if "mean" in old:
        shift = new["mean"] - old["mean"]
        state["mean"] = old["mean"] + shift * share
        if "m2" in old:
            state["m2"] = old["m2"] + new["m2"] + shift**2 * (old["count"] * share)
    if "cls" in old:
        state["cls"] = old["cls"] + (new["cls"] - old["cls"]) / windows
    if "max" in old:
        state["max"] = np.maximum(old["max"], new["max"])
    return state | {name: part[name] for name, part in (("first", old), ("last", new)) if name in part}


def _pool(state: Mapping[str, np.ndarray], poolings: tuple[str, ...]) -> np.ndarray:
    parts = [np.sqrt(state["m2"] / np.maximum(state["count"], 1)) if name == "std" else state[name] for name in poolings]
    return np.stack([np.asarray(part, np.float32) for part in parts], axis=1)
