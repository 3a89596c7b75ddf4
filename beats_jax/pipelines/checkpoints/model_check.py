"""Is a model sound on this machine? It is run on a made-up clip: finite, the same alone and in a batch, close in bfloat16."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import numpy as np

from beats_jax.inference.model import Model
from beats_jax.weights.bundle import Bundle

SECONDS = 10.0
SHORT_SECONDS = 6.0
SAME = 1e-4  # of the largest value: float32 sums in another order; measured 3e-6 on BEATs base with random weights
ROUNDED = 0.1  # of the length of the embedding; measured 0.01
TIMED_RUNS = 3


class Check(NamedTuple):
    """One thing that was looked at; `found` is NaN where there is nothing but a yes or no."""

    name: str
    found: float
    allowed: float
    ok: bool


class ModelCheck(NamedTuple):
    """All checks, and seconds per clip of ten seconds by precision (compiled, batch 1)."""

    checks: list[Check]
    seconds: dict[str, float]


def check_model(bundle: Bundle) -> ModelCheck:
    """Runs the model on the default device in float32 and bfloat16.

    Two clips, of ten and six seconds, go through together, the shorter one padded with loud noise that must not count, and
    each alone. The limits are for what floating point does to sums in another order.
    """
    rate = bundle.audio.sample_rate
    clip, short = synthetic_clip(SECONDS, rate), synthetic_clip(SHORT_SECONDS, rate)
    noise = np.random.default_rng(0).uniform(-1, 1, len(clip) - len(short)).astype(np.float32)
    batch = np.stack([clip, np.concatenate([short, noise])])
    lengths = np.array([len(clip), len(short)])
    full, rounded = Model(bundle), Model(bundle, "bfloat16")
    alone, together = np.asarray(full.embed(clip[None])), np.asarray(full.embed(batch, lengths=lengths))
    short_alone = np.asarray(full.embed(short[None]))
    low = np.asarray(rounded.embed(clip[None]))
    finite = all(np.isfinite(values).all() for values in (alone, together, short_alone, low))
    if bundle.labels:
        finite = finite and all(bool(np.isfinite(model.predict(clip[None])).all()) for model in (full, rounded))
    with np.errstate(invalid="ignore", divide="ignore"):  # the first check says it
        rounding = float(np.linalg.norm(low - alone) / np.linalg.norm(alone))
        checks = [
            Check("all values are finite", float("nan"), float("nan"), finite),
            _same("a clip in a batch = alone", together[:1], alone),
            _same("a padded clip = without padding", together[1:], short_alone),
            Check("bfloat16 - float32, share of the embedding", rounding, ROUNDED, rounding <= ROUNDED),
        ]
    seconds = {"float32": _seconds(full, clip[None]), "bfloat16": _seconds(rounded, clip[None])}
    return ModelCheck(checks, seconds)


def synthetic_clip(seconds: float, sample_rate: int) -> np.ndarray:
    """A rising whistle over a hum and faint noise, float32 [samples]."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    whistle = 0.3 * np.sin(2 * np.pi * (300 * t + 0.5 * 200 * t**2))
    noise = 0.01 * np.random.default_rng(1).standard_normal(len(t))
    return (whistle + 0.05 * np.sin(2 * np.pi * 100 * t) + noise).astype(np.float32)


def _same(name: str, one: np.ndarray, other: np.ndarray) -> Check:
    difference = float(np.abs(one - other).max() / np.maximum(1e-30, np.abs(other).max()))
    return Check(name, difference, SAME, difference <= SAME)


def _seconds(model: Model, clip: np.ndarray) -> float:
    """Median of some runs of what is compiled already."""
    taken = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        jax.block_until_ready(model.embed(clip))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))
