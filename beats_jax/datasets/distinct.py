"""Columns of a million cells mostly hold few different values: what follows from a cell is computed once for each of those."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

MOST_KEPT = 65_536  # results; a column of ever new values gains nothing by keeping more
# as Python objects, 500 kB: 64 times as many leave the processor's caches and take twice as long
ROWS_AT_A_TIME = 1_024


class Once(dict[Any, Any]):
    """The results of a pure function by its argument; `over` a column, equal cells also share one object."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, value: Any) -> Any:
        result = self._function(value)
        if len(self) < MOST_KEPT:
            self[value] = result
        return result

    def over(self, values: Iterable[Any]) -> list[Any]:
        """The result for every value."""
        return list(map(self.__getitem__, values))


class Numbered(dict[Any, int]):
    """Numbers values from 0 in the order in which they come."""

    def __missing__(self, value: Any) -> int:
        return self.setdefault(value, len(self))

    def over(self, values: Iterable[Any]) -> np.ndarray:
        """int64 [N]: the number of every value."""
        return np.array(list(map(self.__getitem__, values)), np.int64)


def distinct(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted different texts (StringDType [D]), and the place of each text among them (int64 [N]).

    The same as `np.unique` with `return_inverse`, which sorts all of them: seconds for a million.
    """
    numbered = Numbered()
    blocks = range(0, len(texts), ROWS_AT_A_TIME)
    codes = [np.zeros(0, np.int64), *(numbered.over(texts[begin : begin + ROWS_AT_A_TIME].tolist()) for begin in blocks)]
    names = sorted(numbered)
    places = np.empty(len(names), np.int64)
    places[[numbered[name] for name in names]] = np.arange(len(names))
    return np.array(names, dtype=np.dtypes.StringDType()), places[np.concatenate(codes)]
