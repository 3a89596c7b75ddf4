"""Is one way of training better than another, over several seeds, on the same test examples?

Two-level paired bootstrap: each resample draws seeds and, the same for both sides, recordings (Efron & Tibshirani 1993, chapters
8 and 15). So the interval holds for new test recordings and new trainings. Equivalence is decided by two one-sided tests at 5 %
(Schuirmann 1987): the 90 % interval lies within the margin, which is stated before the data are seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Word = Literal["gain", "loss", "equivalent", "open"]


@dataclass(frozen=True)
class SeedDifference:
    """second - first, of means over S seeds.

    Attributes:
      low, high: 95 % interval. inner_low, inner_high: 90 %. p: two-sided, not corrected. by_seed: the S differences.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    inner_low: float
    inner_high: float
    p: float
    by_seed: tuple[float, ...]

    @property
    def seeds(self) -> int:
        """How many."""
        return len(self.by_seed)


def compare_seeds(
    first: np.ndarray, second: np.ndarray, first_drawn: np.ndarray, second_drawn: np.ndarray, seed: int = 0
) -> SeedDifference | None:
    """Compares a metric over seeds.

    Args:
      first, second: float [S], the metric of each seed. first_drawn, second_drawn: float [S, R], in R resamples of the test
        recordings, the same ones in every row; NaN where undefined.
    Returns:
      None where the metric is undefined, or in all resamples.
    """
    if not (np.isfinite(first).all() and np.isfinite(second).all() and len(first)):
        return None
    seeds, resamples = first_drawn.shape
    drawn = np.random.default_rng(seed).integers(0, seeds, (seeds, resamples))
    changes = np.take_along_axis(second_drawn - first_drawn, drawn, axis=0).mean(axis=0)
    changes = changes[~np.isnan(changes)]
    if not changes.size:
        return None
    changes = np.where(np.abs(changes) < 1e-12, 0.0, changes)
    low, inner_low, inner_high, high = np.percentile(changes, (2.5, 5, 95, 97.5))
    smaller = min((changes <= 0).sum(), (changes >= 0).sum())
    p = min(1.0, 2 * (smaller + 1) / (len(changes) + 1))
    means = float(first.mean()), float(second.mean())
    by_seed = tuple((second - first).tolist())
    ends = (float(low), float(high), float(inner_low), float(inner_high))
    return SeedDifference(*means, means[1] - means[0], *ends, float(p), by_seed)


def verdict(found: SeedDifference | None, corrected_p: float, margin: float, fewest: int) -> Word:
    """gain or loss: p, corrected for all comparisons, is below 5 %; equivalent: within the margin; else open.

    A difference that is both sure and within the margin is equivalent: it is too small to matter. Near the ceiling a bootstrap
    sees no errors to draw and its interval shrinks to nothing; by the rule of three (Hanley & Lippman-Hand 1983) `fewest`
    examples of a class without an error leave 3 / fewest open, and where that exceeds the margin nothing is equivalent.
    """
    if found is None:
        return "open"
    unseen = 3 / max(1, fewest)
    at_ceiling = unseen > margin and 1 - found.first < unseen and 1 - found.second < unseen
    if -margin < found.inner_low and found.inner_high < margin:
        return "open" if at_ceiling else "equivalent"
    if corrected_p < 0.05 and found.low * found.high > 0:
        return "gain" if found.difference > 0 else "loss"
    return "open"
