"""Measures detections against annotations of the same recordings: which events are found, which detections are wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from beats_jax.datasets.sources.annotations import find_tables, read_below
from beats_jax.datasets.tables.cells import decimal
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.same_recordings import match_recordings
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.event_results import EventResult, evaluate_events
from beats_jax.evaluation.metrics.events import MatchRule, PrecisionRecall, precision_recall
from beats_jax.evaluation.predictions import write_metrics
from beats_jax.evaluation.report.events import event_findings, events_page
from beats_jax.evaluation.report.page import write_page
from beats_jax.files import write_text
from beats_jax.pipelines.detecting.detect import tables_of_output
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.measuring.evaluate import new_folder
from beats_jax.pipelines.measuring.write import REPORT_FILES, versions
from beats_jax.pipelines.training.workdir import METRICS_FILE
from beats_jax.spreadsheets import safe_cell

MATCHES_FILE, LABELS_FILE = "matches.csv", "labels.csv"
CURVES = 8  # labels with a curve of their own


def measure_detections(
    detections: Path, annotations: Path, output: Path, rule: MatchRule, segment_seconds: float, *, page: str, command: str
) -> EventResult:
    """Writes metrics.json, labels.csv, matches.csv and the report into `output`, a new or empty folder, and prints the findings.

    Args:
      detections: an output of `detect`, a table, or a folder of tables. annotations: a table, or a folder of tables.
    Raises:
      UserError: a table that cannot be read, no recording or no label in both, or an `output` in use.
    """
    truth, recordings = read_tables(annotations, "--data")
    if not recordings:
        raise UserError(f"--data {annotations} names no recording; give the annotations of those that were searched")
    found = _read_detections(detections)
    found, notes = _of_the_same(found, recordings, detections, annotations)
    _require_common_label(truth, found)
    result = evaluate_events(truth, found, recordings, rule, segment_seconds)
    with new_folder(output):
        write_text(output / MATCHES_FILE, _matches(truth, found, result))
        write_text(output / LABELS_FILE, _labels(result))
        report = output / REPORT_FILES[page]
        facts = {"command": command, "versions": versions(), "provenance": provenance()}
        write_page(report, events_page(result, _curves(truth, found, result), notes, **facts))
        write_metrics(output / METRICS_FILE, result.flat())
    print("\n".join([*notes, *event_findings(result)]))
    print(f"report: {report}", flush=True)
    return result


def read_tables(place: Path, argument: str) -> tuple[Events, list[str]]:
    """The events of a table or of all tables in a folder, and their recordings, also those whose tables are empty.

    Raises:
      UserError: it does not exist, or a table cannot be read.
    """
    if not place.exists():
        raise UserError(f"{argument} {place} does not exist")
    parts, names = [], {}
    for table in find_tables(place, ""):
        events, own = read_below(place, table)
        parts.append(events)
        names |= dict.fromkeys(events.rows_of() or ([own] if place.is_dir() else []))
    events = Events.concatenate(parts)
    once = events.distinct()
    if repeats := len(events) - len(once):
        print(f"{repeats} events stand in {argument} {place} again and count once.", flush=True)
    return once, list(names)


def _read_detections(place: Path) -> Events:
    tables = tables_of_output(place)
    if tables == []:
        raise UserError(f"--detections {place} holds no table; run detect without --scores-only")
    if tables is None:
        return read_tables(place, "--detections")[0]
    below = place / tables[0].relative_to(place).parts[0]  # a folder of label tracks, or the table itself
    return Events.concatenate([read_below(below, table)[0] for table in tables])


def _of_the_same(found: Events, recordings: Sequence[str], detections: Path, annotations: Path) -> tuple[Events, list[str]]:
    """The detections in annotated recordings, under the names of these, and sentences on the others."""
    names = list(found.rows_of())
    same = match_recordings(names, recordings)
    if names and not same:
        raise UserError(
            f"no recording of {detections} is one of {annotations}: there {_examples(names)}, here {_examples(recordings)}; "
            "their file names must be the same"
        )
    notes = []
    renamed = [(name, other) for name, other in same.items() if name != other]
    if renamed:
        notes.append(
            f"{len(renamed)} recordings are matched by the end of their paths, such as {renamed[0][0]} with {renamed[0][1]}."
        )
    kept = np.array([file in same for file in found.files.tolist()], bool)
    if not kept.all():
        lost = [name for name in names if name not in same]
        notes.append(
            f"{(~kept).sum()} detections are left out: the annotations lack their {len(lost)} recordings ({_examples(lost)}). An "
            "empty table marks a recording in which there is nothing."
        )
    chosen = found.take(kept)
    files, bounds = [same[file] for file in chosen.files.tolist()], {"low_hz": chosen.low_hz, "high_hz": chosen.high_hz}
    return Events.from_columns(files, chosen.starts, chosen.ends, chosen.labels, scores=chosen.scores, **bounds), notes


def _require_common_label(truth: Events, found: Events) -> None:
    real, given = ({*events.labels.tolist()} for events in (truth, found))
    if real and given and not real & given:
        raise UserError(
            f"no label is in both tables: annotations have {_examples(sorted(real))}, detections {_examples(sorted(given))}; "
            "rename the labels of one"
        )


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _curves(truth: Events, found: Events, result: EventResult) -> dict[str, PrecisionRecall]:
    if result.curve is None:
        return {}
    most = sorted((label for label in result.labels if label.n), key=lambda label: -label.n)[:CURVES]
    curves = {}
    for name in [label.name for label in most] if len(result.labels) > 1 else []:
        own = truth.take(truth.labels == name), found.take(found.labels == name)
        curves[name] = precision_recall(own[0], own[1], result.rule)
    return {"all labels": result.curve, **curves}


def _matches(truth: Events, found: Events, result: EventResult) -> str:
    """A row for each detection, matched or false, and for each missed event, by recording and time."""
    rows = []
    for number, event in enumerate(result.hits.tolist()):
        pair = (truth.starts[event], truth.ends[event]) if event >= 0 else (np.nan, np.nan)
        rows.append(("matched" if event >= 0 else "false", found, number, pair))
    missed = sorted(set(range(len(truth))) - set(result.hits.tolist()))
    rows += [("missed", truth, number, (truth.starts[number], truth.ends[number])) for number in missed]
    cells = []
    for outcome, events, number, pair in rows:
        times = (np.nan, np.nan) if outcome == "missed" else (events.starts[number], events.ends[number])
        score = np.nan if outcome == "missed" else events.scores[number]
        numbers = [decimal(float(value)) for value in (*times, score, *pair)]
        at = (str(events.files[number]), pair[0] if outcome == "missed" else times[0])
        cells.append((at, [safe_cell(at[0]), *numbers[:2], safe_cell(str(events.labels[number])), *numbers[2:], outcome]))
    header = ["file", "start", "end", "label", "score", "true_start", "true_end", "outcome"]
    return _csv([header, *(row for _, row in sorted(cells, key=lambda cell: cell[0]))])


def _labels(result: EventResult) -> str:
    names = list(next((label.figures for label in result.labels), {}))
    header = ["label", "n", "detections", "matched", *(part for name in names for part in (name, f"{name}_low", f"{name}_high"))]
    rows = [
        [safe_cell(one.name), one.n, one.detections, one.matched]
        + [value for name in names for value in (one.figures[name].value, one.figures[name].low, one.figures[name].high)]
        for one in result.labels
    ]
    return _csv([header, *rows])


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
