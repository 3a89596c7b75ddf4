"""Few-shot detection in annotated recordings: `detect --examples` on the first events of each class, measured on the rest."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.audio.io import AudioError
from beats_jax.config.rules import require
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.sources.annotations import locate_recordings
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import write_events
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.events import Counts
from beats_jax.evaluation.metrics.few_shot_detection import FewShotTask, count_task, drop_short, few_shot_tasks, measure
from beats_jax.evaluation.predictions import write_metrics
from beats_jax.evaluation.report.few_shot_detection import few_shot_page, few_shot_sentences
from beats_jax.evaluation.report.page import write_page
from beats_jax.files import write_text
from beats_jax.inference.events import EventRule, find_events
from beats_jax.inference.files import file_rows
from beats_jax.inference.model import Model, load
from beats_jax.inference.reduce import EachWindow
from beats_jax.inference.sources import FILTERBANK
from beats_jax.pipelines.detecting.detector import Detector
from beats_jax.pipelines.detecting.examples import Example
from beats_jax.pipelines.detecting.few_embeddings import embedding_detector, fit_directions
from beats_jax.pipelines.detecting.few_examples import fit_templates, template_detector
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.measuring.detections import read_tables
from beats_jax.pipelines.measuring.evaluate import new_folder
from beats_jax.pipelines.measuring.write import REPORT_FILES, versions
from beats_jax.pipelines.training.workdir import ERRORS_FILE, METRICS_FILE
from beats_jax.spreadsheets import safe_cell

TASKS_FILE = "tasks.csv"
TEMPLATE_BATCH, MODEL_BATCH = 256, 16  # windows at once


@dataclass(frozen=True)
class FewShotSettings:
    """A few-shot detector and the recordings it is tried on.

    Attributes:
      model: filterbank, or as in `inference.model.load`. data: a table of events, or a folder of tables and recordings.
      n_shot: known events of each class. iou: share of the time of both that a match must exceed.
      least_share: detections shorter than this share of the shortest known event are dropped.
      per_hour: background windows that may reach a score of 0.5, as in `detect --examples`.

    Raises:
      UserError: a number out of its bounds.
    """

    model: str
    data: Path
    n_shot: int = 5
    iou: float = 0.3
    least_share: float = 0.6  # not the 1 of the challenge's baseline: templates are whole frames long, a little less than calls
    per_hour: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.n_shot >= 1, f"n_shot is {self.n_shot}; it must be at least 1")
        require(0 <= self.iou < 1, f"iou is {self.iou}; it must be in [0, 1)")


def measure_few_shot_detection(
    settings: FewShotSettings, output: Path, *, strict: bool, command: str, page: str = "html"
) -> dict[str, Any]:
    """Fits, detects and measures every recording; writes metrics.json, tasks.csv, detections.csv, errors.csv and the report.

    Returns:
      the contents of metrics.json.
    Raises:
      UserError: tables that cannot be read, no class with more events than `n_shot`, an `output` in use; with `strict` the first
        recording that cannot be read.
    """
    truth, names = read_tables(settings.data, "--data")
    root = settings.data if settings.data.is_dir() else settings.data.parent
    paths = locate_recordings(names, root)
    tasks, short = few_shot_tasks(truth, settings.n_shot)
    if not tasks:
        raise UserError(
            f"{settings.data} has no class with more than {settings.n_shot} events in a recording; give a smaller --n-shot"
        )
    model = None if settings.model == FILTERBANK else load(settings.model)
    with new_folder(output):
        errors = ErrorLog(output / ERRORS_FILE, strict)
        counts: dict[tuple[str, str], Counts] = {}
        found: list[Events] = []
        by_file: dict[str, list[FewShotTask]] = {}
        for task in tasks:
            by_file.setdefault(task.file, []).append(task)
        for number, (file, own) in enumerate(by_file.items(), start=1):
            print(f"{number} of {len(by_file)}: {file}, {len(own)} classes", flush=True)
            try:
                detections = _detect(settings, model, paths[file], own)
            except AudioError as error:
                errors.add(error.path, error.reason)
                continue
            for task in own:
                mine = drop_short(detections.take(detections.labels == task.label), task.support, settings.least_share)
                mine = mine.take(mine.ends > task.begin)
                counts[file, task.label] = count_task(task, mine, settings.iou)
                found.append(mine)
        if not counts:
            raise UserError(f"none of the {len(by_file)} recordings could be searched; {errors.path} lists why")
        return _write(settings, output, tasks, short, counts, Events.concatenate(found), paths, root, errors, command, page)


def _detect(settings: FewShotSettings, model: Model | None, path: str, tasks: Sequence[FewShotTask]) -> Events:
    """The events of all classes of a recording, each by its known events, under the name that the table has."""
    examples = [
        Example(Path(path), float(start), float(end), task.label)
        for task in tasks
        for start, end in zip(task.support.starts, task.support.ends, strict=True)
    ]
    if model is None:
        detector = template_detector(fit_templates(examples, [path], per_hour=settings.per_hour))
    else:
        detector = embedding_detector(fit_directions(model, examples, [path], per_hour=settings.per_hour), model)
    return _events(detector, path, tasks[0].file, TEMPLATE_BATCH if model is None else MODEL_BATCH)


def _events(detector: Detector, path: str, name: str, batch_size: int) -> Events:
    row = file_rows(detector.program, [path], detector.grid, EachWindow(), on_error="raise", batch_size=batch_size)[0]
    starts = np.array([window.start for window in row.value])
    ends = starts + np.array([window.seconds for window in row.value])
    scores = detector.scores(np.stack([window.values["logits"] for window in row.value])).astype(np.float32)
    labels, seconds = detector.labels, np.array([detector.seconds[label] for label in detector.labels])
    limits = np.array([detector.thresholds[label] for label in labels], np.float32)
    return find_events(name, starts, ends, scores, labels, limits, EventRule(extent="peak"), seconds)


def _write(
    settings: FewShotSettings,
    output: Path,
    tasks: Sequence[FewShotTask],
    short: Sequence[tuple[str, str, int]],
    counts: Mapping[tuple[str, str], Counts],
    found: Events,
    paths: Mapping[str, str],
    root: Path,
    errors: ErrorLog,
    command: str,
    page: str,
) -> dict[str, Any]:
    """Writes all files, metrics.json last, prints the findings and returns the metrics."""
    subsets = {file: _subset(paths[file], root) for file, _ in counts}
    estimates, by_subset = measure(counts, subsets, seed=settings.seed)
    write_events(found, output, ("csv",), {})
    write_text(output / TASKS_FILE, _table(tasks, counts, subsets))
    notes = _notes(settings, short, len(tasks) - len(counts))
    facts = {"command": command, "versions": versions(), "provenance": provenance(), "errors": errors.rows()}
    report = output / REPORT_FILES[page]
    title = f"Few-shot detection of {settings.model} in {settings.data}"
    write_page(report, few_shot_page(estimates, by_subset, counts, notes, settings.n_shot, title=title, **facts))
    metrics: dict[str, Any] = {"n": sum(one.true_positives + one.false_negatives for one in counts.values())}
    metrics |= {"tasks": len(counts), "recordings": len(subsets), "subsets": len(by_subset), "n_shot": settings.n_shot}
    for name, estimate in estimates.items():
        metrics |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    write_metrics(output / METRICS_FILE, metrics)
    print("\n".join([*few_shot_sentences(estimates, by_subset, counts, settings.n_shot), *notes]))
    print(f"report: {report}", flush=True)
    return metrics


def _subset(path: str, root: Path) -> str:
    """The first folder below the data that holds a recording; "" = it lies in the data's own folder."""
    place = Path(path).resolve()
    parts = place.relative_to(root.resolve()).parts if place.is_relative_to(root.resolve()) else ()
    return parts[0] if len(parts) > 1 else ""


def _notes(settings: FewShotSettings, short: Sequence[tuple[str, str, int]], unread: int) -> list[str]:
    notes = []
    if short:
        named = ", ".join(f"{label} in {file} ({number})" for file, label, number in short[:5])
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        notes.append(f"Left out, with no event after the first {settings.n_shot}: {named}{more}.")
    return [*notes, *([f"{unread} classes are of recordings that could not be read."] if unread else [])]


def _table(tasks: Sequence[FewShotTask], counts: Mapping[tuple[str, str], Counts], subsets: Mapping[str, str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "subset", "begin", "true_positives", "false_positives", "false_negatives", "f1"])
    for task in tasks:
        if (one := counts.get((task.file, task.label))) is not None:
            names = [safe_cell(name) for name in (task.file, task.label, subsets[task.file])]
            numbers = [one.true_positives, one.false_positives, one.false_negatives]
            writer.writerow([*names, f"{task.begin:.6g}", *numbers, f"{np.nan_to_num(one.f1):.6g}"])
    return text.getvalue()
