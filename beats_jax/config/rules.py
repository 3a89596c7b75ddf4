"""How a wrong setting is refused: bounds stated with the field, and one checker for all groups of settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar

from beats_jax.errors import UserError

LARGEST_SIZE = 2**20  # of any model; a file that states more is damaged, or would fill the memory
MOST_LAYERS = 1000  # a file that asked for a million layers kept the reader busy for minutes


def require(condition: bool, message: str) -> None:
    """Raises `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises `UserError` naming the allowed values, and the nearest of them, unless `value` is one of them."""
    close = get_close_matches(value, allowed, n=1, cutoff=0.6) if isinstance(value, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    require(value in allowed, f"{name} is {value!r}; allowed: {', '.join(allowed)}{hint}")


@dataclass(frozen=True)
class Bounds:
    """A range of numbers: `ge` and `le` belong to it, `gt` and `lt` do not."""

    ge: float = -math.inf
    gt: float = -math.inf
    le: float = math.inf
    lt: float = math.inf

    def hold(self, value: float) -> bool:
        """Whether the value is a number in the range; NaN is in no range."""
        return self.ge <= value <= self.le and self.gt <= value <= self.lt and value not in (self.gt, self.lt)

    def __str__(self) -> str:
        if math.isfinite(self.ge) and math.isfinite(self.le):
            return f"between {self.ge:.15g} and {self.le:.15g}"
        ends = {"at least": self.ge, "above": self.gt, "at most": self.le, "below": self.lt}
        stated = [f"{word} {end:.15g}" for word, end in ends.items() if math.isfinite(end)]
        return " and ".join(stated) or "finite"


def bounded(default: Any, **bounds: float) -> Any:
    """A field of `Settings` with a number in `Bounds(**bounds)`."""
    return field(default=default, metadata={"bounds": Bounds(**bounds)})


def size(default: int, most: int = LARGEST_SIZE, least: int = 1) -> Any:
    """A field of `Settings` with a size or a number of parts of a model."""
    return bounded(default, ge=least, le=most)


def one_of(*values: str) -> Any:
    """A field of `Settings` that takes one of these texts; the first is the default."""
    return field(default=values[0], metadata={"values": values})


@dataclass(frozen=True)
class Settings:
    """A group of settings. What its fields state (`bounded`, `one_of`) is checked whenever one is made.

    Attributes:
      GROUP: the group's name in messages.
    """

    GROUP: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for one in fields(self):
            name, value = f"{self.GROUP}.{one.name}", getattr(self, one.name)
            if "values" in one.metadata:
                require_one_of(name, value, one.metadata["values"])
            if "bounds" in one.metadata:
                bounds = one.metadata["bounds"]
                require(bounds.hold(value), f"{name} is {value}; it must be {bounds}")
