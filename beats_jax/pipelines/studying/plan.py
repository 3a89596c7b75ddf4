"""What a study does, in which order, and what it costs: said before it begins, and cut to a budget.

Rounds come the most useful first: controls and scenes first, then generators by what others found; the smallest, the
largest and a middle number of examples first, the others after all rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from beats_jax.pipelines.studying.rows import StudyRows
from beats_jax.pipelines.studying.settings import CONTROLS, GATED, GENERATORS, SIZES, WITHOUT_RATIO, StudySettings
from beats_jax.pipelines.studying.store import ALL, Fit

ROUNDS = (
    (*WITHOUT_RATIO, *CONTROLS, "scenes"),
    *((name, f"{name}{GATED}") for name in ("vae", "diffusion", "gan", "aae", "ae")),
)
# In steps of the classifier (32 pictures of 64 x 64), measured on a core (2026-11-29): a step of a generator (64 pictures), a
# picture that it draws, and what a training needs before its first step where its program was compiled before
GENERATOR_STEPS = {"ae": 7.0, "vae": 7.0, "aae": 15.0, "gan": 20.0, "diffusion": 19.0}
PICTURE_STEPS = {"diffusion": 4.0}  # 47 passes through its network; the others' one does not count
START_STEPS = 500.0


@dataclass(frozen=True)
class Speed:
    """Seconds of a step of the classifier, and of a fit besides its steps (pool, predictions).

    Attributes:
      drawn: size → pictures that a generator draws for it.
    """

    step: float
    fit: float
    drawn: dict[int, int]


@dataclass(frozen=True)
class Block:
    """The fits of a round at one size, seed by seed."""

    size: int
    fits: tuple[Fit, ...]

    @property
    def generators(self) -> tuple[str, ...]:
        """The kinds that are trained for it."""
        return tuple(sorted({name for fit in self.fits if (name := fit.arm.removesuffix(GATED)) in GENERATORS}))

    def seconds(self, settings: StudySettings, speed: Speed, done: Sequence[Fit] = ()) -> float:
        """What the fits that are not `done` cost."""
        left = [fit for fit in self.fits if fit not in set(done)]
        trained = {(fit.arm.removesuffix(GATED), fit.seed) for fit in left if fit.arm.removesuffix(GATED) in GENERATORS}
        gates = {fit.seed for fit in left if fit.arm.endswith(GATED)}
        one = settings.steps * speed.step + speed.fit
        steps = sum(GENERATOR_STEPS[name] * settings.generator_steps + START_STEPS for name, _ in trained)
        steps += sum(PICTURE_STEPS.get(name, 0.0) * speed.drawn[self.size] for name, _ in trained)
        return (len(left) + len(gates)) * one + steps * speed.step


def sizes_of(rows: StudyRows, settings: StudySettings, train: np.ndarray) -> tuple[list[int], list[int]]:
    """Sizes of which a class has more, the most useful first: smallest, all, middle, then the others.

    Returns:
      the sizes, and those that were asked for (not the defaults) and of which no class has more.
    """
    counts = np.bincount(rows.labels[train], minlength=len(rows.vocabulary))
    most = max(int(counts[c]) for c in rows.wanted)
    asked = settings.sizes != SIZES
    least = 50 if most >= 200 and not asked else 1  # fewer than 50 of a frequent class say little about a detector
    there = [size for size in sorted(settings.sizes) if least <= size < most]
    unused = [size for size in settings.sizes if size > most] if asked else []
    if not there:
        return [ALL], unused
    core = [there[0], ALL, *([there[len(there) // 2]] if len(there) > 1 else [])]
    return list(dict.fromkeys([*core, *there])), unused


def blocks_of(settings: StudySettings, sizes: Sequence[int]) -> list[Block]:
    """All blocks, in order."""
    core, later = sizes[:3], sizes[3:]
    found = [_block(settings, size, arms) for arms in ROUNDS for size in core]
    found += [_block(settings, size, arms) for arms in ROUNDS for size in later]
    return [block for block in found if block.fits]


def _block(settings: StudySettings, size: int, arms: Sequence[str]) -> Block:
    fits = [
        Fit(size, arm, ratio, seed)
        for seed in range(settings.seeds)
        for arm in arms
        if arm in settings.arms
        for ratio in ((0.0,) if arm in WITHOUT_RATIO else settings.ratios)
    ]
    return Block(size, tuple(fits))


def within(blocks: Sequence[Block], seconds: Sequence[float], budget: float | None) -> list[bool]:
    """Which blocks fit the budget, in order; the first one, which everything is compared with, always does."""
    left, chosen = np.inf if budget is None else budget, []
    for number, cost in enumerate(seconds):
        fits = number == 0 or cost <= left
        chosen.append(fits)
        left -= cost if fits else 0
    return chosen


def seeds_within(settings: StudySettings, sizes: Sequence[int], speed: Speed, budget: float | None) -> int:
    """How many seeds of the first block, which everything is compared with, fit the budget: one at least."""
    if budget is None:
        return settings.seeds
    for seeds in range(settings.seeds, 1, -1):
        fewer = replace(settings, seeds=seeds)
        if blocks_of(fewer, sizes)[0].seconds(fewer, speed) <= budget:
            return seeds
    return 1


def describe(block: Block, seconds: float) -> str:
    """`100 examples a class: real, classic ... (30 fits), about 12 min`."""
    arms = ", ".join(dict.fromkeys(fit.arm for fit in block.fits))
    size = "all examples" if block.size == ALL else f"{block.size} examples a class"
    return f"{size}: {arms} ({len(block.fits)} fits), about {duration(seconds)}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
