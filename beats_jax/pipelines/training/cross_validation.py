"""Cross-validation: one run per fold, then the figures over all folds. Finished folds are not run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import Experiment
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.splits import fold_manifest, folds
from beats_jax.evaluation.predictions import read_predictions
from beats_jax.pipelines.measuring.measure import Measured, measure
from beats_jax.pipelines.measuring.write import PREDICTIONS_FILE, write_results
from beats_jax.pipelines.training.preparation import PreparedData, record_rows
from beats_jax.pipelines.training.supervised import PREFIXES, train_and_measure
from beats_jax.pipelines.training.workdir import METRICS_FILE, hold_workdir, is_finished, open_workdir, read_json

AVERAGED = ("accuracy", "balanced_accuracy", "f1_macro", "mAP", "auroc")


def cross_validate(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> Measured:
    """Trains on all folds but one, for each fold in turn, in `workdir`/fold_<name>; then measures all test rows together.

    metrics.json holds the figures of the pooled test rows (each row was predicted by a model that had not seen its fold), the
    mean and standard deviation over folds (`accuracy_fold_mean`, `accuracy_fold_std`), and every fold's own
    (`fold_1_accuracy`, with `_low` and `_high`).
    """
    names = folds(data.manifest)
    for name in names:
        part = replace(experiment, data=replace(experiment.data, fold=name))
        place = workdir / f"fold_{name}"
        with hold_workdir(place):
            open_workdir(place, part)
            if is_finished(place):
                print(f"fold {name}: finished before", flush=True)
            else:
                print(f"fold {name} of {', '.join(names)}", flush=True)
                rows = fold_manifest(data.manifest, name, experiment.data)
                record_rows(place, rows)
                train_and_measure(part, place, data.with_splits(rows), command=command)
    parts = [workdir / f"fold_{name}" for name in names]
    rows, probabilities = _pool_folds(data.manifest, parts)
    measured = measure(experiment, rows, data.vocabulary, probabilities, f"{experiment.name}: {len(names)} folds")
    figures = [read_json(part / METRICS_FILE, {str: (float, None)}) for part in parts]
    fold_metrics = tuple({"fold": name, **found} for name, found in zip(names, figures, strict=True))
    measured = replace(measured, metrics={**measured.metrics, **_fold_figures(fold_metrics)}, folds=fold_metrics)
    for line in fold_lines(fold_metrics):
        print(line)
    write_results(workdir, experiment, data, measured, command=command)
    return measured


def fold_lines(fold_metrics: tuple[dict[str, Any], ...]) -> list[str]:
    """A line of text per fold, and one for their mean."""
    lines = [
        f"fold {fold['fold']}: accuracy {fold['accuracy']:.3f} [{_text(fold['accuracy_low'])}, {_text(fold['accuracy_high'])}]"
        f"  n={fold['n']}"
        for fold in fold_metrics
    ]
    values = [fold["accuracy"] for fold in fold_metrics]
    return [
        *lines,
        f"mean of {len(values)} folds: accuracy {np.mean(values):.4f}, standard deviation {np.std(values, ddof=1):.4f}",
    ]


def _pool_folds(manifest: Manifest, parts: list[Path]) -> tuple[Manifest, np.ndarray]:
    """The rows that the folds predicted and their probabilities, read back from the folds' predictions.csv."""
    place = {key: row for row, key in enumerate(zip(manifest.files.tolist(), *_bounds(*manifest.bounds()), strict=True))}
    whole = np.flatnonzero(np.isnan(manifest.ends)).tolist()
    starts = manifest.bounds()[0]
    place |= {(str(manifest.files[row]), float(starts[row]), -1.0): row for row in whole}  # tables of earlier versions
    rows: list[int] = []
    probabilities: list[np.ndarray] = []
    for part in parts:
        table = read_predictions(part / PREDICTIONS_FILE)
        rows += [place[key] for key in zip(table.files, *_bounds(table.starts, table.ends), strict=True)]
        probabilities.append(table.probabilities)
    return manifest.take(np.array(rows)), np.concatenate(probabilities)


def _bounds(starts: np.ndarray, ends: np.ndarray) -> tuple[list[float], list[float]]:
    """Starts and ends as keys of a dict: NaN, an unknown end, becomes -1."""
    return np.nan_to_num(starts, nan=-1.0).tolist(), np.nan_to_num(ends, nan=-1.0).tolist()


def _fold_figures(fold_metrics: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    figures: dict[str, Any] = {"folds": len(fold_metrics)}
    both = [f"{prefix}_{name}" for prefix in PREFIXES.values() for name in AVERAGED if f"{prefix}_{name}" in fold_metrics[0]]
    for name in (*AVERAGED, *both):
        values = [fold[name] for fold in fold_metrics if fold.get(name) is not None]
        if values:
            figures[f"{name}_fold_mean"] = float(np.mean(values))
            figures[f"{name}_fold_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        for fold in fold_metrics:
            figures |= {f"fold_{fold['fold']}_{key}": fold.get(key) for key in (name, f"{name}_low", f"{name}_high")}
    return figures


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
