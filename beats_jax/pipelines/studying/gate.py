"""What a study recommends, and gate.json, which `train --config.objective.augment.synthetic=auto` obeys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.pipelines.studying.results import SYNTHETIC, Comparison
from beats_jax.pipelines.studying.settings import LEAST_SEEDS
from beats_jax.pipelines.studying.store import ALL


def recommended(comparisons: Sequence[Comparison], size: int) -> Comparison | None:
    """The synthetic arm of best validation among those that helped at a size; None = use none.

    It must beat real examples alone (Holm), and the best of the arms that need nothing synthetic (its 95 % interval): what
    oversampling or augmentation give as well is no reason for a generator.
    """
    good = [
        one
        for one in comparisons
        if one.result.size == size
        and one.result.arm in SYNTHETIC
        and one.word == "gain"
        and len(one.result.seeds) >= LEAST_SEEDS
        and one.beyond is not None
        and one.beyond.low > 0
    ]
    return max(good, key=lambda one: float(np.mean(one.result.values["val_auroc"])), default=None)


def size_words(size: int) -> str:
    """`100 examples a class`, `all examples`."""
    return "all examples" if size == ALL else f"{size} examples a class"


def sentence(one: Comparison, margin: float) -> str:
    """`with 100 examples a class vae x4 gives +1.2 points of AUROC [+0.4, +2.0]: it helps`."""
    found, head = one.difference, f"With {size_words(one.result.size)} {one.result.title.replace('_', ' ')}"
    if one.result.failures and not one.result.seeds:
        return f"{head} failed: {one.result.failures[0]}."
    if found is None:
        return f"{head}: undefined, because the test part lacks classes."
    change = f"{100 * found.difference:+.1f} points of AUROC [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    ends = {
        "gain": f"{change}: it helps (corrected p {one.p:.3f}).",
        "loss": f"{change}: it harms (corrected p {one.p:.3f}).",
        "equivalent": f"{change}: no difference beyond ±{100 * margin:g} points.",
        "open": f"{change}: undecided (corrected p {one.p:.3f}, {found.seeds} seeds).",
    }
    return f"{head} gives {ends[one.word]}"


def gate_record(
    comparisons: Sequence[Comparison], counts: dict[int, np.ndarray], wanted: Sequence[int], facts: dict[str, Any]
) -> dict[str, Any]:
    """gate.json: for every size whether synthetic examples are used, which, and how many for each real one.

    Args:
      counts: size → int [C], real training examples. facts: classes, front-end and sources of the pictures.
    """
    decisions = []
    for size in sorted(counts, key=lambda size: size or 10**9):
        one = recommended(comparisons, size)
        decision: dict[str, Any] = {"examples": int(max(counts[size][c] for c in wanted)), "use": one is not None}
        if one is not None:
            assert one.difference is not None
            decision |= {"arm": one.result.arm, "ratio": one.result.ratio, "file": f"synthetic/{size or 'all'}.npz"}
            decision |= {"gain": one.difference.difference, "low": one.difference.low, "high": one.difference.high}
        decisions.append(decision)
    return {"format": 1, **facts, "decisions": decisions}


def write_synthetic(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Pictures [K, frames, bands] and places of their classes [K], for `train`; whole or not at all."""
    from beats_jax.files import whole_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(file, images=images.astype(np.float16), labels=labels.astype(np.int32))
