"""Nested cross-validation of probes: the training folds choose, and the fold left out gives the figure.

The best of hundreds of validation scores is optimistic, so the rows that measure a choice have no part in it (Stone 1974; Varma &
Simon 2006). For every test fold, the other folds choose layer, pooling and setting among themselves; the chosen probe is trained
on all of them and predicts the test fold. Data with a test split of its own has one test fold, and the folds of the other rows
choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from beats_jax.evaluation.probes.kinds import Setting
from beats_jax.evaluation.probes.rounds import Rounds, pair_rounds, single_rounds
from beats_jax.evaluation.probes.sweep import SweepScores, refit, sweep

TEST = -1  # in `folds`: a row of the data's own test split


class Choice(NamedTuple):
    """One probe of a sweep with its validation figures."""

    kind: str
    embedding: int  # place among the embeddings (layer x pooling)
    setting: int  # place among the settings of the kind
    score: float
    loss: float


class Averages(NamedTuple):
    """Means over held-out examples: float64 [J, R]."""

    score: np.ndarray
    loss: np.ndarray


def averages(scores: SweepScores, rounds: Rounds, test_fold: int | None = None) -> Averages:
    """Means over the validation folds, weighted by their examples.

    With a test fold (rounds are pairs of folds) only the rounds count that hold it out, and in them only the other fold.
    """
    counted = rounds.number.astype(np.float64)
    if test_fold is not None:
        inside = (rounds.folds == test_fold).any(axis=1, keepdims=True)
        counted = counted * (inside & (rounds.folds != test_fold))
    shares = counted / counted.sum()
    return Averages(
        np.einsum("jrsp,sp->jr", scores.score.astype(np.float64), shares),
        np.einsum("jrsp,sp->jr", scores.loss.astype(np.float64), shares),
    )


def best(kind: str, means: Averages) -> Choice:
    """The highest score; of equals the smallest loss, then the earlier setting (the simpler model), then the first layer."""
    score = np.round(means.score, 9)
    embedding, setting = np.indices(score.shape)
    order = np.lexsort((embedding.ravel(), setting.ravel(), means.loss.ravel(), -score.ravel()))
    place = np.unravel_index(order[0], score.shape)
    return Choice(kind, int(place[0]), int(place[1]), float(means.score[place]), float(means.loss[place]))


def best_of(choices: Mapping[str, Choice]) -> Choice:
    """The best among kinds; of equal scores the kind that stands first, because losses of different kinds do not compare."""
    return max(choices.values(), key=lambda choice: round(choice.score, 9))


class Probe(Protocol):
    """One kind of probe with all of its candidates; R settings, the simplest model first."""

    @property
    def settings(self) -> tuple[Setting, ...]: ...

    def scores(self, rounds: Rounds) -> SweepScores:
        """Trains and measures every candidate in every round."""
        ...

    def answers(self, choice: Choice, rounds: Rounds, number: int) -> np.ndarray:
        """Logits of the held-out rows of round `number`, float32 [m, C], padding left out, in the order of `rounds.held`."""
        ...


@dataclass(frozen=True)
class EmbeddingProbe:
    """A kind of `kinds.KINDS` on pooled embeddings."""

    kind: str
    settings: tuple[Setting, ...]
    embeddings: np.ndarray  # float32 [J, N, D]
    targets: np.ndarray  # float32 [N, C]
    multi_label: bool

    def scores(self, rounds: Rounds) -> SweepScores:
        return sweep(self.embeddings, self.targets, rounds, self.kind, self.settings, self.multi_label)

    def answers(self, choice: Choice, rounds: Rounds, number: int) -> np.ndarray:
        now = [column[number] for column in (rounds.train, rounds.weights, rounds.held)]
        embedding = self.embeddings[choice.embedding]
        # All settings again: the logistic path needs the stronger penalties before the chosen one, and nothing is compiled again.
        logits = refit(embedding, self.targets, *now, kind=self.kind, settings=self.settings, multi_label=self.multi_label)
        return np.asarray(logits)[choice.setting, rounds.part[number] >= 0]


class ProbeStudy(NamedTuple):
    """One kind. T test folds."""

    table: Averages  # [J, R], validation on all folds
    final: Choice  # by that table: the probe to use
    choices: tuple[Choice, ...]  # [T], each made without its test fold
    logits: np.ndarray  # float32 [N, C] of the rows in a test fold, otherwise NaN


class Study(NamedTuple):
    """All kinds, and the best of them, which validation chooses in each test fold too."""

    kinds: dict[str, ProbeStudy]
    final: Choice
    choices: tuple[Choice, ...]
    logits: np.ndarray  # float32 [N, C]


def study(probes: Mapping[str, Probe], folds: np.ndarray, num_classes: int) -> Study:
    """Chooses and measures.

    Args:
      probes: kind → its candidates, all on the same N rows.
      folds: int [N], 0 .. K-1, or -1 (`TEST`) for the rows of a test split.
    Raises:
      UserError: too few folds: three, or two beside a test split.
    """
    kinds = {name: _study_one(name, probe, folds, num_classes) for name, probe in probes.items()}
    final = best_of({name: one.final for name, one in kinds.items()})
    tests = len(next(iter(kinds.values())).choices)
    choices = tuple(best_of({name: one.choices[fold] for name, one in kinds.items()}) for fold in range(tests))
    logits = np.full((len(folds), num_classes), np.nan, np.float32)
    for fold, choice in enumerate(choices):
        rows = folds == (fold if tests > 1 else TEST)
        logits[rows] = kinds[choice.kind].logits[rows]
    return Study(kinds, final, choices, logits)


def _study_one(kind: str, probe: Probe, folds: np.ndarray, num_classes: int) -> ProbeStudy:
    held_out = bool((folds == TEST).any())
    singles = single_rounds(folds)
    table = averages(probe.scores(singles), singles)
    final = best(kind, table)
    if held_out:
        tests = single_rounds(np.where(folds == TEST, 0, 1))  # its first round trains on everything else
        choices = [final]
    else:
        pairs, tests = pair_rounds(folds), singles
        scores = probe.scores(pairs)
        choices = [best(kind, averages(scores, pairs, fold)) for fold in range(len(singles.train))]
    logits = np.full((len(folds), num_classes), np.nan, np.float32)
    for number, choice in enumerate(choices):
        logits[tests.held[number][tests.part[number] >= 0]] = probe.answers(choice, tests, number)
    return ProbeStudy(table, final, tuple(choices), logits)
