"""Arrays in a safetensors file with its own hash in the metadata, so that reading finds changed bytes."""

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
REMEDY = "delete it, the next run writes it anew"
# hashlib releases the interpreter's lock; each thread hashes some 1.4 GB/s by SHA-256. blake2b is 1.8 times slower (measured).
_THREADS = 4


def sha256_of_arrays(arrays: Mapping[str, np.ndarray], facts: Any = None) -> str:
    """Hash of names, types, shapes and bytes, and of `facts` (any JSON value), as hexadecimal text."""
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(_sha256_of_array, arrays.values())
        parts = [(name, str(array.dtype), array.shape, one) for (name, array), one in zip(arrays.items(), digests, strict=True)]
    return hashlib.sha256(json.dumps([sorted(parts), facts], sort_keys=True).encode()).hexdigest()


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> None:
    """Writes a file for `read_arrays`. Raises `UserError` if it cannot be written."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(path, save(arrays, {**texts, HASH: sha256_of_arrays(arrays, dict(texts))}))


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads what `write_arrays` wrote. Raises `UserError` if the file cannot be read or has changed since."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            texts = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:120]}); {REMEDY}") from error
    expected = texts.pop(HASH, None)
    if sha256_of_arrays(arrays, texts) != expected:
        raise UserError(f"{path} is damaged (its contents have changed since they were written); {REMEDY}")
    return arrays, texts


def _sha256_of_array(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
