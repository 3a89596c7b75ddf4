"""Finds sounds in recordings of any number and length: scores of every window, then events, then tables of them.

OUTPUT/scores/part-*.parquet   file, start, end, what the recorder wrote, a score for each label
OUTPUT/detections.csv, raven/, audacity/, ...   the events, as tables of the kinds that were asked for
OUTPUT/rates.csv               calls per hour, where asked for
OUTPUT/detect.json             detector, windows, thresholds with their origin, rules, tables, command
OUTPUT/errors.csv              files that could not be read to their end, with the reason
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import beats_jax
from beats_jax.config.rules import require_one_of
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.tables.registry import write_events
from beats_jax.evaluation.metrics.call_rates import PERIODS
from beats_jax.evaluation.metrics.precision_table import PrecisionRow, precision_above
from beats_jax.inference.events import EventRule
from beats_jax.json_files import read_json
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.pipelines.detecting.rates import RATES, write_rates
from beats_jax.pipelines.detecting.scores import SCORES, score_columns, score_table
from beats_jax.pipelines.detecting.tables import (
    Found,
    find_all_events,
    leave_out_unwritable,
    recording_lengths,
    remove_tables,
    require_unchanged,
    require_writable,
    written_tables,
)
from beats_jax.pipelines.detecting.thresholds import Threshold, WantedThresholds, choose, one_line, threshold_lines
from beats_jax.pipelines.training.workdir import ERRORS_FILE, write_json
from beats_jax.pipelines.window_job import ReadSettings, WindowTable, store_windows
from beats_jax.pipelines.window_plan import Plan, header_lengths

RECORD = "detect.json"
WHOLE_TABLES = ("detections.csv", "detections.parquet")  # with all that is known of a detection


@dataclass(frozen=True)
class EventSettings:
    """What becomes of the scores.

    Attributes:
      labels: those to look for; () = all. formats: names of `datasets.tables.registry.TABLES`; () = scores only.
      rates: names of `call_rates.PERIODS`; () = none.

    Raises:
      UserError: an unknown period.
    """

    labels: tuple[str, ...] = ()
    wanted: WantedThresholds = field(default_factory=WantedThresholds)
    rule: EventRule = field(default_factory=EventRule)
    formats: tuple[str, ...] = ("csv",)
    rates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for period in self.rates:
            require_one_of("--rates", period, PERIODS)


def detect(
    detector: Detector, reading: ReadSettings, events: EventSettings, output: Path, *, tail: str, strict: bool, command: str
) -> None:
    """Scores the recordings that `output` does not hold yet, and writes the tables of all that it holds.

    Args:
      tail: as in `inference.grid.Grid`.
    Raises:
      UserError: no recordings, settings that do not fit the detector, an output of another job, too small a disk, or a table that
        somebody changed since it was written; with `strict` the first file that cannot be read to its end.
    """
    labels = events.labels or tuple(label for label in detector.labels if label != detector.background)
    thresholds = choose(labels, events.wanted, detector)
    table = score_table(detector, tail)
    record = {**table.full_identity(), **detector.origin, "columns": score_columns(detector.labels)}
    record |= {"command": command, "beats_jax": beats_jax.__version__}
    if not events.formats:
        begin = partial(_record_scores, output, record)
        store_windows(table, reading, output, output / SCORES, strict=strict, begin=begin)
        return
    require_writable(labels, events.formats)
    require_unchanged(output, _old_tables(output))
    for line in threshold_lines(thresholds, events.wanted):
        print(line, flush=True)
    if detector.background and not events.labels:
        print(f"label {detector.background!r} is of time without a sound: no events of it unless --labels names it", flush=True)
    end = partial(_write_tables, output, table, detector.seconds, thresholds, events, record)
    store_windows(table, reading, output, output / SCORES, strict=strict, end=end)


def tables_of_output(output: Path) -> list[Path] | None:
    """Tables of an output that hold each detection once: it is in every kind of table. None = `output` is not one of `detect`.

    Raises:
      UserError: its record is damaged.
    """
    if best := next((output / name for name in WHOLE_TABLES if (output / name).is_file()), None):
        return [best]
    if not (output / RECORD).is_file():
        return None
    written = [name for name in _old_tables(output) if name != RATES and (output / name).is_file()]
    return [output / name for name in written if name.split("/")[0] == written[0].split("/")[0]]


def _record_scores(output: Path, record: Mapping[str, Any]) -> None:
    if not (output / RECORD).exists():  # else it tells how the tables were made that are there
        write_json(output / RECORD, record)


def _old_tables(output: Path) -> dict[str, str]:
    """The tables that the last call wrote, with their hashes."""
    if not (output / RECORD).exists():
        return {}
    found = read_json(output / RECORD, dict, remedy="delete it").get("tables", {})
    return {
        str(name): str(digest) for name, digest in found.items() if (output / name).resolve().is_relative_to(output.resolve())
    }


def _write_tables(
    output: Path,
    table: WindowTable,
    lengths: Mapping[str, float],
    thresholds: Mapping[str, Threshold],
    settings: EventSettings,
    record: Mapping[str, Any],
    plan: Plan,
) -> None:
    """The tables of all recordings whose scores are on disk, and the record of how they were made."""
    print("finding events ...", flush=True)
    values = {label: found.value for label, found in thresholds.items()}
    found = find_all_events(output / SCORES, table.identity["labels"], values, settings.rule, lengths)
    found = leave_out_unwritable(found, settings.formats, ErrorLog(output / ERRORS_FILE))
    tables = _old_tables(output)
    require_unchanged(output, tables)
    remove_tables(output, tables)
    record = {
        **record,
        "thresholds": {label: item._asdict() for label, item in thresholds.items()},
        "rule": asdict(settings.rule),
    }
    record |= {"recordings": len(found.recordings), "events": len(found.events), "tables": {}}
    write_json(output / RECORD, record)  # without the old tables, which are gone
    written = write_events(found.events, output, settings.formats, _recording_lengths(found, plan))
    if settings.rates:
        wanted = [label for label, value in values.items() if value is not None]
        record["without_clock"] = write_rates(found, wanted, _reviewed(settings, values), settings.rates, output)
        written = [*written, output / RATES]
    write_json(output / RECORD, {**record, "tables": written_tables(output, written)})
    _report(found, output, len(written) - bool(settings.rates))


def _recording_lengths(found: Found, plan: Plan) -> dict[str, float]:
    headers = dict(zip(plan.names, plan.seconds.tolist(), strict=True))
    others = [file for file in found.recordings if file not in headers]
    lengths = recording_lengths(found, headers | dict(zip(others, header_lengths(others).tolist(), strict=True)))
    if lost := [file for file in lengths if not os.path.isabs(file) and not os.path.exists(file)]:
        print(
            f"warning: {len(lost)} recordings are not where their names lead from this folder, such as {one_line(lost[0])}; "
            "tables that name whole paths (raven) name wrong ones: give the command in the folder of the first call",
            flush=True,
        )
    return lengths


def _reviewed(settings: EventSettings, thresholds: Mapping[str, float | None]) -> dict[str, PrecisionRow]:
    """label → its reviewed detections above the threshold, where there are any."""
    rows = {
        label: precision_above(settings.wanted.table[label], value)
        for label, value in thresholds.items()
        if value is not None and label in settings.wanted.table
    }
    return {label: row for label, row in rows.items() if row is not None}


def _report(found: Found, output: Path, tables: int) -> None:
    events = found.events
    with_some = len(set(events.files.tolist()))
    print(f"{len(events)} events in {with_some} of {len(found.recordings)} recordings; {tables} tables in {output}", flush=True)
    for label, count in Counter(events.labels.tolist()).most_common(20):
        print(f"  {count:6d}  {one_line(label)}", flush=True)
