"""Accuracy over episodes, with an interval for other episodes of these classes and one for other classes.

Over episodes: mean ± 1.96 standard deviations / sqrt(E), as few-shot results are published. It says how well the mean is known
for these very classes and recordings, and becomes as narrow as one likes.

Over draws of classes: every draw is a part of the classes, and the deviation of the draws' means tells how much the figure
depends on which classes were at hand (the delete-d jackknife, Shao and Wu 1989: variance = M / (C - M) times that of the means of
draws of M of C classes). More draws do not narrow it; the noise of the episodes is in it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.datasets.episodes import Episodes
from beats_jax.evaluation.metrics.result import Estimate

NORMAL = 1.959964  # 95 % of a normal distribution lie within as many standard deviations


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """What one method on one embedding does in E episodes of W ways, D draws of classes among C.

    Attributes:
      accuracies: float64 [E]. episodes, draws: the mean with both intervals; `draws` has none where no class is left out.
      draw_means: float64 [D]. confusion: int64 [C, C], queries of a class (row) that were given another (column).
    """

    accuracies: np.ndarray
    episodes: Estimate
    draws: Estimate
    draw_means: np.ndarray
    confusion: np.ndarray

    @property
    def class_accuracies(self) -> np.ndarray:
        """float64 [C]: share of each class's queries that were named rightly; NaN for a class in no episode."""
        total = self.confusion.sum(axis=1)
        return np.divide(np.diag(self.confusion), total, out=np.full(len(total), np.nan), where=total > 0)


def measure_episodes(
    answers: np.ndarray, episodes: Episodes, pools: np.ndarray, num_classes: int, drawn_from: int, pooled: int
) -> EpisodeResult:
    """Compares answers with the truth.

    Args:
      answers: int [E + pooled, W, Q], the way named for each query; the first E episodes draw of all classes and are the figure.
      pools: int [D, M], draws of classes: the last `pooled` episodes are of them in turn, and tell how much they differ.
      num_classes: of the table. drawn_from: how many of them the pools are draws of.
    """
    ways = np.arange(answers.shape[1])
    right = (answers == ways[None, :, None]).mean(axis=(1, 2))
    accuracies, of_draws = right[: len(right) - pooled], right[len(right) - pooled :]
    means = np.array([of_draws[draw :: len(pools)].mean() for draw in range(min(len(pools), pooled))])
    answers, episodes = (
        answers[: len(accuracies)],
        Episodes(episodes.classes[: len(accuracies)], episodes.support, episodes.query),
    )
    truth = np.broadcast_to(episodes.classes[:, :, None], answers.shape)
    named = np.take_along_axis(episodes.classes, answers.reshape(len(answers), -1), axis=1)
    pairs = truth.reshape(-1) * num_classes + named.reshape(-1)
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    over_draws = draws_interval(accuracies.mean(), means, pools.shape[1], drawn_from)
    return EpisodeResult(accuracies, accuracy_interval(accuracies), over_draws, means, confusion)


def accuracy_interval(values: np.ndarray) -> Estimate:
    """`episodes_interval` of accuracies [E], cut where it would leave 0 to 1."""
    found = episodes_interval(values)
    if found.low is None or found.high is None:
        return found
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def episodes_interval(values: np.ndarray) -> Estimate:
    """The mean of float [E], with its normal 95 % interval; without one for a single episode."""
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean)
    half = NORMAL * float(values.std(ddof=1)) / len(values) ** 0.5
    return Estimate(mean, mean - half, mean + half)


def draws_interval(mean: float, means: np.ndarray, size: int, drawn_from: int) -> Estimate:
    """The mean with the 95 % interval for other classes, by Student's t on the means [D] of draws of `size` of the classes.

    None where there is one draw, or a draw holds all classes, so that nothing is known of others.
    """
    from scipy.stats import t

    left = drawn_from - size
    if len(means) < 2 or left < 1:
        return Estimate(float(mean))
    deviation = float(means.std(ddof=1)) * (size / left) ** 0.5
    half = float(t.ppf(0.975, len(means) - 1)) * deviation
    return Estimate(float(mean), max(0.0, float(mean) - half), min(1.0, float(mean) + half))
