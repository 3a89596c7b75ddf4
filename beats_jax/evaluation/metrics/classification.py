"""Classification metrics: arrays in, numbers out. Pure numpy.

Letters: N examples, C classes, R sets of example weights. Weights are [N] or [N, R]; results carry the same trailing axis, so
that a bootstrap of R resamples is one call. Without weights every example counts 1.

Rules where a quotient is undefined (the same for every metric):
- A class's precision needs a prediction of it, its recall and average precision a true example, its F1 either of the two, its
  AUROC examples with and without it. Otherwise that number is NaN here and null in files.
- Macro precision, recall and F1 average over the classes that occur in truth or prediction; inside that average an undefined
  precision or recall counts 0. This is scikit-learn's rule with its default `labels` and `zero_division`.
- mAP averages over classes with true examples, AUROC over classes with both kinds, balanced accuracy over classes with true
  examples.
- An average over nothing is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """Weighted counts per class [C] or [C, R], and over examples [] or [R]."""

    true_positives: np.ndarray
    actual: np.ndarray  # weight of the examples that hold the class
    predicted: np.ndarray  # weight of the examples that were given the class
    exact: np.ndarray  # weight of the examples whose set of classes is exactly right
    total: np.ndarray


class Metrics(NamedTuple):
    """`overall`: name -> [] or [R]. `classes`: name -> [C] or [C, R]. float64, NaN where undefined."""

    overall: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]


def truth_matrix(labels: np.ndarray, num_classes: int, multi_label: bool) -> np.ndarray:
    """bool [N, C] from class numbers [N], or from 0/1 marks [N, C] if `multi_label`.

    Raises:
      ValueError: wrong shape, a class number outside 0..C-1, or a mark that is neither 0 nor 1.
    """
    labels = np.asarray(labels)
    if multi_label:
        if labels.ndim != 2 or labels.shape[1] != num_classes:
            raise ValueError(f"multi-label labels have shape {labels.shape}; expected [N, {num_classes}]")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError("multi-label labels hold values other than 0 and 1")
        return labels.astype(bool)
    if labels.ndim != 1:
        raise ValueError(f"labels have shape {labels.shape}; expected [N]")
    if labels.size and not (0 <= labels.min() and labels.max() < num_classes):
        raise ValueError(f"labels lie in {labels.min()}..{labels.max()}; expected 0..{num_classes - 1}")
    return labels[:, None] == np.arange(num_classes)


def truth_of(labels: np.ndarray, values: np.ndarray, multi_label: bool) -> np.ndarray:
    """`truth_matrix` for the rows and classes of `values` [N, C]; ValueError where labels are more or fewer."""
    truth = truth_matrix(labels, values.shape[1], multi_label)
    if len(truth) != len(values):
        raise ValueError(f"{len(truth)} labels, but {len(values)} rows of probabilities or scores")
    return truth


def predicted_matrix(probabilities: np.ndarray, multi_label: bool, threshold: float = 0.5) -> np.ndarray:
    """bool [N, C] from probabilities [N, C]: the largest (of equals the first), or all >= `threshold` if `multi_label`.

    Raises:
      ValueError: not two-dimensional, or NaN among them.
    """
    if probabilities.ndim != 2:
        raise ValueError(f"probabilities have shape {probabilities.shape}; expected [N, C]")
    if np.isnan(probabilities).any():
        raise ValueError("probabilities hold NaN")
    if multi_label:
        return probabilities >= threshold
    if probabilities.shape[1] == 0:
        return np.zeros(probabilities.shape, bool)
    return probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])


def count_outcomes(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> Counts:
    """Counts from truth and prediction, bool [N, C], and weights [N] or [N, R], whose dtype the sums have."""
    dtype = weights.dtype
    return Counts(
        true_positives=(truth & predicted).T.astype(dtype) @ weights,
        actual=truth.T.astype(dtype) @ weights,
        predicted=predicted.T.astype(dtype) @ weights,
        exact=(truth == predicted).all(axis=1).astype(dtype) @ weights,
        total=weights.sum(axis=0),
    )


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient in float64; NaN where the denominator is not positive."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def mean_over(values: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Mean over the classes (axis 0) that are `included`; their NaN count 0. NaN where no class is."""
    return ratio(np.where(included, np.nan_to_num(values), 0.0).sum(axis=0), included.sum(axis=0))


