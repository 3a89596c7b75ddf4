"""A detector from a few examples on a frozen encoder: the direction from the background's embeddings to the examples'.

Linear discriminant analysis of each class against the background, whose covariance is shrunk by the rule of Ledoit and Wolf
(2004): there may be fewer windows than dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from beats_jax.errors import UserError
from beats_jax.evaluation.probes.fitted import DISCRIMINANT
from beats_jax.inference.grid import Grid
from beats_jax.inference.model import Model
from beats_jax.inference.program import Outputs
from beats_jax.pipelines.detecting.background import background_stretches
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.pipelines.detecting.examples import Example, read_example
from beats_jax.pipelines.detecting.few_examples import (
    FewExamples,
    above_negatives,
    fit_class,
    known_thresholds,
    lengths_of,
    require_sound,
)
from beats_jax.pipelines.probing.saved import ProbeHead, ProbeProgram
from beats_jax.weights.bundle import Reading

HOP_SHARE = 0.5  # of the window
BATCH = 16
POOLING, LAYER = "mean", -1


def fit_directions(
    model: Model,
    examples: Sequence[Example],
    recordings: Sequence[str],
    *,
    per_hour: float,
    window: float | None = None,
    hop: float | None = None,
    negatives: Sequence[Example] = (),
) -> FewExamples:
    """Fits a direction for each class; arguments as `few_examples.fit_templates`.

    Args:
      window: None = the median length of the class with the longest examples. hop: None = half of the window.
    Raises:
      UserError: an example or all recordings cannot be read, or an example without sound.
    """
    lengths = lengths_of(examples)
    grid = model.grid(max(window or max(lengths.values()), model.min_samples / model.sample_rate), 0.0)
    grid = Grid(grid.window_seconds, hop or HOP_SHARE * grid.window_seconds)
    sounds = [_around(example, model, grid.window_seconds) for example in examples]
    require_sound(examples, sounds)
    cut = [_cut(stretch, grid, model.sample_rate) for stretch in background_stretches(recordings, model.audio)]
    background = _embed(model, [window for windows in cut for window in windows])
    if len(background) < 2:
        raise UserError("the recordings hold less than two windows of background; give a shorter --window")
    mean, deviation = background.mean(axis=0), np.maximum(background.std(axis=0), 1e-6)
    background = (background - mean) / deviation
    vectors = (_embed(model, sounds) - mean) / deviation
    against = (_embed(model, [_around(one, model, grid.window_seconds) for one in negatives]) - mean) / deviation
    from sklearn.covariance import ledoit_wolf

    covariance = ledoit_wolf(background, assume_centered=True)[0]
    per_window = 3600 / grid.hop_seconds
    kernel, fits = [], []
    for label in lengths:
        own = vectors[[example.label == label for example in examples]]
        direction = _direction(covariance, own.mean(axis=0))
        kernel.append(direction)
        fits.append(fit_class(label, _left_out(covariance, own), background @ direction, per_window, per_hour))
    matrix = np.stack(kernel, axis=1)
    if len(against):
        fits = above_negatives(fits, [against @ matrix])
    slope, offset = np.array([fit.slope for fit in fits]), np.array([fit.threshold for fit in fits])
    arrays = {"mean": mean, "scale": 1 / deviation, "kernel": matrix * slope, "bias": -offset * slope}
    facts = {"grid": asdict(grid), "seconds": dict.fromkeys(lengths, grid.window_seconds), "lines": [fit.line() for fit in fits]}
    return FewExamples({name: array.astype(np.float32) for name, array in arrays.items()}, facts)


def embedding_detector(fitted: FewExamples, model: Model) -> Detector:
    """The detector of a fit with this model."""
    seconds, encoder = dict(fitted.facts["seconds"]), model.program(Outputs((POOLING,), (LAYER,)))
    head = ProbeHead(
        kind=DISCRIMINANT,
        setting="",
        arrays=fitted.arrays,
        layer=LAYER,
        pooling=POOLING,
        labels=tuple(seconds),
        multi_label=True,
        reading=Reading(),
        source=model.source,
        encoder={},
    )
    program = ProbeProgram(encoder, head, {"encoder": encoder.params, "head": fitted.arrays})
    origin = {"source": model.source, "licence": model.licence}
    return Detector(
        program, tuple(seconds), True, Grid(**fitted.facts["grid"]), **known_thresholds(seconds), seconds=seconds, origin=origin
    )


def _direction(covariance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Of unit norm in the background's metric, so that scores of the background have a deviation near 1."""
    direction = np.linalg.solve(covariance, mean)
    return direction / max(float(np.sqrt(direction @ covariance @ direction)), 1e-9)


def _left_out(covariance: np.ndarray, vectors: np.ndarray) -> tuple[float, ...]:
    """Score of each example by the direction of the others; none of a single one."""
    if len(vectors) == 1:
        return ()
    total = vectors.sum(axis=0)
    return tuple(float(one @ _direction(covariance, (total - one) / (len(vectors) - 1))) for one in vectors)


def _around(example: Example, model: Model, window: float) -> np.ndarray:
    """A window around the middle of an example, where its file is long enough."""
    sound = read_example(example, model.audio, max(0.0, (window - example.seconds) / 2))
    spare = max(0, len(sound) - round(window * model.sample_rate))
    return sound[spare // 2 : len(sound) - (spare - spare // 2)]


def _cut(stretch: np.ndarray, grid: Grid, sample_rate: int) -> list[np.ndarray]:
    samples = grid.window_samples(sample_rate)
    return [stretch[start : start + samples] for start in grid.starts(len(stretch), sample_rate).tolist()]


def _embed(model: Model, sounds: list[np.ndarray]) -> np.ndarray:
    """float64 [N, D]; batches of one shape, so that one program is compiled."""
    found = [np.zeros((0, model.num_features))]
    longest = max(map(len, sounds), default=0)
    for first in range(0, len(sounds), BATCH):
        few = sounds[first : first + BATCH]
        rows = np.zeros((BATCH, longest), np.float32)
        for row, sound in zip(rows, few, strict=False):
            row[: len(sound)] = sound
        lengths = np.array([len(sound) for sound in few] + [0] * (BATCH - len(few)))
        found.append(np.asarray(model.embed(rows, lengths, POOLING, LAYER), np.float64)[: len(few)])
    return np.concatenate(found)
