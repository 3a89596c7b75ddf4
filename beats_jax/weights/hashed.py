"""Arrays in a safetensors file that knows its own hash: changed bytes are found when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.errors import UserError
from beats_jax.files import write_bytes

HASH = "sha256"
_THREADS = 4  # hashlib lets go of the interpreter's lock; each of them hashes some 1.4 GB/s


def sha256_of_arrays(arrays: Mapping[str, np.ndarray], facts: Any = None) -> str:
    """Hash of names, types, shapes and bytes, and of `facts` (fit for JSON), as hexadecimal text."""
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(_sha256_of_array, arrays.values())
        parts = [(name, str(array.dtype), array.shape, one) for (name, array), one in zip(arrays.items(), digests, strict=True)]
    return hashlib.sha256(json.dumps([sorted(parts), facts], sort_keys=True).encode()).hexdigest()


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> None:
    """Writes arrays and texts so that `read_arrays` finds any change of them.

    Raises:
      UserError: it cannot be written.
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(path, save(arrays, {**texts, HASH: sha256_of_arrays(arrays, dict(texts))}))


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and texts of a file that `write_arrays` made.

    Raises:
      UserError: it cannot be read, is something else, or has changed since it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            texts = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:120]}); delete it, it is made again") from error
    expected = texts.pop(HASH, None)
    if sha256_of_arrays(arrays, texts) != expected:
        raise UserError(f"{path} is damaged (its contents have changed since they were written); delete it, it is made again")
    return arrays, texts


def _sha256_of_array(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
