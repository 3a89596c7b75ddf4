"""The doctor's report as text: environment, parity of every family with the published code, and one model where asked."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from beats_jax.pipelines.checkpoints import parity
from beats_jax.pipelines.checkpoints.model_check import ModelCheck, check_model
from beats_jax.pipelines.training import environment
from beats_jax.weights.bundle import describe
from beats_jax.weights.pretrained import read_checkpoint


def diagnose(model: str | None = None, data: Path | None = None) -> tuple[list[str], bool]:
    """Looks at everything.

    Args:
      model: whatever `beats_jax.load` takes, to be checked too.
      data: golden files in place of the built-in ones.
    Returns:
      the report's lines, and whether all is well.
    Raises:
      UserError: the model or the golden files cannot be read.
    """
    start = time.perf_counter()
    bundle = read_checkpoint(model) if model else None  # before the long part, so that a wrong name is told at once
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
        found = check_model(bundle)
        lines += ["", f"the model {model}", *(f"  {line}" for line in describe(bundle)), "", *_model_table(found)]
        failures += [f"FAIL the model {model}: not true: {check.name}" for check in found.checks if not check.ok]
        count += len(found.checks)
    seconds = time.perf_counter() - start
    verdict = f"{len(failures)} of {count} checks failed" if failures else f"all {count} checks passed"
    return [*lines, "", *failures, f"{verdict} in {seconds:.0f} s"], not failures


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


def _model_table(found: ModelCheck) -> list[str]:
    rows = []
    for check in found.checks:
        numbers = ("", "") if math.isnan(check.allowed) else (f"{check.found:.1e}", f"({check.allowed:.0e})")
        rows.append((check.name, *numbers, "ok" if check.ok else "FAIL"))
    for precision, seconds in found.seconds.items():
        rows.append((f"time of a clip of 10 s, {precision}", f"{seconds * 1e3:.0f} ms", "", ""))
    return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