def count_metrics(counts: Counts, multi_label: bool) -> Metrics:
    """The metrics that need predictions, not scores."""
    hits, actual, predicted = counts.true_positives, counts.actual, counts.predicted
    precision, recall = ratio(hits, predicted), ratio(hits, actual)
    f1 = ratio(2.0 * np.asarray(hits, np.float64), actual + predicted)
    occurs = (actual > 0) | (predicted > 0)
    all_hits, all_actual, all_predicted = (count.sum(axis=0, dtype=np.float64) for count in (hits, actual, predicted))
    overall = {"accuracy": ratio(counts.exact, counts.total)}
    if not multi_label:
        overall["balanced_accuracy"] = mean_over(recall, actual > 0)
    overall |= {
        "precision_macro": mean_over(precision, occurs),
        "recall_macro": mean_over(recall, occurs),
        "f1_macro": mean_over(f1, occurs),
        "precision_micro": ratio(all_hits, all_predicted),
        "recall_micro": ratio(all_hits, all_actual),
        "f1_micro": ratio(2 * all_hits, all_actual + all_predicted),
    }
    return Metrics(overall, {"precision": precision, "recall": recall, "f1": f1})


class Ranking:
    """Average precision and AUROC of one class, prepared once (one sort) and evaluated for any weights.

    Walking down the scores, groups of equal scores count as one step. With p_g and n_g the weights of the positives and
    negatives in group g, and TP_g, FP_g the sums up to and including it:
      average precision = sum_g (p_g / P) * TP_g / (TP_g + FP_g)
      AUROC             = sum_g p_g * (N - FP_g + n_g / 2) / (P * N)        (Mann-Whitney, ties count half)
    Both need FP only at groups that hold a positive, so weights are summed over the stretches between those.
    """

    def __init__(self, truth: np.ndarray, scores: np.ndarray) -> None:
        """truth: bool [N]; scores: [N], larger = more likely."""
        order = np.argsort(-scores, kind="stable")
        positive, ordered = truth[order], scores[order]
        self.negatives, self.positives = order[~positive], order[positive]  # examples by falling score
        # Of each group: where it begins among the positives alone, and how many negatives lie above it and up to its end.
        self.positive_starts = self.negatives_above = self.negatives_upto = np.zeros(0, np.int64)
        if not positive.any():
            return
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        holds_positive = np.logical_or.reduceat(positive, starts)
        ends = np.append(starts[1:], len(ordered))[holds_positive]
        starts = starts[holds_positive]
        positives_before = np.append(0, np.cumsum(positive))
        self.positive_starts = positives_before[starts]
        self.negatives_above = starts - positives_before[starts]
        self.negatives_upto = ends - positives_before[ends]

    def evaluate(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(average precision, AUROC), float64 [] or [R], for weights [N] or [N, R]."""
        if not len(self.positives):
            nothing = np.full(weights.shape[1:], np.nan)
            return nothing, nothing
        group_positives = np.add.reduceat(weights[self.positives], self.positive_starts, axis=0).astype(np.float64)
        upto_positives = np.cumsum(group_positives, axis=0)
        above, upto, negatives = self._negative_sums(weights)
        positives = upto_positives[-1]
        precision = ratio(upto_positives, upto_positives + upto)
        # A group whose positives all weigh nothing adds nothing, though its precision may be undefined.
        average_precision = ratio((group_positives * np.nan_to_num(precision)).sum(axis=0), positives)
        better = (group_positives * (negatives - 0.5 * (above + upto))).sum(axis=0)
        return average_precision, ratio(better, positives * negatives)

    def _negative_sums(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weight of the negatives above each group [G, ...], up to its end [G, ...], and of all [...]; float64."""
        ordered = weights[self.negatives]
        if not len(ordered):
            nothing = np.zeros((len(self.negatives_above), *weights.shape[1:]))
            return nothing, nothing, nothing[0]
        edges = np.unique(np.concatenate(([0], self.negatives_above, self.negatives_upto)))
        stretches = np.add.reduceat(ordered, edges[edges < len(ordered)], axis=0)
        sums = np.zeros((len(stretches) + 1, *weights.shape[1:]))
        np.cumsum(stretches, axis=0, dtype=np.float64, out=sums[1:])
        above, upto = (sums[np.searchsorted(edges, places)] for places in (self.negatives_above, self.negatives_upto))
        return above, upto, sums[-1]


class Evaluator:
    """All metrics of one set of predictions, ready to be computed for any weights (sorted once per class)."""

    def __init__(
        self,
        labels: np.ndarray,
        probabilities: np.ndarray,
        *,
        multi_label: bool,
        threshold: float = 0.5,
        predicted: np.ndarray | None = None,
    ) -> None:
        """labels: int [N] or 0/1 [N, C]; probabilities: [N, C]; predicted: bool [N, C] by another rule than `predicted_matrix`.
        Raises ValueError where shapes or values do not fit."""
        probabilities = np.asarray(probabilities)
        self.multi_label = multi_label
        decided = predicted_matrix(probabilities, multi_label, threshold)
        self.predicted = decided if predicted is None else predicted
        if self.predicted.shape != decided.shape:
            raise ValueError(f"predictions of shape {self.predicted.shape} for probabilities of shape {decided.shape}")
        self.truth = truth_of(labels, probabilities, multi_label)
        self.rankings = [Ranking(self.truth[:, i], probabilities[:, i]) for i in range(probabilities.shape[1])]

    def metrics(self, weights: np.ndarray | None = None) -> Metrics:
        """Metrics for weights [N] or [N, R] (>= 0; integers are summed exactly)."""
        if weights is None:
            weights = np.ones(len(self.truth))
        if weights.dtype.kind != "f":
            weights = weights.astype(np.float64)
        overall, classes = count_metrics(count_outcomes(self.truth, self.predicted, weights), self.multi_label)
        per_class = [ranking.evaluate(weights) for ranking in self.rankings]
        empty = np.zeros((0, *weights.shape[1:]))
        for position, (name, average) in enumerate((("ap", "mAP"), ("auroc", "auroc"))):
            values = np.stack([pair[position] for pair in per_class]) if per_class else empty
            classes[name] = values
            overall[average] = mean_over(values, ~np.isnan(values))
        return Metrics(overall, classes)


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Counts of examples, int64: single-label [C, C], row = true class, column = predicted class; multi-label [C, 2, 2], per
    class, row = truly there (0 no, 1 yes), column = predicted. truth, predicted: bool [N, C].
    """
    if not multi_label:
        return truth.T.astype(np.int64) @ predicted.astype(np.int64)
    hits = (truth & predicted).sum(axis=0)
    false_alarms, misses = (predicted & ~truth).sum(axis=0), (truth & ~predicted).sum(axis=0)
    rest = len(truth) - hits - false_alarms - misses
    return np.stack([rest, false_alarms, misses, hits], axis=-1).reshape(-1, 2, 2).astype(np.int64)


def compute_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    multi_label: bool,
    threshold: float = 0.5,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Every overall metric by name, without intervals, for validation during training. NaN where undefined.

    `accuracy` of multi-label data is the exact match of the whole set of classes; `balanced_accuracy` is single-label only.
    """
    evaluator = Evaluator(labels, probabilities, multi_label=multi_label, threshold=threshold)
    return {name: float(value) for name, value in evaluator.metrics(weights).overall.items()}
