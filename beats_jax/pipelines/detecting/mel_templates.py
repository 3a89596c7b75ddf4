"""The template of a class: which bands its examples are loud in, how they lie on each other, and their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_BANDS = 4
ENERGY_SHARE = 0.8  # chosen on the recordings of benchmarks/few_examples.py, against 0.5 to 1
FLAT = 0.1  # of the usual spread: a band that hardly ever changes would outweigh all others
NOISE_ENERGY = 0.5  # above the background of a band with nothing but normal noise
REFERENCES, ROUNDS = 10, 3  # of alignment


def band_levels(fbank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and spread of each band, float32 [M], of frames [F, M]: the median and, as of a normal distribution, the median
    distance from it. Calls in less than half of the time hardly change them."""
    level = np.median(fbank, axis=0)
    spread = 1.4826 * np.median(np.abs(fbank - level), axis=0)
    least = max(FLAT * float(np.median(spread)), 1e-3)
    return level.astype(np.float32), np.maximum(spread, least).astype(np.float32)


def loud_bands(stretches: Sequence[np.ndarray]) -> np.ndarray:
    """int64 [K], sorted: the fewest bands that hold `ENERGY_SHARE` of the examples' energy above the background.

    Args:
      stretches: [F_e, M] in units of the background.
    """
    above = np.concatenate([np.square(np.maximum(stretch, 0.0)) for stretch in stretches]).mean(axis=0)
    above = np.maximum(above - NOISE_ENERGY, 0.0)
    order = np.argsort(-above, kind="stable")
    share = np.cumsum(above[order]) / max(float(above.sum()), 1e-9)
    return np.sort(order[: max(LEAST_BANDS, int(np.searchsorted(share, ENERGY_SHARE)) + 1)])


def aligned(stretches: Sequence[np.ndarray], frames: int) -> np.ndarray:
    """Patches float32 [E, T, M] of examples [F_e, M], F_e >= T, each moved to where it agrees best with the others.

    First with the middle of the one of `REFERENCES` examples that the others agree with best, then with the mean of the others,
    which is made anew in each of `ROUNDS`.
    """

    def patches() -> np.ndarray:
        return np.stack([stretch[place : place + frames] for stretch, place in zip(stretches, places, strict=True)])

    places = [(len(stretch) - frames) // 2 for stretch in stretches]
    if len(stretches) > 1:
        found = [[_places(stretch, one) for stretch in stretches] for one in patches()[:REFERENCES]]
        best = max(found, key=lambda row: sum(float(scores.max()) for scores in row))
        places = [int(scores.argmax()) for scores in best]
        for _ in range(ROUNDS):
            units = unit_patches(patches())
            others = units.sum(axis=0) - units
            places = [int(_places(stretch, other).argmax()) for stretch, other in zip(stretches, others, strict=True)]
    return patches()


def template_of(patches: np.ndarray) -> np.ndarray:
    """Mean of the patches [E, T, M], each of zero mean and unit norm, and the result again: float32 [T, M]."""
    return unit_patches(unit_patches(patches).mean(axis=0)[None])[0]


def unit_patches(patches: np.ndarray) -> np.ndarray:
    """Each patch [E, T, M] with zero mean and unit norm."""
    centred = patches - patches.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(np.sqrt(np.square(centred).sum(axis=(1, 2), keepdims=True)), 1e-9)


def _places(stretch: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Correlation of a template with every place of a stretch, float [F - T + 1]."""
    patches = np.lib.stride_tricks.sliding_window_view(stretch, len(template), axis=0).transpose(0, 2, 1)
    return np.einsum("ptm,tm->p", unit_patches(patches), unit_patches(template[None])[0])
