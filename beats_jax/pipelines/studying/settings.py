"""The settings of a study, all of which are part of its identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from beats_jax.config.rules import Settings, bounded, require
from beats_jax.config.validation import nearest
from beats_jax.errors import UserError

GENERATORS = ("ae", "vae", "aae", "gan", "diffusion")
CONTROLS = ("oversampled", "jitter")  # as many further examples as a generator adds, without anything new in them
WITHOUT_RATIO = ("real", "classic", "weighted")
GATED = "_gated"
ARMS = (
    *WITHOUT_RATIO,
    *CONTROLS,
    "scenes",
    *GENERATORS,
    *(f"{name}{GATED}" for name in GENERATORS),
)
BASELINES = (
    "cnn",
    "mlp",
    "transformer",
    "random_forest_features",
    "random_forest_picture",
    "gradient_boosting_features",
    "gradient_boosting_picture",
    "gradient_boosting_level",
)
SIZES = (5, 10, 20, 50, 100, 250, 500, 1000)
LEAST_SEEDS = 5


@dataclass(frozen=True)
class StudySettings(Settings):
    """What is studied, and how; see `python -m beats_jax.study --help`.

    Raises:
      UserError: a number out of its range, an unknown arm.
    """

    GROUP: ClassVar[str] = "study"
    data: str
    label_column: str = ""
    background: str = ""  # class without a sound of interest; empty = found by its name
    frames: int = 64  # of a picture: 64 or 128
    low_hz: float = bounded(0.0, ge=0)  # of a picture; 0 = by the rate
    high_hz: float = bounded(0.0, ge=0)  # 0 = half the rate
    arms: tuple[str, ...] = ARMS
    baselines: tuple[str, ...] = BASELINES
    sizes: tuple[int, ...] = SIZES  # real examples of a class; all of them come on top
    ratios: tuple[float, ...] = (1.0, 4.0)  # synthetic for each real example
    seeds: int = bounded(5, ge=1, le=100)
    steps: int = bounded(300, ge=1)
    batch_size: int = bounded(32, ge=2)
    generator_steps: int = bounded(400, ge=1)
    margin: float = bounded(0.005, gt=0, lt=0.5)  # differences of AUROC within it count as none
    resamples: int = bounded(2000, ge=100, le=100_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        for arm in self.arms:
            if arm not in ARMS:
                raise UserError(f"arm {arm!r} is not known; {nearest(arm, list(ARMS))}")
        for name in self.baselines:
            if name not in BASELINES:
                raise UserError(f"baseline {name!r} is not known; {nearest(name, list(BASELINES))}")
        require("real" in self.arms, "the arm 'real' is what all others are compared with; name it among the arms")
        require(self.frames in (64, 128), f"frames is {self.frames}; a picture has 64 or 128")
        require(bool(self.ratios) and min(self.ratios) > 0, "ratios must be above 0")
        require(not self.sizes or min(self.sizes) >= 1, "sizes must be at least 1")

    def identity(self) -> dict[str, Any]:
        """Fit for JSON, without what may grow in a later call because its results stand by themselves."""
        growing = ("arms", "baselines", "sizes", "ratios", "seeds", "resamples")
        return {name: value for name, value in asdict(self).items() if name not in growing}


def parse_seconds(text: str) -> float:
    """`2h`, `45m`, `90s` as seconds. Raises `UserError` for anything else."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    try:
        seconds = float(text[:-1]) * units[text[-1:].lower()]
    except (KeyError, ValueError):
        raise UserError(f"--budget is {text!r}; write hours, minutes or seconds such as 2h, 45m or 90s") from None
    require(0 < seconds < float("inf"), f"--budget is {text!r}; it must be positive")
    return seconds


def ratio(text: str) -> float:
    """A ratio in the six digits that the names of fits have. Raises ValueError for a text that is no number."""
    return float(f"{float(text):g}")


def numbers(texts: Sequence[str] | None, default: tuple[Any, ...], kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Sorted numbers without repeats; None = the default. Raises `UserError` for a text that is no number."""
    if texts is None:
        return default
    try:
        return tuple(sorted({kind(text) for text in texts}))
    except ValueError as error:
        raise UserError(f"{error}; give numbers") from error
