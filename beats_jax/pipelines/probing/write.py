"""The files of a probe: metrics.json, probe.json, predictions.csv, report.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import DataConfig, EvaluationConfig, to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.evaluation.metrics.result import summary_lines
from beats_jax.evaluation.predictions import write_metrics, write_predictions
from beats_jax.evaluation.probes.nested import Choice
from beats_jax.evaluation.report.page import write_page
from beats_jax.evaluation.report.probe import EncoderFindings, headline, probe_page
from beats_jax.inference.files import probabilities
from beats_jax.pipelines.measuring.seen_rows import seen_figures
from beats_jax.pipelines.measuring.write import PREDICTIONS_FILE, predictions_of, versions
from beats_jax.pipelines.probing.folds import FoldPlan
from beats_jax.pipelines.training.workdir import METRICS_FILE, write_json
from beats_jax.weights.pretrained import read_memory

PROBE_FILE = "probe.json"


def write_probe(
    report: Path,
    settings: Any,
    data: DataConfig,
    found: Sequence[EncoderFindings],
    logits: np.ndarray,
    rows: Manifest,
    vocabulary: LabelVocabulary,
    plan: FoldPlan,
    notes: Sequence[str],
    errors: ErrorLog,
    command: str,
) -> dict[str, Any]:
    """Writes all files, metrics.json last, prints the figures and returns the metrics.

    Args:
      report: HTML, or Markdown if its name ends in .md; the other files stand beside it.
      found: the probed encoder first, then baselines. logits: of its best probe, float32 [N, C], NaN outside the test folds.
    """
    output = report.parent
    metrics = {**flat_metrics(found, len(plan.names)), **seen_figures(read_memory(settings.model), rows)}
    tested = np.flatnonzero(np.isfinite(logits).all(axis=1))
    scores, threshold = probabilities(logits[tested], data.multi_label), EvaluationConfig().threshold
    table = predictions_of(rows.take(tested), scores, vocabulary.names, data.multi_label, threshold)
    write_predictions(output / PREDICTIONS_FILE, table)
    write_json(output / PROBE_FILE, {"folds": list(plan.names), "encoders": [_full_table(one) for one in found]})
    facts = {
        "rows": len(rows),
        "files": len(np.unique(rows.files)),
        "duration": f"{float(np.sum(rows.metadata['seconds'])) / 3600:.2f} h",
        "classes": ", ".join(f"{name} {number}" for name, number in rows.labels.counts().items()),
    }
    page = probe_page(
        title=f"Probe of {settings.model} on {settings.data}",
        encoders=found,
        folds=("test",) if len(found[0].choices) == 1 else plan.names,
        folds_sentence=plan.sentence,
        notes=notes,
        data_summary=facts,
        settings={"probe": asdict(settings), "data": to_mapping(data)},
        errors=errors.rows(),
        versions=versions(),
        command=command,
    )
    write_page(report, page)
    write_metrics(output / METRICS_FILE, metrics)
    _print(found, notes, report)
    return metrics


def flat_metrics(found: Sequence[EncoderFindings], folds: int) -> dict[str, Any]:
    """Flat keys: all metrics of the probed model's best probe; the headline metric of its kinds (`logistic_accuracy`) and of
    baselines (`random_accuracy`, `random_logistic_accuracy`), each with `_low` and `_high`."""
    key = headline(found[0].result)
    metrics: dict[str, Any] = {**found[0].result.flat(), "folds": folds, "repeats": len(found[0].repeats)}
    for place, encoder in enumerate(found):
        prefix = f"{encoder.name}_" if place else ""
        results = {prefix + kind: one.result for kind, one in encoder.kinds.items()}
        for name, result in (results | ({encoder.name: encoder.result} if place else {})).items():
            estimate = result.metrics[key]
            metrics |= {f"{name}_{key}": estimate.value, f"{name}_{key}_low": estimate.low, f"{name}_{key}_high": estimate.high}
    if len(found[0].repeats) > 1:
        metrics[f"{key}_repeats_mean"] = float(np.mean(found[0].repeats))
        metrics[f"{key}_repeats_std"] = float(np.std(found[0].repeats, ddof=1))
    return metrics


def _full_table(found: EncoderFindings) -> dict[str, Any]:
    """An encoder in probe.json: every layer, pooling and setting with its validation score."""
    table = []
    for kind, one in found.kinds.items():
        poolings = one.scores.shape[1]
        for layer, pooling, setting in np.ndindex(one.scores.shape):
            place = found.place(Choice(kind, layer * poolings + pooling, setting, 0.0, 0.0))
            row = {"kind": kind, "layer": place[0], "pooling": place[1], one.setting: one.settings[setting]}
            table.append({**row, "score": round(float(one.scores[layer, pooling, setting]), 6)})
    return {
        "encoder": found.name,
        "score": f"validation {headline(found.result)}",
        "to_use": _choice(found, found.final),
        "chosen_in_test_folds": [_choice(found, choice) for choice in found.choices],
        "repeats": list(found.repeats),
        "table": table,
    }


def _choice(found: EncoderFindings, choice: Choice) -> dict[str, Any]:
    kind = found.kinds[choice.kind]
    layer, pooling = found.place(choice)
    return {
        "kind": choice.kind,
        "layer": layer,
        "pooling": pooling,
        kind.setting: kind.settings[choice.setting],
        "score": round(choice.score, 6),
    }


def _print(found: Sequence[EncoderFindings], notes: Sequence[str], report: Path) -> None:
    first = found[0]
    print("\n".join(summary_lines(first.result)))
    print(f"to use: {first.words(first.final)}")
    for other in found[1:]:
        estimate = other.result.metrics[headline(other.result)]
        print(f"{other.name}: {headline(other.result)} {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]")
    print("\n".join(notes), end="\n" if notes else "")
    print(f"report: {report}", flush=True)
