"""How like real examples generated ones are, measured on embeddings: distances, coverage, tell-apart and memorisation.

All take embeddings float [N, D] (real, made) of one stated network, and give an `Estimate` with a 95 % interval. Distances have
no scale of their own: beside them stands the floor, the same figure of held-out real examples against the real ones.

Intervals are of a bootstrap over examples (`RESAMPLES`). A resampled distance is larger than that of the examples, because
repeats leave fewer different ones: its percentiles are moved by the difference of their mean and the value, so that the interval
shows the spread and lies about the value. Figures of neighbourhoods resample the examples that are judged and keep the
neighbourhoods.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from beats_jax.config.rules import require
from beats_jax.evaluation.embeddings.maps import threads_for
from beats_jax.evaluation.metrics.intervals import percentile_interval
from beats_jax.evaluation.metrics.result import Estimate

RESAMPLES = 200
NEIGHBOURS = 5
SIZES = 5  # at which the Fréchet distance is measured before it is extrapolated
LEAST_SHARE = 0.3  # smallest of these sizes, of all examples
FOLDS = 5
RARE_QUANTILE = 0.01  # of the distances between held-out and training examples: nearer ones count as copies
ROWS_AT_ONCE = 1024
ALIKE = 1e-14  # squared distance, as a share of the rows' squared lengths, below which rows are equal


def frechet_distance(real: np.ndarray, made: np.ndarray) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of normal distributions fitted to both (Heusel et al., arXiv 1706.08500)."""
    _require_pair(real, made)
    return _Normal(real).distance(*_moments(made))


def frechet_infinity(real: np.ndarray, made: np.ndarray, seed: int = 0) -> float:
    """The Fréchet distance extrapolated to endlessly many examples (Chong & Forsyth, arXiv 1911.07023).

    It is measured on random parts of `SIZES` sizes and, as its bias is proportional to 1 / N, read off the line at 1 / N = 0.
    """
    _require_pair(real, made)
    random, fixed = np.random.default_rng(seed), _Normal(real)
    sizes = np.linspace(max(2, LEAST_SHARE * len(made)), len(made), SIZES).astype(int)
    parts = [made[random.permutation(len(made))[:size]] for size in sizes]
    values = [fixed.distance(*_moments(part)) for part in parts]
    return float(np.polyfit(1 / sizes, values, 1)[1])


def frechet_estimate(real: np.ndarray, made: np.ndarray, *, extrapolate: bool = False, seed: int = 0) -> Estimate:
    """`frechet_distance`, or `frechet_infinity`, with an interval; both sets are resampled."""
    measure = (lambda x, y: frechet_infinity(x, y, seed)) if extrapolate else frechet_distance
    with threads_for(1):  # many small decompositions, which two threads that wait for each other make twenty times slower
        value = measure(real, made)
        return _moved_interval(value, lambda random: measure(_redraw(real, random), _redraw(made, random)), seed)


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Polynomial kernel of degree 3 between rows, float64 [N, M] (KID: Bińkowski et al., arXiv 1801.01401)."""
    return (x.astype(np.float64) @ y.T.astype(np.float64) / x.shape[1] + 1) ** 3


def gaussian_kernel(x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    """exp(-|x - y|^2 / (2 bandwidth^2)), float64 [N, M]: of the kernel audio distance (arXiv 2502.15602)."""
    return np.exp(-np.square(distances(x, y)) / (2 * bandwidth**2))


def median_distance(real: np.ndarray) -> float:
    """Median of the distances between different examples: the kernel audio distance's bandwidth."""
    found = distances(real, real)[np.triu_indices(len(real), 1)]
    return float(np.median(found)) or 1.0


def kernel_distance(real: np.ndarray, made: np.ndarray, bandwidth: float = 0.0) -> float:
    """Unbiased squared maximum mean discrepancy; around 0, also below it, where both are of one distribution.

    Args:
      bandwidth: of the Gaussian kernel; 0 = the polynomial kernel of KID.
    """
    _require_pair(real, made)
    between = lambda x, y: gaussian_kernel(x, y, bandwidth) if bandwidth else kernel(x, y)  # noqa: E731
    ones = np.ones(len(real)), np.ones(len(made))
    return _discrepancy(between(real, real), between(made, made), between(real, made), *ones)


def kernel_estimate(real: np.ndarray, made: np.ndarray, bandwidth: float = 0.0, seed: int = 0) -> Estimate:
    """`kernel_distance` with an interval. Pairs of an example with itself never count, however often it was drawn."""
    _require_pair(real, made)
    between = lambda x, y: gaussian_kernel(x, y, bandwidth) if bandwidth else kernel(x, y)  # noqa: E731
    grams = between(real, real), between(made, made), between(real, made)
    value = _discrepancy(*grams, np.ones(len(real)), np.ones(len(made)))
    return _moved_interval(
        value, lambda random: _discrepancy(*grams, _counts(len(real), random), _counts(len(made), random)), seed
    )


