"""Calibration of probabilities: temperature scaling, reliability, expected calibration error, Brier score, NLL.

Guo et al. 2017 (On Calibration of Modern Neural Networks): one temperature T divides all logits; it is fitted on validation data
and changes no ranking of classes. Multi-label data is calibrated as its pairs of example and class, each a yes or no.

Binning: equal widths over 0 to 1, a bin holds its upper edge and the first also 0. In single-label data the confidence is the
largest probability and the outcome is whether that class is right; in multi-label data the probability of each pair and
whether the class is there. ECE is the mean of |outcome - confidence| over bins, weighted by their counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beats_jax.evaluation.metrics.classification import predicted_matrix, truth_of

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0
# The float32 probabilities nearest to 0 and 1 that are neither.
_LEAST, _MOST = float(np.finfo(np.float32).tiny), 1 - 2.0**-24


@dataclass(frozen=True)
class Reliability:
    """The table behind a reliability picture, one row per bin."""

    edges: np.ndarray  # float64 [bins + 1], from 0 to 1
    counts: np.ndarray  # int64 [bins]: examples, or pairs of example and class
    confidence: np.ndarray  # float64 [bins]: mean probability; NaN in an empty bin
    outcome: np.ndarray  # float64 [bins]: share that came true; NaN in an empty bin

    @property
    def ece(self) -> float | None:
        """Expected calibration error; None without examples."""
        if not self.counts.sum():
            return None
        filled = self.counts > 0
        gaps = np.abs(self.outcome[filled] - self.confidence[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


@dataclass(frozen=True)
class CalibrationScores:
    """How well probabilities fit; None without examples. Smaller is better."""

    nll: float | None  # nats per example, or per pair of example and class
    brier: float | None  # sum of squares over classes, mean over examples (Brier 1950); multi-label: mean over pairs
    ece: float | None
    reliability: Reliability


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature. `at_limit`: the NLL still falls beyond the limit, as where every validation example is right."""

    value: float
    at_limit: bool


def logits_of(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """float64 [N, C] logits that give these probabilities by softmax (up to a constant per row), or by sigmoid if `multi_label`.

    0 and 1 count as the nearest float32 between them. Raises ValueError for a probability outside 0 to 1, or NaN.
    """
    values = np.asarray(probabilities, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("probabilities must lie between 0 and 1; they hold other values or NaN")
    if multi_label:
        clipped = np.clip(values, _LEAST, _MOST)
        return np.log(clipped) - np.log1p(-clipped)
    return np.log(np.maximum(values, _LEAST))


def scaled_probabilities(logits: np.ndarray, temperature: float, multi_label: bool) -> np.ndarray:
    """float64 [N, C]: softmax of logits / temperature, or sigmoid if `multi_label`."""
    from scipy.special import expit, softmax

    values = np.asarray(logits, np.float64) / temperature
    return expit(values) if multi_label else softmax(values, axis=1)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, *, multi_label: bool) -> Temperature:
    """The temperature of least NLL on these (validation) examples, 0.01 to 100; 1 where nothing depends on it.

    Args:
      logits: [N, C]; of probabilities use `logits_of`. labels: int [N], or 0/1 [N, C] if `multi_label`.
    Raises:
      ValueError: no example, logits that are not finite, or labels that do not fit.
    """
    from scipy.optimize import root_scalar

    values, truth = _check(logits, labels, multi_label)
    if not len(values):
        raise ValueError("no example to fit a temperature on; give validation data")

    def gradient(inverse: float) -> float:
        """Derivative of the mean NLL with respect to 1 / T."""
        expected = scaled_probabilities(values, 1 / inverse, multi_label)
        return float(((expected - truth) * values).sum() / len(values))

    # NLL is convex in 1 / T, so the optimum is the one zero of its gradient.
    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    at_low, at_high = gradient(low), gradient(high)
    noise = 1e-14 * max(1.0, float(np.abs(values).max(initial=0)))
    if abs(at_low) <= noise and abs(at_high) <= noise:
        return Temperature(1.0, False)
    if at_low >= 0:
        return Temperature(HIGHEST_TEMPERATURE, True)
    if at_high <= 0:
        return Temperature(LOWEST_TEMPERATURE, True)
    return Temperature(1 / root_scalar(gradient, bracket=(low, high), xtol=1e-14, rtol=1e-14).root, False)


def calibration_scores(
    logits: np.ndarray, labels: np.ndarray, *, multi_label: bool, temperature: float = 1.0, bins: int = 15
) -> CalibrationScores:
    """NLL, Brier score and reliability of the probabilities at `temperature`; arguments as in `fit_temperature`, N may be 0.

    Raises:
      ValueError: shapes or values that do not fit, bins < 1.
    """
    values, truth = _check(logits, labels, multi_label)
    probabilities = scaled_probabilities(values, temperature, multi_label)
    reliability = reliability_table(probabilities, labels, multi_label=multi_label, bins=bins)
    if not len(values):
        return CalibrationScores(None, None, None, reliability)
    squares = (probabilities - truth) ** 2
    return CalibrationScores(
        nll=negative_log_likelihood(values / temperature, truth, multi_label),
        brier=float(squares.mean() if multi_label else squares.sum(axis=1).mean()),
        ece=reliability.ece,
        reliability=reliability,
    )


def reliability_table(probabilities: np.ndarray, labels: np.ndarray, *, multi_label: bool, bins: int = 15) -> Reliability:
    """Mean probability and share that came true in each bin (see the head of this file); arguments as in `calibration_scores`."""
    if bins < 1:
        raise ValueError(f"{bins} bins; give at least one")
    values = np.asarray(probabilities, np.float64)
    predicted = predicted_matrix(values, multi_label=False)
    if ((values < 0) | (values > 1)).any():
        raise ValueError("probabilities must lie between 0 and 1")
    truth = truth_of(labels, values, multi_label)
    confidence, outcome = (values.ravel(), truth.ravel()) if multi_label else (values[predicted], truth[predicted])
    edges = np.linspace(0, 1, bins + 1)
    places = np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)
    counts = np.bincount(places, minlength=bins)
    sums = (np.bincount(places, weights=weights, minlength=bins) for weights in (confidence, outcome))
    means = (np.divide(total, counts, out=np.full(bins, np.nan), where=counts > 0) for total in sums)
    return Reliability(edges, counts, *means)


def _check(logits: np.ndarray, labels: np.ndarray, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """(logits, truth as 0.0 and 1.0), float64 [N, C]. Raises ValueError where they do not fit."""
    values = np.asarray(logits, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"logits of shape {values.shape} must be [N, C] and finite")
    return values, truth_of(labels, values, multi_label).astype(np.float64)


def negative_log_likelihood(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    """Mean in nats over examples, or over pairs of example and class if `multi_label`. logits, truth (0 or 1): [N, C]."""
    from scipy.special import log_softmax

    if multi_label:
        return float((np.logaddexp(0, logits) - truth * logits).mean())
    return float(-(log_softmax(logits, axis=1) * truth).sum(axis=1).mean())
