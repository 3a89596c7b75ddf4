"""How like real ones generated examples are, measured on embeddings [N, D] (Fréchet distance and further figures to come)."""

from __future__ import annotations

import numpy as np


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Polynomial kernel of degree 3 between rows, float64 [N, M] (KID: Bińkowski et al., arXiv 1801.01401)."""
    return (x.astype(np.float64) @ y.T.astype(np.float64) / x.shape[1] + 1) ** 3


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of embeddings [N, D] and [M, D]; around 0, also below it, for equal ones."""
    between = kernel(real, made).mean()
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(real, real), kernel(made, made))]
    return float(sum(within) - 2 * between)
