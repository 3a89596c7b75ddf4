"""Batches of images in memory: a pure function of the seed and the step, so that a run resumes to the image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from beats_jax.datasets.loader import Batch


def image_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int, *, seed: int, start_step: int = 0, balanced: bool = False
) -> Iterator[Batch]:
    """Endless batches with `images`, `labels` and `rows`; every epoch draws each image once in a new order.

    Args:
      images: float32 [N, F, T]. labels: int32 [N].
      balanced: the classes take turns, each in its own order.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)] if balanced else [np.arange(len(labels))]
    orders: dict[tuple[int, int], np.ndarray] = {}

    def draw(index: int) -> int:
        turn, kind = divmod(index, len(members))
        epoch, place = divmod(turn, len(members[kind]))
        if (kind, epoch) not in orders:
            orders.pop((kind, epoch - 1), None)
            orders[kind, epoch] = np.random.default_rng([seed, kind, epoch]).permutation(members[kind])
        return int(orders[kind, epoch][place])

    step = start_step
    while True:
        rows = np.array([draw(index) for index in range(step * batch_size, (step + 1) * batch_size)], np.int32)
        yield Batch({"images": images[rows], "labels": labels[rows], "rows": rows}, ())
        step += 1
