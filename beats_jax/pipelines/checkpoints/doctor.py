"""The report of `doctor`: environment, parity of every family with the published code, and checks of one model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from beats_jax.inference.model import Model
from beats_jax.pipelines import environment
from beats_jax.pipelines.checkpoints import parity
from beats_jax.weights.bundle import Bundle, describe
from beats_jax.weights.pretrained import read_checkpoint

SECONDS = 10.0
SHORT_SECONDS = 6.0
SAME = 1e-4  # of the largest value: float32 sums in another order; measured 3e-6 on BEATs base with random weights
ROUNDED = 0.1  # of the length of the embedding; measured 0.01
TIMED_RUNS = 3


class Check(NamedTuple):
    """One check of a model and its numbers as text."""

    name: str
    ok: bool
    found: str = ""
    allowed: str = ""


def diagnose(model: str | None = None, data: Path | None = None) -> tuple[list[str], bool]:
    """Returns the lines of the report, and whether all checks passed.

    Args:
      model: as for `beats_jax.load`; checked too.
      data: golden files in place of the built-in ones.
    Raises:
      UserError: the model or the golden files cannot be read.
    """
    start = time.perf_counter()
    bundle = read_checkpoint(model) if model else None  # before the long part, so that a wrong name fails at once
    outcomes = parity.prove(data)
    lines = [
        *_table(environment.versions()),
        "",
        "devices",
        *_table(environment.devices()),
        "",
        "parts",
        *_table(environment.parts()),
        "",
        "parity with the published code: largest difference found (allowed)",
        *_parity_table(outcomes),
    ]
    failures = [_failure(outcome) for outcome in outcomes if not outcome.ok]
    count = len(outcomes)
    if bundle is not None:
        checks, seconds = check_model(bundle)
        rows = [(check.name, check.found, check.allowed, "ok" if check.ok else "FAIL") for check in checks]
        rows += [(f"time of a clip of 10 s, {name}", f"{value * 1e3:.0f} ms", "", "") for name, value in seconds.items()]
        lines += ["", f"the model {model}", *(f"  {line}" for line in describe(bundle)), "", *_table(rows)]
        failures += [f"FAIL the model {model}: not true: {check.name}" for check in checks if not check.ok]
        count += len(checks)
    verdict = f"{len(failures)} of {count} checks failed" if failures else f"all {count} checks passed"
    return [*lines, "", *failures, f"{verdict} in {time.perf_counter() - start:.0f} s"], not failures


def _failure(outcome: parity.Outcome) -> str:
    what = f"FAIL {outcome.family} on {outcome.device} in {outcome.precision}"
    reasons = [f"departs first at {outcome.departs}"] if outcome.departs else []
    if outcome.altered:
        silent = "" if outcome.departs else ", though no number that is compared shows it"
        reasons.append(f"{', '.join(outcome.altered)}: not the file of the manifest (sha256){silent}")
    return f"{what}: {'; '.join(reasons)}"


def _parity_table(outcomes: Sequence[parity.Outcome]) -> list[str]:
    rows: list[tuple[str, ...]] = [("family", "device", "precision", "states", "", "head", "", "")]
    for outcome in outcomes:
        head = (f"{outcome.head} {outcome.head_difference:.1e}", f"({outcome.head_allowed:.0e})") if outcome.head else ("-", "")
        states = ("-", "") if outcome.states is None else (f"{outcome.states:.1e}", f"({outcome.states_allowed:.0e})")
        rows.append((outcome.family, outcome.device, outcome.precision, *states, *head, "ok" if outcome.ok else "FAIL"))
    return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def check_model(bundle: Bundle) -> tuple[list[Check], dict[str, float]]:
    """Checks on the default device; returns them, and seconds for a clip of ten seconds by precision (compiled, batch 1).

    Two clips, of ten and six seconds, are embedded together, the shorter one padded with loud noise that must not count, and
    each alone. The limits allow for sums in another order.
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
    with np.errstate(invalid="ignore", divide="ignore"):  # the first check reports values that are not finite
        rounding = float(np.linalg.norm(low - alone) / np.linalg.norm(alone))
        checks = [
            Check("all values are finite", finite),
            _compare("a clip in a batch = alone", _difference(together[:1], alone), SAME),
            _compare("a padded clip = without padding", _difference(together[1:], short_alone), SAME),
            _compare("bfloat16 - float32, share of the embedding", rounding, ROUNDED),
        ]
    return checks, {"float32": _seconds(full, clip[None]), "bfloat16": _seconds(rounded, clip[None])}


def synthetic_clip(seconds: float, sample_rate: int) -> np.ndarray:
    """A rising whistle over a hum and faint noise, float32 [samples]."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    whistle = 0.3 * np.sin(2 * np.pi * (300 * t + 0.5 * 200 * t**2))
    noise = 0.01 * np.random.default_rng(1).standard_normal(len(t))
    return (whistle + 0.05 * np.sin(2 * np.pi * 100 * t) + noise).astype(np.float32)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.maximum(1e-30, np.abs(other).max()))


def _compare(name: str, found: float, allowed: float) -> Check:
    return Check(name, found <= allowed, f"{found:.1e}", f"({allowed:.0e})")


def _seconds(model: Model, clip: np.ndarray) -> float:
    """Median of some runs after compilation."""
    taken = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        jax.block_until_ready(model.embed(clip))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))
