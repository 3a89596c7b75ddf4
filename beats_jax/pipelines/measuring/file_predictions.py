"""A trained classifier on files without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.config import DataConfig
from beats_jax.evaluation.predictions import PROBABILITY_PREFIX, predicted_names
from beats_jax.inference.files import file_scores
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.model import Model
from beats_jax.inference.tables import recordings_of

if TYPE_CHECKING:
    import pandas as pd


def predict_files(
    model: Model, files: Sequence[str | os.PathLike[str]], data: DataConfig, *, threshold: float = 0.5
) -> pd.DataFrame:
    """A row for every file, in their order: file, prediction, `p:<class>` for each class, error.

    Args:
      data: windows, quiet ends, batches and threads, as in evaluation.
      threshold: of several labels a file: probability from which a class counts as predicted.
    Returns:
      `error` is empty, or says why the file could not be read; then prediction is empty and the probabilities are NaN.
    Raises:
      UserError: no files, or a model without a head.
    """
    import pandas as pd

    names, _ = recordings_of(files)
    reading = {"batch_size": data.batch_size, "threads": max(1, data.num_workers), "trim_below_dbfs": data.trim_below_dbfs}
    found = file_scores(model, names, grid=evaluation_grid(data, model.audio), **reading)
    probabilities = np.full((len(names), len(model.labels)), np.nan)
    good = np.array([row.row for row in found if row.value is not None], np.int64)
    if len(good):
        probabilities[good] = np.stack([row.value for row in found if row.value is not None])
    predictions = np.full(len(names), "", object)
    predictions[good] = predicted_names(probabilities[good], model.labels, multi_label=model.multi_label, threshold=threshold)
    table = {"file": names, "prediction": predictions}
    table |= {PROBABILITY_PREFIX + label: probabilities[:, i] for i, label in enumerate(model.labels)}
    reasons = {row.row: row.error.reason for row in found if row.error is not None}
    return pd.DataFrame({**table, "error": [reasons.get(row, "") for row in range(len(names))]})