def precision_recall(real: np.ndarray, made: np.ndarray, neighbours: int = NEIGHBOURS, seed: int = 0) -> dict[str, Estimate]:
    """Shares of what is within a ball around an example that reaches to its k-th neighbour, and densities.

    Returns:
      `precision`: share of made examples within a ball of a real one; `recall`: of real ones within a ball of a made one
      (Kynkäänniemi et al., arXiv 1904.06991). `density`: balls of real ones that a made one is in, over k; `coverage`: share of
      real ones with a made one in their ball (Naeem et al., arXiv 2002.09797), which outliers do not spoil.
    Raises:
      UserError: fewer than k + 1 examples.
    """
    _require_pair(real, made, neighbours + 1)
    between, real_radius, made_radius = distances(real, made), _radius(real, neighbours), _radius(made, neighbours)
    inside = between <= real_radius[:, None]
    return {
        "precision": share_estimate(np.any(inside, axis=0), seed),
        "recall": share_estimate(np.any(between <= made_radius[None], axis=1), seed),
        "density": share_estimate(inside.sum(axis=0) / neighbours, seed),
        "coverage": share_estimate(between.min(axis=1) <= real_radius, seed),
    }


def tell_apart(real: np.ndarray, made: np.ndarray, seed: int = 0) -> Estimate:
    """AUC of a logistic classifier of real and made examples on folds it did not learn: 0.5 = alike, 1 = separable.

    A two-sample test (Lopez-Paz & Oquab, arXiv 1610.06545). The larger set is cut to the size of the smaller.
    """
    _require_pair(real, made, FOLDS)
    random, count = np.random.default_rng(seed), min(len(real), len(made))
    both = np.concatenate([_some(real, count, random), _some(made, count, random)])
    truth = np.repeat([0, 1], count)
    return auc_estimate(truth, out_of_fold_scores(both, truth, seed), seed)


