"""Whether two models hear through the same filterbank."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from beats_jax.config import AudioConfig
from beats_jax.errors import UserError


def front_end_changes(trained: AudioConfig, wanted: AudioConfig) -> dict[str, tuple[Any, Any]]:
    """Settings of the filterbank in which the two differ: name → (trained, wanted)."""
    names = [field.name for field in fields(trained.filterbank)]
    pairs = {name: (getattr(trained.filterbank, name), getattr(wanted.filterbank, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def require_same_front_end(changed: dict[str, tuple[Any, Any]], checkpoint: str) -> None:
    """Raises `UserError` that says both values of every setting in `changed`."""
    if changed:
        differing = ", ".join(f"{name} {before!r} (the experiment: {after!r})" for name, (before, after) in changed.items())
        raise UserError(
            f"{checkpoint} was trained on another filterbank: {differing}; set config.audio.filterbank to the checkpoint's"
        )
