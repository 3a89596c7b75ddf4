"""What the pictures of a generator's report show."""

from __future__ import annotations

import numpy as np

from beats_jax.audio.spectrogram_images import Transform
from beats_jax.evaluation.embeddings.maps import fit_principal, tsne_places
from beats_jax.evaluation.report.generation import ClassGrid, Map, Pictures
from beats_jax.pipelines.generating.embedding import embed_images
from beats_jax.pipelines.generating.generator import Generator
from beats_jax.pipelines.generating.images import LabelledImages

SHOWN = 8  # images of a class
MOST_CLASSES = 8
MAPPED = 300  # images of each kind on a map
BETWEEN = 8  # images from one code to another


def pictures_of(generator: Generator, images: tuple[LabelledImages, LabelledImages], transform: Transform) -> Pictures:
    """Real beside drawn images of each class, maps of both, maps of codes, and ways from one code to another."""
    train, held = images
    real = held if len(held) else train
    shown = np.random.default_rng(0).permutation(len(real))
    classes = [name for name in generator.classes[:MOST_CLASSES] if (real.labels == name).any()]
    grids = []
    for name in classes:
        rows = shown[real.labels[shown] == name][:SHOWN]
        grids.append(ClassGrid(name, real.images[rows], generator.sample([name] * SHOWN, seed=1)))
    hz = transform.hz
    seconds = transform.samples / transform.sample_rate
    chosen = shown[np.isin(real.labels[shown], generator.classes)][:MAPPED]
    return Pictures(
        grids,
        _both(generator, real.images[chosen], real.labels[chosen]),
        _codes(generator, real.images[chosen], real.labels[chosen]) if hasattr(generator.objective, "encode") else [],
        _ways(generator, classes, real) if hasattr(generator.objective, "decode") else [],
        (float(hz[0]), float(hz[-1]), seconds),
    )


def _both(generator: Generator, real: np.ndarray, labels: np.ndarray) -> list[Map]:
    """Real and drawn images in one reduction, which is fitted to the real ones (t-SNE has no fit: it reads their components)."""
    vectors = embed_images(generator.scaling.to_network(real))
    made = embed_images(generator.scaling.to_network(generator.sample(labels, seed=2)))
    principal = fit_principal(vectors)
    both = np.concatenate([principal.project(vectors), principal.project(made)])
    groups = np.repeat(["real", "drawn"], len(labels))
    return [Map("PCA of the real ones", both[:, :2], groups), Map("t-SNE of both", tsne_places(both, 2), groups)]


def _codes(generator: Generator, real: np.ndarray, labels: np.ndarray) -> list[Map]:
    codes = generator.encode(real, labels)
    reduced = fit_principal(codes).project(codes)
    return [Map("codes, PCA", reduced[:, :2], labels), Map("codes, t-SNE", tsne_places(reduced, 2), labels)]


def _ways(generator: Generator, classes: list[str], real: LabelledImages) -> list[ClassGrid]:
    """From one code to another along the arc between them, which stays as likely as its ends (arXiv 1609.04468).

    The ends are codes of two real images of the class, or drawn ones where there is no encoder.
    """
    random, width = np.random.default_rng(3), generator.experiment.objective.latent  # type: ignore[attr-defined]
    found = []
    for name in classes:
        own = real.images[real.labels == name][:2]
        encodes = hasattr(generator.objective, "encode") and len(own) == 2
        start, end = generator.encode(own, [name] * 2) if encodes else random.normal(size=(2, width))
        share = np.linspace(0, 1, BETWEEN)[:, None]
        codes = arc(start, end, share)
        found.append(ClassGrid(name, own if encodes else own[:0], generator.decode(codes, [name] * BETWEEN)))
    return found


def arc(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Codes [N, Z] at shares [N, 1] of the way from one code [Z] to another; a straight line where they point alike."""
    lengths = np.linalg.norm(start) * np.linalg.norm(end)
    angle = np.arccos(np.clip(start @ end / max(lengths, 1e-12), -1, 1))
    if np.sin(angle) < 1e-3:
        return (1 - share) * start + share * end
    return (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)
