"""A trained classifier on files without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.audio.io import AudioError, audio_info
from beats_jax.config import DataConfig
from beats_jax.datasets.loader import evaluation_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.errors import UserError
from beats_jax.evaluation.predictions import PROBABILITY_PREFIX, predicted_names
from beats_jax.pipelines.prediction import predict_rows
from beats_jax.weights.model import Model

if TYPE_CHECKING:
    import pandas as pd


def predict_files(
    model: Model, files: Sequence[str | os.PathLike[str]], data: DataConfig, *, threshold: float = 0.5
) -> pd.DataFrame:
    """A row for every file, in their order: file, prediction, `p:<class>` for each class, error.

    Args:
      data: windows, batches and workers, as in evaluation.
      threshold: of several labels a file: probability from which a class counts as predicted.
    Returns:
      `error` is empty, or says why the file could not be read; then prediction is empty and the probabilities are NaN.
    Raises:
      UserError: no files, or a model without a head.
    """
    import pandas as pd

    if not len(files):
        raise UserError("the list of files is empty; give at least one audio file")
    if not model.labels:
        raise UserError(f"the model {model.source or model.config.family} has no classification head; train one first")
    names = [os.fspath(path) for path in files]
    seconds, reasons = _durations(names)
    readable = np.flatnonzero(~np.isnan(seconds))
    manifest = Manifest.from_columns([names[i] for i in readable], [[] for _ in readable])
    manifest = manifest.with_metadata(seconds=seconds[readable])
    unlabelled = replace(data, multi_label=True)  # rows of no label are rows of several labels
    batches = evaluation_batches(manifest, LabelVocabulary(model.labels), unlabelled, model.audio)
    found = predict_rows(
        lambda arrays: np.asarray(model.logits(arrays["waveforms"], lengths=arrays["lengths"])),
        batches,
        len(manifest),
        len(model.labels),
    )
    reasons |= {str(error.path): error.reason for error in found.errors}
    probabilities = np.full((len(names), len(model.labels)), np.nan)
    rows = readable[found.rows]
    probabilities[rows] = found.probabilities(model.multi_label)
    predictions = np.full(len(names), "", object)
    predictions[rows] = predicted_names(probabilities[rows], model.labels, multi_label=model.multi_label, threshold=threshold)
    table = {"file": names, "prediction": predictions}
    table |= {PROBABILITY_PREFIX + label: probabilities[:, i] for i, label in enumerate(model.labels)}
    return pd.DataFrame({**table, "error": [reasons.get(name, "") for name in names]})


def _durations(files: Sequence[str]) -> tuple[np.ndarray, dict[str, str]]:
    """Seconds of every file, float64 [N], NaN where it cannot be read, and why."""
    seconds, reasons = np.full(len(files), np.nan), {}
    for i, name in enumerate(files):
        try:
            seconds[i] = audio_info(name).seconds
        except AudioError as error:
            reasons[name] = error.reason
    return seconds, reasons
