"""The files that hold numbers: predictions.csv and metrics.json.

predictions.csv has the columns `file,start,end,label,prediction` and one `p:<class>` per class. Times are seconds; an empty `end`
is the end of the file; several labels are joined by `;`. Text that a spreadsheet would run has an apostrophe before it, which
`read_predictions` removes (`beats_jax.spreadsheets`). Probabilities have all their digits, so metrics computed from the table are
those of metrics.json. Neither file holds a time of day: the same run writes the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.classification import predicted_matrix
from beats_jax.files import whole_file, write_text
from beats_jax.spreadsheets import original_cell, safe_cell

COLUMNS = ("file", "start", "end", "label", "prediction")
PROBABILITY_PREFIX = "p:"
SEPARATOR = ";"


@dataclass(frozen=True)
class PredictionTable:
    """Rows of equal number N. `labels` and `predictions` hold class names, joined by `;` in multi-label data; "" = none."""

    files: tuple[str, ...]
    starts: np.ndarray  # float64 [N], seconds
    ends: np.ndarray  # float64 [N], seconds; NaN = end of the file
    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    class_names: tuple[str, ...]
    probabilities: np.ndarray  # float [N, C]


def predicted_names(
    probabilities: np.ndarray, class_names: Sequence[str], *, multi_label: bool, threshold: float
) -> tuple[str, ...]:
    """[N] names of the predicted classes, joined by `;` if `multi_label`."""
    marks = predicted_matrix(np.asarray(probabilities), multi_label, threshold)
    return tuple(SEPARATOR.join(class_names[i] for i in np.flatnonzero(row).tolist()) for row in marks)


def build_predictions(
    files: Sequence[str],
    starts: Sequence[float] | np.ndarray,
    ends: Sequence[float] | np.ndarray,
    labels: Sequence[str | Sequence[str]],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    multi_label: bool,
    threshold: float = 0.5,
) -> PredictionTable:
    """The table of predictions.

    Args:
      files, starts, ends: [N]; seconds, a start of NaN is the start of the file (written as 0), an end of NaN its end.
      labels: [N] true labels: a name, or the names of a multi-label row; "" or () = none known.
      probabilities: float [N, C].
    Raises:
      ValueError: columns of unequal length.
      UserError: a class name with `;` in multi-label data, where it separates names.
    """
    probabilities = np.asarray(probabilities)
    lengths = {len(files), len(starts), len(ends), len(labels), len(probabilities)}
    if len(lengths) != 1 or probabilities.ndim != 2 or probabilities.shape[1] != len(class_names):
        raise ValueError(
            f"columns of {sorted(lengths)} rows, probabilities {probabilities.shape}, {len(class_names)} class names"
        )
    for name in class_names:
        if multi_label and SEPARATOR in name:
            raise UserError(
                f"class name {name!r} holds {SEPARATOR!r}, which separates the labels of a multi-label row; rename the class"
            )
    return PredictionTable(
        files=tuple(str(file) for file in files),
        starts=np.nan_to_num(np.asarray(starts, np.float64)),
        ends=np.asarray(ends, np.float64),
        labels=tuple(label if isinstance(label, str) else SEPARATOR.join(label) for label in labels),
        predictions=predicted_names(probabilities, class_names, multi_label=multi_label, threshold=threshold),
        class_names=tuple(class_names),
        probabilities=probabilities,
    )


def write_predictions(path: str | Path, table: PredictionTable) -> None:
    """Writes predictions.csv at once or not at all, in UTF-8; other bytes of a file name become escapes."""
    with whole_file(path) as file, io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*COLUMNS, *(PROBABILITY_PREFIX + name for name in table.class_names)])
        texts = zip(table.files, table.labels, table.predictions, strict=True)
        for i, cells in enumerate(texts):
            name, label, prediction = map(safe_cell, cells)
            end = float(table.ends[i])
            seconds = (str(float(table.starts[i])), "" if math.isnan(end) else str(end))
            row = table.probabilities[i]
            writer.writerow([name, *seconds, label, prediction, *(str(value) for value in row)])


def read_predictions(path: str | Path) -> PredictionTable:
    """Reads a file of `write_predictions`, probabilities as float64. UserError: no file, other columns, no number in a cell."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table of predictions: {error}") from error
    header = rows[0] if rows else []
    names = header[len(COLUMNS) :]
    if tuple(header[: len(COLUMNS)]) != COLUMNS or not all(name.startswith(PROBABILITY_PREFIX) for name in names):
        raise UserError(f"{path}: its columns are not {','.join(COLUMNS)} and one {PROBABILITY_PREFIX}<class> per class")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UserError(f"{path}: row {line} has {len(row)} cells, the header {len(header)}; write the table again")
    body = rows[1:]
    try:
        numbers = np.array([[row[1], row[2] or "nan", *row[5:]] for row in body], dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: a cell of start, end or {PROBABILITY_PREFIX}<class> is not a number: {error}") from error
    numbers = numbers.reshape(len(body), 2 + len(names))
    return PredictionTable(
        files=tuple(original_cell(row[0]) for row in body),
        starts=np.nan_to_num(numbers[:, 0]),  # earlier versions wrote "nan" for the start of the file
        ends=numbers[:, 1],
        labels=tuple(original_cell(row[3]) for row in body),
        predictions=tuple(original_cell(row[4]) for row in body),
        class_names=tuple(name.removeprefix(PROBABILITY_PREFIX) for name in names),
        probabilities=numbers[:, 2:],
    )


def write_metrics(path: str | Path, metrics: Mapping[str, float | int | None]) -> None:
    """Writes metrics.json: flat, keys sorted, NaN and infinities as null, at once or not at all."""
    clean = {name: value if value is None or math.isfinite(value) else None for name, value in metrics.items()}
    write_text(path, json.dumps(clean, indent=2, sort_keys=True, allow_nan=False) + "\n")
