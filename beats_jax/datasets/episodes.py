"""Episodes for few-shot learning: N classes, K support and Q query rows of each, drawn from a labelled table.

Episode `i` is a pure function of (seed, i), so that a run resumes with the same episodes and no sampler has a state. No recording
is both in support and query: rows of one group are on one side in the whole episode, also where they are of several classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.errors import UserError

ATTEMPTS = 100  # drawings of the sides before an episode is refused
ORDERS = 20  # orders of one class's groups in an attempt
NAMED = 5  # classes in an error


@dataclass(frozen=True)
class EpisodeRule:
    """What an episode holds."""

    n_way: int
    n_shot: int
    n_query: int
    seed: int = 0
    disjoint: bool = True  # no group is in support and query; False: upstream's draw, which ignores groups

    def __post_init__(self) -> None:
        for name, least in (("n_way", 2), ("n_shot", 1), ("n_query", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True, eq=False)
class Episodes:
    """Some episodes: E of them, or one without the first axis. Numbers are of rows of the table, and of classes."""

    classes: np.ndarray  # int64 [E, W], in random order
    support: np.ndarray  # int64 [E, W, K]
    query: np.ndarray  # int64 [E, W, Q]


class EpisodeSampler:
    """`sampler[i]` is episode i, `sampler.batch(start, stop)` several; infinitely many of them exist."""

    def __init__(
        self,
        labels: np.ndarray,
        names: Sequence[str],
        rule: EpisodeRule,
        groups: np.ndarray | None = None,
        pools: np.ndarray | None = None,
    ) -> None:
        """
        Args:
          labels: int [N], the class of each row; -1 = a row that is in no episode. names: of the classes.
          groups: int [N], equal for rows of one recording; None = every row is its own.
          pools: int [D, M], D draws of classes; episode i draws its classes of pool i modulo D. None = one, of all classes that
            have a row.
        Raises:
          UserError: fewer classes than `n_way`, or classes too small, by name.
        """
        self.rule, self.names = rule, tuple(names)
        labels = np.asarray(labels, np.int64)
        self._groups = (
            np.arange(len(labels)) if groups is None or not rule.disjoint else np.unique(groups, return_inverse=True)[1]
        )
        self._rows = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])}
        self._parts = {label: np.unique(self._groups[rows], return_counts=True) for label, rows in self._rows.items()}
        self.pools = np.array([list(self._rows)], np.int64) if pools is None else np.asarray(pools, np.int64)
        if self.pools.shape[1] < rule.n_way:
            raise UserError(f"n_way is {rule.n_way}, and there are {self.pools.shape[1]} classes; give at most that many ways")
        self._require_enough()

    def __getitem__(self, index: int) -> Episodes:
        """Episode `index` >= 0. Raises `UserError` where no division of the recordings gives every class enough rows."""
        rng = np.random.default_rng([self.rule.seed, index])
        classes = rng.permutation(self.pools[index % len(self.pools)])[: self.rule.n_way]
        sides = self._sides(rng, classes)
        support, query = zip(*(self._draw(rng, int(label), sides) for label in classes), strict=True)
        return Episodes(classes, np.stack(support), np.stack(query))

    def batch(self, start: int, stop: int) -> Episodes:
        """Episodes `start` to `stop`, E = stop - start >= 1 of them."""
        found = [self[index] for index in range(start, stop)]
        return Episodes(*(np.stack([getattr(one, name) for one in found]) for name in ("classes", "support", "query")))

    def _draw(self, rng: np.random.Generator, label: int, sides: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows [K] and [Q] of a class."""
        shot, query, rows = self.rule.n_shot, self.rule.n_query, rng.permutation(self._rows[label])
        if sides is None:
            return rows[:shot], rows[shot : shot + query]
        side = sides[self._groups[rows]]
        return rows[side == 0][:shot], rows[side == 1][:query]

    def _sides(self, rng: np.random.Generator, classes: np.ndarray) -> np.ndarray | None:
        """int [groups]: 0 = support, 1 = query; None where every row may be on either side."""
        if not self.rule.disjoint:
            return None
        for _ in range(ATTEMPTS):
            sides = np.full(self._groups.max() + 1, -1)
            order = rng.permutation(classes)
            if all(self._divide(rng, int(label), sides) for label in order):
                return np.where(sides < 0, rng.integers(0, 2, len(sides)), sides)
        names = ", ".join(self.names[label] for label in classes)
        raise UserError(
            f"no division of the recordings gives each of {names} {self.rule.n_shot} support and {self.rule.n_query} query rows, "
            "because they share recordings; give fewer of them, fewer ways, or draw without regard to recordings"
        )

    def _divide(self, rng: np.random.Generator, label: int, sides: np.ndarray) -> bool:
        """Gives sides to as many groups of a class as it needs; False where none of `ORDERS` orders is enough."""
        groups, sizes = self._parts[label]
        have = [int(sizes[sides[groups] == side].sum()) for side in (0, 1)]
        free = np.flatnonzero(sides[groups] < 0)
        for _ in range(ORDERS):
            order = rng.permutation(free)
            before = have[0] + np.cumsum(sizes[order]) - sizes[order]
            support = before < self.rule.n_shot
            rest = order[~support]
            needed = rest[have[1] + np.cumsum(sizes[rest]) - sizes[rest] < self.rule.n_query]
            enough = have[0] + sizes[order[support]].sum() >= self.rule.n_shot
            if enough and have[1] + sizes[needed].sum() >= self.rule.n_query:
                sides[groups[order[support]]], sides[groups[needed]] = 0, 1
                return True
        return False

    def _require_enough(self) -> None:
        """Raises `UserError` naming classes that cannot fill an episode, and the query that all of them could."""
        shot, query = self.rule.n_shot, self.rule.n_query
        asked = [int(label) for label in np.unique(self.pools)]
        most = {label: largest_query(self._groups[self._rows.get(label, np.zeros(0, np.int64))], shot) for label in asked}
        small = [label for label in asked if most[label] < query]
        if not small:
            return
        rows = [(self.names[label], self._groups[self._rows[label]] if label in self._rows else []) for label in small[:NAMED]]
        counts = ", ".join(f"{name} ({len(own)} rows, {len(np.unique(own))} recordings)" for name, own in rows)
        others = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        least = min(most.values())
        remedy = f"give n_query {least}" if least >= 1 else "give a smaller n_shot"
        apart = " from recordings of their own" if self.rule.disjoint else ""
        raise UserError(
            f"too small for {shot} support and {query} query rows{apart}: {counts}{others}; {remedy}, or leave these classes out"
        )


def largest_query(groups: np.ndarray, n_shot: int) -> int:
    """Most query rows that a class can have beside `n_shot` support rows of other groups; negative where even support is short.

    Args:
      groups: int [n], the group of each of the class's rows.
    """
    sums = 1  # bit s is set where some groups have s rows together
    for size in np.unique(groups, return_counts=True)[1].tolist():
        sums |= sums << size
    return next((len(groups) - taken for taken in range(n_shot, len(groups) + 1) if sums >> taken & 1), -1)


def class_draws(classes: np.ndarray, size: int, draws: int, seed: int) -> np.ndarray:
    """int [draws, size]: pools of classes for an `EpisodeSampler`, each without replacement and a function of seed and number.

    Raises:
      UserError: more classes a draw than there are.
    """
    if not 1 <= size <= len(classes):
        raise UserError(f"{size} classes a draw, and there are {len(classes)}; give a number between 1 and that")
    rng = [np.random.default_rng([seed, draw, len(classes)]) for draw in range(draws)]
    return np.stack([np.sort(one.permutation(classes)[:size]) for one in rng])
