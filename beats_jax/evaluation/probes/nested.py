"""Honest figures for chosen probes: the choice is made inside the training folds, the figure comes from the fold left out.

Nested cross-validation (Stone 1974; Varma & Simon 2006): for every test fold, the other folds choose layer, pooling and setting
among themselves, the choice is trained on all of them, and answers for the test fold. Data with a test split of its own has one
test fold, and the folds of the rest choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from beats_jax.evaluation.probes.choice import Averages, Choice, averages, best, best_of
from beats_jax.evaluation.probes.kinds import Setting
from beats_jax.evaluation.probes.rounds import Rounds, pair_rounds, single_rounds
from beats_jax.evaluation.probes.sweep import SweepScores, refit, sweep

TEST = -1  # in `folds`: a row of the data's own test split


class Probe(Protocol):
    """One kind of probe with all of its candidates."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """R settings, the simplest model first."""
        ...

    def scores(self, rounds: Rounds) -> SweepScores:
        """Trains and measures every candidate in every round."""
        ...

    def answers(self, choice: Choice, rounds: Rounds, number: int) -> np.ndarray:
        """Logits of the held-out rows of round `number`, float32 [m, C], padding left out, in the order of `rounds.held`."""
        ...


@dataclass(frozen=True)
class EmbeddingProbe:
    """A kind of `kinds.KINDS` on pooled embeddings.

    Attributes:
      embeddings: float32 [J, N, D]. targets: float32 [N, C].
    """

    kind: str
    settings: tuple[Setting, ...]
    embeddings: np.ndarray
    targets: np.ndarray
    multi_label: bool

    def scores(self, rounds: Rounds) -> SweepScores:
        return sweep(self.embeddings, self.targets, rounds, self.kind, self.settings, self.multi_label)

    def answers(self, choice: Choice, rounds: Rounds, number: int) -> np.ndarray:
        now = [column[number] for column in (rounds.train, rounds.weights, rounds.held)]
        embedding = self.embeddings[choice.embedding]
        # All settings again: the logistic path needs the stronger penalties before the chosen one, and nothing compiles anew.
        logits = refit(embedding, self.targets, *now, kind=self.kind, settings=self.settings, multi_label=self.multi_label)
        return np.asarray(logits)[choice.setting, rounds.part[number] >= 0]


class ProbeStudy(NamedTuple):
    """What the folds say of one kind. T test folds."""

    table: Averages  # [J, R], validation on all folds
    final: Choice  # by that table: the probe to use
    choices: tuple[Choice, ...]  # [T], each made without its test fold
    logits: np.ndarray  # float32 [N, C] of the rows in a test fold, else NaN


class Study(NamedTuple):
    """All kinds, and the best of them: chosen in each test fold by validation as well."""

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


def probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """float64, softmax or sigmoid of [N, C]."""
    wide = logits.astype(np.float64)
    if multi_label:
        return 0.5 * (1 + np.tanh(0.5 * wide))
    shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
