"""Splits of whole classes: what few-shot learning needs, whose test is on classes that training has never met."""

from __future__ import annotations

import numpy as np

from beats_jax.audio.files import some
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import SPLITS, Manifest
from beats_jax.errors import UserError


def draw_classes(manifest: Manifest, data: DataConfig) -> np.ndarray:
    """Texts [N]: the split of every row, by its class; `train_split`, `val_split` and `test_split` are shares of the classes.

    The classes are counted by largest remainder: 20 classes at 0.5, 0.1 and 0.4 are 10, 2 and 8. The same classes and
    `split_seed` give the same draw in whatever order the rows come.

    Raises:
      UserError: a row without exactly one class, fewer than two classes in a split that has a share.
    """
    classes = class_of_rows(manifest)
    names = np.unique(classes)
    shares = np.array([data.train_split, data.val_split, data.test_split])
    counts = _whole_numbers(shares, len(names))
    few = [f"{name} {count}" for name, share, count in zip(SPLITS, shares, counts, strict=True) if share > 0 and count < 2]
    if few:
        raise UserError(
            f"the data has {len(names)} classes and data.split_by is 'classes', which gives {' and '.join(few)}; every split "
            "needs two: change data.train_split, val_split and test_split (0 = none)"
        )
    order = np.random.default_rng(data.split_seed).permutation(len(names))
    split_of = np.empty(len(names), dtype=object)
    split_of[order] = np.repeat(SPLITS, counts)
    return split_of[np.searchsorted(names, classes)].astype(str)


def require_classes_apart(manifest: Manifest) -> None:
    """Raises `UserError` where rows of one class are in several splits, or a row has not exactly one class."""
    classes = class_of_rows(manifest)
    pairs = np.unique(np.stack([classes, np.array(manifest.splits.tolist())], axis=1), axis=0)
    names, number = np.unique(pairs[:, 0], return_counts=True)
    shared = names[number > 1].tolist()
    if shared:
        where = " and ".join(pairs[pairs[:, 0] == shared[0], 1].tolist())
        raise UserError(
            f"data.split_by is 'classes', but {len(shared)} classes are in several splits: {some(shared)} ({where})"
            "; give each class to one split, or set data.split_by='rows'"
        )


def class_of_rows(manifest: Manifest) -> np.ndarray:
    """str [N]: the one class of every row. Raises `UserError` naming a row that has none or several."""
    wrong = np.flatnonzero(manifest.labels.per_row != 1)
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"{manifest.files[row]} has the labels {list(manifest.labels[row])}; data.split_by 'classes' needs one")
    return np.array(manifest.labels.names)[manifest.labels.ids]


def _whole_numbers(shares: np.ndarray, total: int) -> list[int]:
    """`total` in parts with these shares (sum 1), by largest remainder; of equal remainders the first part has the larger."""
    exact = shares * total
    counts = np.floor(exact + 1e-9).astype(int)
    rest = np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return counts.tolist()
