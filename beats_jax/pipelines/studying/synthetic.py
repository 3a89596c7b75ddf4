"""What synthetic examples look like, and how near they are to real ones: the figures of a generator's report, for every arm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from beats_jax.evaluation.metrics.result import Estimate
from beats_jax.evaluation.report.figures import study as figures
from beats_jax.evaluation.report.page import Block, Cell, Figure, Paragraph, Section, Table
from beats_jax.pipelines.generating.embedding import NAME, fit_embedding
from beats_jax.pipelines.generating.quality import Yardstick, compare, like_shares, make_yardstick
from beats_jax.pipelines.generating.scaling import fit_scaling
from beats_jax.pipelines.studying.arms import Arms
from beats_jax.pipelines.studying.results import SYNTHETIC
from beats_jax.pipelines.studying.settings import CONTROLS
from beats_jax.pipelines.studying.store import ALL, Store

SHOWN = 8  # pictures in a row
LEAST, MOST = 16, 500  # test pictures that are compared: fewer say nothing, more take long
DISTANCES = {
    "tell_apart": "told apart (AUC)",
    "frechet": "Fréchet",
    "frechet_infinity": "Fréchet, extrapolated",
    "kad": "kernel distance",
}
SHARES = {
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
COPIES = {"copies": "copies", "duplicates": "duplicates"}
CLASSES = {"train_synthetic_test_real": "synthetic → real", "label_fidelity": "class recognised"}


class Judged(NamedTuple):
    """The figures of `pictures` pictures by name."""

    title: str
    pictures: int
    figures: dict[str, Estimate]


class Kept(NamedTuple):
    """Synthetic pictures of an arm at the largest size that it reached: float32 [n, frames, bands], classes int64 [n]."""

    arm: str
    size: int
    images: np.ndarray
    labels: np.ndarray

    @property
    def title(self) -> str:
        """`vae gated, all`."""
        return f"{self.arm.replace('_', ' ')}, {self.size or 'all'}"


def synthetic_sections(arms: Arms, store: Store, sizes: Sequence[int]) -> list[Section]:
    """Pictures of the arms below real ones, and the table of their quality; nothing where no arm made any."""
    kept = _kept(store, sizes)
    if not kept:
        return []
    real = np.random.default_rng(0).permutation(_wanted(arms, arms.real(ALL, 0)))[:SHOWN]
    grid = {"real": arms.pictures.images[real]}
    grid |= {one.title: one.images[:SHOWN] for one in kept}
    note = "Of the first seed; the number: real examples."
    blocks: list[Block] = [Figure(partial(figures.sample_grid, grid), "real and synthetic pictures", note)]
    return [Section("Stage 4: synthetic examples", [*blocks, *_quality(arms, kept)])]


def _kept(store: Store, sizes: Sequence[int]) -> list[Kept]:
    found = []
    for arm in (*CONTROLS, *SYNTHETIC):
        for size in sorted(set(sizes), key=lambda size: -(size or 10**9)):
            samples = store.samples(size, arm)
            if samples is not None and len(samples[0]):
                found.append(Kept(arm, size, *samples))
                break
    return found


def _quality(arms: Arms, kept: Sequence[Kept]) -> list[Block]:
    """Synthetic pictures against training pictures of the same classes; the first row is that of test pictures."""
    test = np.sort(np.random.default_rng(0).permutation(_wanted(arms, arms.usable("test")))[:MOST])
    if len(test) < LEAST:
        return [Paragraph(f"Their quality is not measured: the test part has {len(test)} clips, and {LEAST} are needed.", "note")]
    yardsticks: dict[int, Yardstick] = {}
    rows: list[Judged] = []
    for one in kept:
        if one.size not in yardsticks:
            yardsticks[one.size] = _yardstick(arms, one.size)
        rows += _judged(arms, yardsticks[one.size], one, test, floor=not rows)
    if not rows:
        return [Paragraph(f"Their quality is not measured: {LEAST} training and test clips of their classes are needed.", "note")]
    note = (
        "Synthetic pictures against as many training pictures of the same classes; intervals by bootstrap over pictures. The "
        "first row is the floor: real pictures of the test part. AUC: 0.5 is alike, 1 told apart at once. Fewer pictures make a "
        f"Fréchet distance larger; the next column extrapolates it to endlessly many. Embedding: {NAME}."
    )
    more = "Precision: synthetic pictures among real ones; recall: real among synthetic ones. Density and coverage bear outliers."
    copies = "Copies are nearly a training picture (chance: 0.01), duplicates nearly another synthetic one."
    own = "Accuracy of a classifier of synthetic pictures on real ones, and of one of real pictures on synthetic ones."
    tables = [(DISTANCES, note), (SHARES, more), (COPIES, copies)]
    tables += [(CLASSES, own)] if all(name in one.figures for one in rows for name in CLASSES) else []
    return [block for columns, words in tables for block in (_table(rows, columns), Paragraph(words, "note"))]


def _table(rows: Sequence[Judged], columns: dict[str, str]) -> Table:
    cells: list[tuple[Cell, ...]] = [(one.title, one.pictures, *(one.figures[name] for name in columns)) for one in rows]
    return Table(("arm, real examples", "pictures", *columns.values()), cells, numbers_from=1)


def _yardstick(arms: Arms, size: int) -> Yardstick:
    rows = _wanted(arms, arms.real(size, 0))
    images = _turned(arms.pictures.images[rows])
    return make_yardstick(images, arms.rows.labels[rows], fit_embedding(images, fit_scaling(images)))


def _judged(arms: Arms, yardstick: Yardstick, one: Kept, test: np.ndarray, *, floor: bool) -> list[Judged]:
    """An arm, after the test pictures where `floor`; none where too few pictures can be compared."""
    random = np.random.default_rng(0)
    drawn = _by_class(like_shares(one.labels, arms.rows.labels[test], random), one.labels)
    held = test[like_shares(arms.rows.labels[test], one.labels[drawn], random)]
    held = _by_class(held, arms.rows.labels)  # so that each stands beside a drawn one of its class
    if min(len(drawn), len(held)) < LEAST:
        return []
    images, labels = _turned(one.images[drawn]), one.labels[drawn]
    vectors, classes = yardstick.vectors(images, labels, _turned(arms.pictures.images[held]), random)
    if len(vectors.train) < LEAST:
        return []
    parts = [("real, test part", vectors.held)] if floor else []
    parts.append((one.title, vectors.made))
    return [Judged(title, len(part), compare(part, vectors, labels, classes, 0)) for title, part in parts]


def _wanted(arms: Arms, rows: np.ndarray) -> np.ndarray:
    """The rows of the classes of interest."""
    return rows[np.isin(arms.rows.labels[rows], arms.rows.wanted)]


def _by_class(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return rows[np.argsort(labels[rows], kind="stable")]


def _turned(images: np.ndarray) -> np.ndarray:
    """[N, frames, bands] as [N, bands, frames]."""
    return np.ascontiguousarray(np.swapaxes(images, 1, 2))
