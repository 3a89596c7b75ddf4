"""The quality of a generator: drawn images against held-out real ones, beside what real ones score against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from beats_jax.evaluation.embeddings import generative
from beats_jax.evaluation.metrics.result import Estimate
from beats_jax.pipelines.generating.embedding import NAME, fit_embedding
from beats_jax.pipelines.generating.generator import Generator

MOST = 1000  # images of each side that are compared: kernels and neighbourhoods grow with the square
Embed = Callable[[np.ndarray], np.ndarray]  # images in dB [N, bands, frames] → [N, D]


@dataclass(frozen=True)
class Quality:
    """Figures of drawn images and the same of held-out real ones, by name, with intervals; `embedding`: what of."""

    figures: dict[str, Estimate]
    floor: dict[str, Estimate]
    embedding: str
    drawn: int
    held_out: int

    def as_metrics(self) -> dict[str, float | int | None]:
        """Flat, for metrics.json: NAME, NAME_low, NAME_high, and NAME_floor."""
        flat: dict[str, float | int | None] = {"n": self.held_out, "drawn": self.drawn}
        for name, found in self.figures.items():
            flat |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return flat | {f"{name}_floor": found.value for name, found in self.floor.items()}


def measure_quality(
    generator: Generator,
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    seed: int = 0,
    embed: Embed | None = None,
    embedding: str = NAME,
) -> Quality:
    """Measures a generator.

    Args:
      train, held_out: images [N, bands, frames] in the generator's units and their classes [N], text.
      embed: an embedding of one's own, and `embedding`, its name; None = `embedding.fit_embedding` of the training images.
    Raises:
      UserError: fewer held-out images than the measures need.
    """
    random = np.random.default_rng(seed)
    known = np.flatnonzero(np.isin(held_out[1], generator.classes))
    chosen = np.sort(random.permutation(known)[:MOST])
    labels = np.asarray(held_out[1])[chosen]
    yardstick = make_yardstick(*train, embed or fit_embedding(train[0], generator.scaling))
    vectors, classes = yardstick.vectors(generator.sample(labels, seed), labels, held_out[0][chosen], random)
    return Quality(
        compare(vectors.made, vectors, labels, classes, seed),
        compare(vectors.held, vectors, labels, classes, seed),
        embedding,
        len(vectors.made),
        len(chosen),
    )


@dataclass(frozen=True)
class Vectors:
    """Standardised embeddings: of drawn, held-out and as many training images, and of all training images."""

    made: np.ndarray
    held: np.ndarray
    train: np.ndarray
    all_train: np.ndarray


@dataclass(frozen=True)
class Yardstick:
    """What images are compared with: an embedding, and the training images and their classes, text [N].

    Embeddings are in units of the training images, each coordinate by itself: distances do not depend on their scale.
    """

    embed: Embed
    mean: np.ndarray
    deviation: np.ndarray
    train: np.ndarray
    labels: np.ndarray

    def vectors(
        self, drawn: np.ndarray, labels: np.ndarray, held: np.ndarray, random: np.random.Generator
    ) -> tuple[Vectors, tuple[np.ndarray, np.ndarray]]:
        """The embeddings of drawn and held-out images of these classes, and the classes of `Vectors.held` and `Vectors.train`."""
        # As many training images of each class: a difference of the shares would count as one of quality
        rows = like_shares(self.labels, labels, random)
        vectors = Vectors(self.place(self.embed(drawn)), self.place(self.embed(held)), self.train[rows], self.train)
        return vectors, (labels, self.labels[rows])

    def place(self, embedded: np.ndarray) -> np.ndarray:
        """Standardised."""
        return (embedded - self.mean) / self.deviation


def make_yardstick(images: np.ndarray, labels: Sequence[str] | np.ndarray, embed: Embed) -> Yardstick:
    """Of training images [N, bands, frames]."""
    embedded = embed(images)
    mean, deviation = embedded.mean(axis=0), np.maximum(embedded.std(axis=0), 1e-6)
    return Yardstick(embed, mean, deviation, (embedded - mean) / deviation, np.asarray(labels))


def compare(
    judged: np.ndarray, vectors: Vectors, labels: np.ndarray, classes: tuple[np.ndarray, np.ndarray], seed: int
) -> dict[str, Estimate]:
    """Every figure of `judged`, drawn or held-out, against the training images that stand for what is real.

    `train_synthetic_test_real` learns `judged` and is tested on held-out images, or, for these themselves, on training images.
    """
    real, held = vectors.train, vectors.held
    width = generative.median_distance(real)
    figures = {
        "frechet": generative.frechet_estimate(real, judged, seed=seed),
        "frechet_infinity": generative.frechet_estimate(real, judged, extrapolate=True, seed=seed),
        "kid": generative.kernel_estimate(real, judged, seed=seed),
        "kad": generative.kernel_estimate(real, judged, width, seed=seed),
        **generative.precision_recall(real, judged, seed=seed),
        "tell_apart": generative.tell_apart(real, judged, seed=seed),
        **generative.memorisation(vectors.all_train, held, judged, seed),
    }
    if all(1 < len(np.unique(part)) <= len(part) / 2 for part in (labels, classes[1])):  # one image teaches no class
        other = (real, classes[1]) if judged is held else (held, labels)
        figures["train_synthetic_test_real"] = generative.train_and_test(judged, labels, *other, seed=seed)
        figures["label_fidelity"] = generative.train_and_test(real, classes[1], judged, labels, seed=seed)
    return figures


def like_shares(labels: np.ndarray, wanted: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rows whose labels occur as often as in `wanted`, as far as there are so many; ascending."""
    rows = [
        random.permutation(np.flatnonzero(labels == name))[:count]
        for name, count in zip(*np.unique(wanted, return_counts=True), strict=True)
    ]
    return np.sort(np.concatenate(rows))
