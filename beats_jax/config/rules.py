"""How a wrong setting is refused."""

from __future__ import annotations

from beats_jax.errors import UserError


def require(condition: bool, message: str) -> None:
    """Raises `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises `UserError` naming the allowed values unless `value` is one of them."""
    require(value in allowed, f"{name} is {value!r}; allowed: {', '.join(allowed)}")
