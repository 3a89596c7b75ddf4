"""Calls per hour by site and time of the recorder's clock, as a table."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from beats_jax.audio.files import some
from beats_jax.evaluation.metrics.call_rates import CallRate, RecordingTime, call_rates
from beats_jax.evaluation.metrics.precision_table import PrecisionRow
from beats_jax.files import write_text
from beats_jax.pipelines.detecting.tables import Found
from beats_jax.spreadsheets import safe_cell

RATES = "rates.csv"
HEADER = ("by", "site", "period", "label", "hours", "recordings", "detections", "precision", "calls_per_hour", "low", "high")


def write_rates(
    found: Found, labels: Sequence[str], precision: Mapping[str, PrecisionRow], periods: Sequence[str], output: Path
) -> list[str]:
    """Writes `RATES` for the recordings with a clock.

    Args:
      labels: those that were looked for; one that was never found has rates of 0.
      precision: label → reviewed detections above its threshold. periods: names of `call_rates.PERIODS`.
    Returns:
      the recordings without a clock, which are left out.
    """
    times, without = {}, []
    for file, scored in found.recordings.items():
        clock = scored.recorded["recorded_at"]
        if clock is None:
            without.append(file)
        else:
            times[file] = RecordingTime(scored.recorded["site"] or "", datetime.fromisoformat(clock), scored.seconds)
    events = found.events.take([row for row, file in enumerate(found.events.files.tolist()) if file in times])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for period in periods:
        for rate in call_rates(events, times, precision, period, labels=labels):  # type: ignore[arg-type]  checked there
            writer.writerow(_cells(period, rate, precision.get(rate.label)))
    write_text(output / RATES, text.getvalue())
    _announce(found, len(times), without)
    return without


def _cells(period: str, rate: CallRate, reviewed: PrecisionRow | None) -> list[str]:
    names = [period, safe_cell(rate.site), rate.period, safe_cell(rate.label)]
    share = "" if reviewed is None else f"{reviewed.precision:.4g}"
    interval = ["" if value != value else f"{value:.6g}" for value in (rate.low, rate.high)]  # NaN with one recording
    counts = [f"{rate.hours:.6g}", str(rate.recordings), str(rate.detections)]
    return [*names, *counts, share, f"{rate.calls_per_hour:.6g}", *interval]


def _announce(found: Found, timed: int, without: Sequence[str]) -> None:
    clocks = [scored.recorded for scored in found.recordings.values() if scored.recorded["recorded_at"] is not None]
    zones = Counter("without a zone" if cells["zone"] == "unknown" else f"at UTC{cells['zone']}" for cells in clocks)
    if timed:
        shown = ", ".join(f"{count} {zone}" for zone, count in sorted(zones.items()))
        print(f"{RATES}: hours are those of the recorders' clocks, never converted ({shown})", flush=True)
    if places := sum(cells["site"] is None for cells in clocks):
        print(f"{RATES}: {places} recordings name no site; they are counted together, with a blank one", flush=True)
    if without:
        print(f"warning: {len(without)} recordings have no clock and are not in {RATES}: {some(without)}", flush=True)