def out_of_fold_scores(examples: np.ndarray, truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Scores of a logistic classifier for examples [N, D] of the classes 0 and 1, each by one that did not learn its fold.

    It reads the standardised coordinates and their squares: sets of equal means and other spreads are told apart too.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    standard = StandardScaler().fit_transform(examples)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with threads_for(1):
        return np.asarray(
            cross_val_predict(model, np.hstack([standard, np.square(standard)]), truth, cv=folds, method="decision_function")
        )


def train_and_test(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, seed: int = 0
) -> Estimate:
    """Accuracy on `test` of a logistic classifier of the classes that learnt `train`.

    Made examples as `train` and real ones as `test`: what classes look like was learnt (train synthetic, test real). The other
    way round: whether made examples look like their classes (label fidelity). Real ones on both sides: what can be reached.

    Raises:
      UserError: fewer than two classes to learn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    require(len(np.unique(train_labels)) > 1, "a classifier needs examples of two classes at least")
    with threads_for(1):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(train, train_labels)
        return share_estimate(model.predict(test) == np.asarray(test_labels), seed)


def memorisation(train: np.ndarray, held_out: np.ndarray, made: np.ndarray, seed: int = 0) -> dict[str, Estimate]:
    """Whether made examples are copies of training ones, or of each other.

    Returns:
      `copies`: share of made examples as near to a training one as the nearest `RARE_QUANTILE` of held-out real ones, by chance
      that quantile; `duplicates`: share as near to another made one; `nearest`: median distance of a made example to its nearest
      training one over that of held-out ones, far below 1 = copies.
    """
    _require_pair(train, made)
    _require_pair(held_out, made)
    usual, own = nearest_distances(held_out, train), nearest_distances(made, train)
    rare = np.quantile(usual, RARE_QUANTILE)
    middle = float(np.median(usual)) or 1.0
    others = np.sort(distances(made, made), axis=1)[:, 1]
    random = np.random.default_rng(seed)
    medians = np.array([np.median(_redraw(own, random)) / (np.median(_redraw(usual, random)) or 1.0) for _ in range(RESAMPLES)])
    return {
        "copies": share_estimate(own <= rare, seed),  # not <: where recordings have repeats, `rare` is 0, and copies too
        "duplicates": share_estimate(others <= rare, seed),
        "nearest": Estimate(float(np.median(own)) / middle, *percentile_interval(medians).tolist()),
    }


def typical_gap(examples: np.ndarray) -> float:
    """Median distance of an example [N, D] to the nearest other one."""
    return float(np.median(_radius(examples, 1)))


def nearest_distances(examples: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Distance of each example [N, D] to the nearest of others [M, D], float64 [N]."""
    parts = [distances(examples[i : i + ROWS_AT_ONCE], among).min(axis=1) for i in range(0, len(examples), ROWS_AT_ONCE)]
    return np.concatenate(parts)


def nearest_rows(examples: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Row of the nearest of others [M, D] for each example [N, D], int64 [N]."""
    parts = [distances(examples[i : i + ROWS_AT_ONCE], among).argmin(axis=1) for i in range(0, len(examples), ROWS_AT_ONCE)]
    return np.concatenate(parts)


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Euclidean distances of rows, float64 [N, M]; 0 between equal ones, whose rounding errors are no distance."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    total = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None]
    return np.sqrt(np.where((squares := total - 2 * x @ y.T) <= ALIKE * total, 0, squares))


def share_estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of numbers [N] with the percentile interval of its bootstrap."""
    values, random = np.asarray(values, np.float64), np.random.default_rng(seed)
    means = np.array([_redraw(values, random).mean() for _ in range(RESAMPLES)])
    return Estimate(float(values.mean()), *percentile_interval(means).tolist())


def auc_estimate(truth: np.ndarray, scores: np.ndarray, seed: int = 0) -> Estimate:
    """Area under the ROC curve of scores [N] for truth 0 or 1 [N], with an interval over examples of each class."""
    negative, positive = np.sort(scores[truth == 0]), scores[truth == 1]

    def area(low: np.ndarray, high: np.ndarray) -> float:
        below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
        return float(below.mean() / (2 * len(low)))

    random = np.random.default_rng(seed)
    drawn = np.array([area(np.sort(_redraw(negative, random)), _redraw(positive, random)) for _ in range(RESAMPLES)])
    return Estimate(area(negative, positive), *percentile_interval(drawn).tolist())


def _discrepancy(real: np.ndarray, made: np.ndarray, between: np.ndarray, u: np.ndarray, v: np.ndarray) -> float:
    """Squared discrepancy from kernels and how often each example counts; pairs of an example with itself are left out."""

    def within(gram: np.ndarray, weights: np.ndarray) -> float:
        pairs = weights @ gram @ weights - np.square(weights) @ np.diagonal(gram)
        return pairs / (weights.sum() ** 2 - np.square(weights).sum())

    return float(within(real, u) + within(made, v) - 2 * (u @ between @ v) / (u.sum() * v.sum()))


def _moments(examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = examples.astype(np.float64)
    return wide.mean(axis=0), np.atleast_2d(np.cov(wide, rowvar=False))


class _Normal:
    """The normal distribution fitted to examples [N, D], with the root of its covariance."""

    def __init__(self, examples: np.ndarray) -> None:
        self.mean, self.covariance = _moments(examples)
        values, axes = np.linalg.eigh(self.covariance)
        self.root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T

    def distance(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """The Fréchet distance to another one."""
        # Tr (S1 S2)^(1/2) by the symmetric S1^(1/2) S2 S1^(1/2), which has the same eigenvalues: no complex root of a product
        product = np.linalg.eigvalsh(self.root @ covariance @ self.root)
        trace = np.sqrt(np.maximum(product, 0)).sum()
        return float(np.square(self.mean - mean).sum() + np.trace(self.covariance) + np.trace(covariance) - 2 * trace)


def _radius(examples: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of each example to its k-th neighbour among the others, [N]."""
    return np.partition(distances(examples, examples), neighbours, axis=1)[:, neighbours]


def _moved_interval(value: float, draw: Callable[[np.random.Generator], float], seed: int) -> Estimate:
    random = np.random.default_rng(seed)
    drawn = np.array([draw(random) for _ in range(RESAMPLES)])
    return Estimate(value, *percentile_interval(drawn + (value - drawn.mean())).tolist())


def _redraw(examples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return examples[random.integers(0, len(examples), len(examples))]


def _counts(number: int, random: np.random.Generator) -> np.ndarray:
    return np.bincount(random.integers(0, number, number), minlength=number).astype(np.float64)


def _some(examples: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return examples if len(examples) == count else examples[random.permutation(len(examples))[:count]]


def _require_pair(real: np.ndarray, made: np.ndarray, least: int = 2) -> None:
    """Raises `UserError` for sets that are too small, of different widths, or with values that are not finite."""
    require(
        real.ndim == made.ndim == 2 and real.shape[1] == made.shape[1],
        f"embeddings of shapes {real.shape} and {made.shape} cannot be compared; both are [N, D]",
    )
    require(min(len(real), len(made)) >= least, f"{min(len(real), len(made))} examples are too few; {least} are needed")
    bad = [int((~np.isfinite(part).all(axis=1)).sum()) for part in (real, made)]
    require(not any(bad), f"{bad[0]} real and {bad[1]} made embeddings are not finite; leave them out, and say so")
