"""The files of an evaluation by episodes: metrics.json, episodes.csv, the report."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import DataConfig, to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.episodes import Episodes
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.splits import group_codes
from beats_jax.evaluation.predictions import write_metrics
from beats_jax.evaluation.report.episodes import EpisodeFindings, episodes_page, sentences
from beats_jax.evaluation.report.page import write_page
from beats_jax.files import write_text
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.measuring.write import versions
from beats_jax.pipelines.probing.compared import MODEL
from beats_jax.pipelines.training.workdir import METRICS_FILE
from beats_jax.spreadsheets import safe_cell

EPISODES_FILE = "episodes.csv"


@dataclass(frozen=True, eq=False)
class Drawn:
    """Episodes of `classes` classes, then `pooled` more of `pools` [D, M], which are draws of these classes."""

    episodes: Episodes
    pools: np.ndarray
    classes: int
    pooled: int


def write_episodes(
    report: Path,
    settings: Any,
    data: DataConfig,
    rows: Manifest,
    names: LabelVocabulary,
    drawn: Drawn,
    found: Sequence[EpisodeFindings],
    notes: Sequence[str],
    errors: ErrorLog,
    command: str,
) -> dict[str, Any]:
    """Writes all files, metrics.json last, prints the findings and returns the metrics."""
    output, size = report.parent, drawn.pools.shape[1]
    apart = "that may share recordings" if settings.shared_recordings else "of different recordings"
    pools = f"{drawn.classes} classes" + (f" and {len(drawn.pools)} draws of {size} of them" if drawn.pooled else "")
    what = (
        f"{settings.n_tasks} episodes of {settings.n_way} ways, {settings.n_shot} support and {settings.n_query} query rows a "
        f"class {apart}, {pools}, seed {settings.seed}; guessing gives {1 / settings.n_way:.3g}"
    )
    facts = {
        "rows": len(rows),
        "files": len(np.unique(rows.files)),
        "recordings": len(np.unique(group_codes(rows))),
        "duration": f"{float(np.sum(rows.metadata['seconds'])) / 3600:.2f} h",
        "classes": ", ".join(f"{name} {number}" for name, number in rows.labels.counts().items()),
    }
    write_text(output / EPISODES_FILE, _table(drawn, found, names))
    title = f"{settings.model} on episodes of {settings.data}"
    fields = {"settings": {"episodes": asdict(settings), "data": to_mapping(data)}, "errors": errors.rows()}
    fields |= {"versions": versions(), "provenance": provenance(), "command": command}
    write_page(report, episodes_page(found, names.names, what, notes, facts, title=title, **fields))
    metrics = flat_metrics(settings, found, drawn)
    write_metrics(output / METRICS_FILE, metrics)
    print("\n".join([what, *sentences(found), *notes]))
    print(f"report: {report}", flush=True)
    return metrics


def flat_metrics(settings: Any, found: Sequence[EpisodeFindings], drawn: Drawn) -> dict[str, Any]:
    """Flat keys: `accuracy` of the headline; `prototypical_accuracy`, `fbank_prototypical_accuracy` of each method and baseline
    at the first layer and pooling; each with `_low`, `_high` over episodes and `_draws_low`, `_draws_high` for other classes."""
    metrics: dict[str, Any] = {"n": settings.n_tasks, "n_way": settings.n_way, "n_shot": settings.n_shot}
    metrics |= {"n_query": settings.n_query, "classes": drawn.classes, "class_draws": len(drawn.pools)}
    for one in found:
        prefix = "" if one.encoder == MODEL else f"{one.encoder}_"
        names = [f"{prefix}{one.method.replace('-', '_')}_accuracy", *(["accuracy"] if one is found[0] else [])]
        episodes, draws = one.result.episodes, one.result.draws
        values = {"": episodes.value, "_low": episodes.low, "_high": episodes.high, "_draws_low": draws.low}
        for name in names:
            if name not in metrics:  # that of the first layer and pooling
                metrics |= {name + end: value for end, value in (values | {"_draws_high": draws.high}).items()}
    return metrics


def _table(drawn: Drawn, found: Sequence[EpisodeFindings], names: LabelVocabulary) -> str:
    """A row for each episode: its classes and its accuracy by every method, so that any two can be compared in pairs."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    places = [" ".join((one.encoder, one.layer, one.pooling, one.method)) for one in found]
    writer.writerow(["episode", "classes", *places])
    for number, labels in enumerate(drawn.episodes.classes[: len(found[0].result.accuracies)]):
        classes = safe_cell("; ".join(names.names[label] for label in labels))
        accuracies = [f"{one.result.accuracies[number]:.6g}" for one in found]
        writer.writerow([number, classes, *accuracies])
    return text.getvalue()
