"""Compiled programs kept on disk while a study runs.

Each generator is an object of its own, which JAX compiles anew, and so does every resumed call: 36 s of a processor for a small
VAE (2026-11-29), which is more than its training takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

LEAST_SECONDS = 0.5  # of compiling: what is compiled faster is not kept
SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@contextmanager
def keep_compiled(folder: Path) -> Iterator[None]:
    """Programs that are compiled in the block are kept in `folder`, and taken from there; a cache of the user's own stays."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    if before["jax_compilation_cache_dir"]:
        yield
        return
    for name, value in zip(SETTINGS, (str(folder), LEAST_SECONDS, 0), strict=True):
        jax.config.update(name, value)
    _forget_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        _forget_cache()


def _forget_cache() -> None:
    """JAX looks at its settings when it compiles for the first time, and not again."""
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()
