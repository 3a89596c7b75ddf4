"""Whether clusters come again when some rows are left out: a figure without labels (Hennig 2007; Lange et al. 2004)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from beats_jax.evaluation.embeddings.grouping.group import cluster
from beats_jax.evaluation.embeddings.grouping.methods import NOISE
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings


@dataclass(frozen=True)
class Stability:
    """Attributes:
    agreement: mean adjusted Rand index of two clusterings of samples on the rows they share, rows in no cluster as one more; None
      where a sample has no cluster. clusters: float64 [C], how much of each cluster comes again, 0 to 1: the mean over samples of
      the largest Jaccard index with a cluster of the sample. Above 0.75 a cluster is stable, below 0.5 it dissolves (Hennig).
    """

    agreement: float | None
    clusters: np.ndarray


def stability(
    points: np.ndarray, labels: np.ndarray, settings: GroupingSettings, draws: int = 10, share: float = 0.8, most: int = 5_000
) -> Stability:
    """Clusters samples of the points anew, and compares.

    Args:
      points: finite, float [N, K], scaled and reduced (`Groups.points`). labels: int [N], the clusters whose stability is asked.
      draws: samples. share: of rows in each, without repeats; `most` at most.
    """
    rows = min(round(share * len(points)), most)
    random = np.random.default_rng(settings.seed)
    # A cluster has as many fewer rows as the sample
    smaller = replace(settings, smallest=max(2, round(settings.smallest * rows / max(len(points), 1))))
    samples = [np.sort(random.choice(len(points), rows, replace=False)) for _ in range(draws)]
    found = [_sampled(points, sample, smaller) for sample in samples]
    count = int(labels.max(initial=NOISE)) + 1
    again = np.array([_jaccard(labels[sample], one[sample], count) for sample, one in zip(samples, found, strict=True)])
    clusters = again.mean(axis=0) if draws else np.zeros(count)
    return Stability(_agreement(samples, found), clusters)


def _sampled(points: np.ndarray, sample: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    labels = np.full(len(points), NOISE, np.int32)
    labels[sample] = cluster(points[sample], settings)[0]
    return labels


def _jaccard(labels: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """For each cluster of `labels`, rows shared with the cluster of `other` most like it as a share of the rows of both."""
    width = int(other.max(initial=NOISE)) + 1
    if not width:
        return np.zeros(count)
    both = (labels != NOISE) & (other != NOISE)
    shared = np.zeros((count, width))
    np.add.at(shared, (labels[both], other[both]), 1)
    sizes = np.bincount(labels[labels != NOISE], minlength=count)[:, None]
    union = sizes + np.bincount(other[other != NOISE], minlength=width) - shared
    return (shared / np.maximum(union, 1)).max(axis=1)


def _agreement(samples: list[np.ndarray], found: list[np.ndarray]) -> float | None:
    from sklearn.metrics import adjusted_rand_score

    if len(found) < 2 or not all((one != NOISE).any() for one in found):
        return None
    shared = {(a, b): np.intersect1d(samples[a], samples[b], assume_unique=True) for a, b in combinations(range(len(samples)), 2)}
    return float(np.mean([adjusted_rand_score(found[a][rows], found[b][rows]) for (a, b), rows in shared.items() if len(rows)]))
