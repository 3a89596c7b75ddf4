"""What is planned for a budget, and in which order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.pipelines.studying import plan
from beats_jax.pipelines.studying.settings import SIZES, StudySettings, numbers, parse_seconds, ratio
from beats_jax.pipelines.studying.store import ALL, Fit, Outcome, Store

SPEED = plan.Speed(step=0.01, fit=1.0, drawn={50: 200, ALL: 800})


def _settings(**changes) -> StudySettings:
    return StudySettings(data="recordings", **{"ratios": (1.0, 4.0), "seeds": 5, "steps": 100, "generator_steps": 100, **changes})


def test_every_arm_of_a_block_has_every_seed_and_ratio():
    blocks = plan.blocks_of(_settings(), [50, ALL])
    first = blocks[0]
    assert first.size == 50
    arms = {(fit.arm, fit.ratio) for fit in first.fits}
    assert {("real", 0.0), ("scenes", 1.0), ("scenes", 4.0), ("weighted", 0.0), ("jitter", 4.0)} <= arms
    for arm in arms:
        assert sorted(fit.seed for fit in first.fits if (fit.arm, fit.ratio) == arm) == [0, 1, 2, 3, 4]
    assert first.fits[0].arm == "real"  # what everything is compared with comes first


def test_costs_are_those_of_fits_generators_and_gates():
    settings = _settings(arms=("real", "vae", "vae_gated"), ratios=(1.0,), seeds=2)
    blocks = plan.blocks_of(settings, [ALL])
    assert [{fit.arm for fit in block.fits} for block in blocks] == [{"real"}, {"vae", "vae_gated"}]
    one = 100 * 0.01 + 1.0
    assert blocks[0].seconds(settings, SPEED) == pytest.approx(2 * one)
    generators = 2 * (plan.GENERATOR_STEPS["vae"] * 100 + plan.START_STEPS) * 0.01
    assert blocks[1].seconds(settings, SPEED) == pytest.approx(6 * one + generators)  # four fits and two gates
    done = [fit for fit in blocks[1].fits if fit.seed == 0]
    assert blocks[1].seconds(settings, SPEED, done) == pytest.approx((6 * one + generators) / 2)
    assert blocks[1].seconds(settings, SPEED, blocks[1].fits) == 0


def test_pictures_of_a_slow_sampler_cost_by_their_number():
    settings = _settings(arms=("real", "diffusion"), ratios=(1.0,), seeds=2)
    few, many = (block.seconds(settings, SPEED) for block in plan.blocks_of(settings, [50, ALL])[2:])
    assert many - few == pytest.approx(2 * plan.PICTURE_STEPS["diffusion"] * (800 - 200) * 0.01)


def test_a_budget_keeps_the_order_and_the_first_block():
    blocks = plan.blocks_of(_settings(), [50, ALL])
    costs = [10.0] * len(blocks)
    assert plan.within(blocks, costs, None) == [True] * len(blocks)
    assert plan.within(blocks, costs, 25.0) == [True, True, *[False] * (len(blocks) - 2)]
    assert plan.within(blocks, costs, 0.0)[0]


def test_a_small_budget_takes_fewer_seeds_of_what_everything_is_compared_with():
    settings, sizes = _settings(arms=("real", "classic")), [50, ALL]
    seed = 2 * (100 * 0.01 + 1.0)  # two fits
    assert plan.seeds_within(settings, sizes, SPEED, None) == 5
    assert plan.seeds_within(settings, sizes, SPEED, 5 * seed) == 5
    assert plan.seeds_within(settings, sizes, SPEED, 3.5 * seed) == 3
    assert plan.seeds_within(settings, sizes, SPEED, 0.0) == 1


def test_budgets_and_numbers_are_read_or_refused():
    assert [parse_seconds(text) for text in ("2h", "45m", "90s", "0.5h")] == [7200, 2700, 90, 1800]
    for text in ("2", "h", "-1h", "2 days", ""):
        with pytest.raises(UserError, match="budget"):
            parse_seconds(text)
    assert numbers(["100", "50", "50"], (), int) == (50, 100)
    with pytest.raises(UserError, match="numbers"):
        numbers(["many"], (), int)
    with pytest.raises(UserError, match="vae_gated"):
        _settings(arms=("real", "vae_gate"))
    with pytest.raises(UserError, match="'real'"):
        _settings(arms=("vae",))


def test_a_fit_has_a_name_of_its_own():
    fits = [fit for block in plan.blocks_of(_settings(), [50, ALL]) for fit in block.fits]
    assert len({fit.name for fit in fits}) == len(fits)
    assert Fit(ALL, "vae", 4.0, 2).name == "size-all/vae-4/seed-2"


@pytest.mark.parametrize(
    ("asked", "most", "sizes", "unused"),
    [
        (SIZES, 300, [50, ALL, 100, 250], []),
        (SIZES, 60, [5, ALL, 20, 10, 50], []),
        ((10, 20), 300, [10, ALL, 20], []),  # what somebody asks for is tried, also where the defaults leave it out
        ((3, 60, 100), 60, [3, ALL], [100]),
    ],
)
def test_sizes_that_are_asked_for_are_tried_or_named(asked, most, sizes, unused):
    labels = np.repeat([0, 1], [most, 20])
    rows: Any = SimpleNamespace(labels=labels, vocabulary=("owl", "wren"), wanted=[0, 1])
    assert plan.sizes_of(rows, _settings(sizes=asked), np.arange(len(labels))) == (sizes, unused)


def test_a_ratio_is_found_again_by_the_name_of_its_fit(tmp_path: Path):
    (chosen,) = numbers(["0.33333333333"], (), ratio)
    fit, store = Fit(50, "vae", chosen, 0), Store(tmp_path)
    store.write(fit, Outcome(None, None, 1.0, failure="it diverged", notes=("the latent carries nothing", "late")))
    assert store.fits() == [fit]
    assert store.read(fit).notes == ("the latent carries nothing", "late")
