"""A compilation cache on disk for tests that compile the same program several times, in this process or in others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


@contextmanager
def compiled_once(directory: Path) -> Iterator[str]:
    """Keeps what is compiled meanwhile in `directory`, and gives its name."""
    options = {"jax_compilation_cache_dir": str(directory), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in options}
    _configure(options)
    try:
        yield str(directory)
    finally:
        _configure(before)


def _configure(options: dict[str, object]) -> None:
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
