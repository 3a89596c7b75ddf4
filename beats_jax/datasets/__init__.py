"""Recordings and labels: one manifest type, its sources, splits, validation and the grain loader. Host side: numpy only.

The functions below are loaded on first use, as in `beats_jax` itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beats_jax.datasets.frames import load_csv_dataset as load_csv_dataset
    from beats_jax.datasets.frames import load_esc50 as load_esc50
    from beats_jax.datasets.frames import load_urbansound8k as load_urbansound8k
    from beats_jax.datasets.frames import scan_directory_dataset as scan_directory_dataset
    from beats_jax.datasets.frames import validate_dataset as validate_dataset

__all__ = ["load_csv_dataset", "load_esc50", "load_urbansound8k", "scan_directory_dataset", "validate_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'beats_jax.datasets' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module("beats_jax.datasets.frames"), name)
