"""How a wrong setting is refused."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from beats_jax.errors import UserError

LARGEST_SIZE = 2**20  # of any model; a file that states more is damaged, or wants our memory
MOST_LAYERS = 1000


def require(condition: bool, message: str) -> None:
    """Raises `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises `UserError` naming the allowed values, and the nearest of them, unless `value` is one of them."""
    close = get_close_matches(value, allowed, n=1, cutoff=0.6) if isinstance(value, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    require(value in allowed, f"{name} is {value!r}; allowed: {', '.join(allowed)}{hint}")


def require_sizes(config: Any, *names: str, most: int = LARGEST_SIZE) -> None:
    """Raises `UserError` unless each of these fields of a model's configuration lies in 1 to `most`."""
    for name in names:
        value = getattr(config, name)
        require(1 <= value <= most, f"model.{name} is {value}; it must lie between 1 and {most}")
