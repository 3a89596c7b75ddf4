"""A loaded model over audio files: one vector, or the probabilities, for each."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.band import rate_warnings
from beats_jax.audio.io import AudioError, audio_info
from beats_jax.audio.survey import survey
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError, warn
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.program import Outputs, Program
from beats_jax.inference.reduce import MeanLogits, OnError, Pooled, Reducer, Row
from beats_jax.inference.stream import Recordings

if TYPE_CHECKING:
    from beats_jax.inference.model import Model

PathLike = str | os.PathLike[str]
THREADS = 4  # recordings that are decoded at once
HEADERS = 32  # files whose sample rates are checked: a folder mostly holds recordings of one or two recorders


def file_rows(
    program: Program,
    files: Sequence[PathLike],
    grid: Grid,
    reducer: Reducer,
    *,
    trim_below_dbfs: float = 0.0,
    on_error: OnError = "nan",
    batch_size: int | None = None,
    threads: int = THREADS,
) -> list[Row]:
    """The answer for every file, in their order.

    Args:
      trim_below_dbfs: both ends of a file are cut off below this level; 0 = nothing is cut.
    Raises:
      UserError: no files. AudioError: the first bad file, with `on_error` raise.
    """
    if not len(files):
        raise UserError("the list of files is empty; give at least one audio file")
    warn_of_rates(files, program.audio)
    recordings, silent = Recordings.of_files(files), {}
    if trim_below_dbfs:
        recordings, silent = trim(recordings, program.audio, trim_below_dbfs, threads)
        if silent and on_error == "raise":
            raise next(iter(silent.values()))
    found = answer_rows(
        program, recordings, grid, reducer, batch_size=batch_size, threads=threads, on_error=on_error, skip=silent
    )
    unusable = [Row(row, None, error, math.nan, math.nan) for row, error in silent.items()]
    return sorted([*found, *unusable], key=lambda row: row.row)


def warn_of_rates(files: Sequence[PathLike], audio: AudioConfig) -> None:
    """A Python warning for each of `rate_notes`."""
    for note in rate_notes(files, audio):
        warn(note)


def rate_notes(files: Sequence[PathLike], audio: AudioConfig) -> tuple[str, ...]:
    """Warnings that the front-end reads other frequencies than the recordings hold, by the headers of some of the files."""
    rates: Counter[int] = Counter()
    for file in files[:: math.ceil(len(files) / HEADERS) or 1]:
        try:
            rates[audio_info(file).sample_rate] += 1
        except (AudioError, OSError):
            continue  # listed when it is read
    return rate_warnings(rates, audio.filterbank)


def trim(
    recordings: Recordings, audio: AudioConfig, below_dbfs: float, threads: int = THREADS
) -> tuple[Recordings, dict[int, AudioError]]:
    """Whole files without the quiet at both ends, by the rule of `datasets.validation`, and the errors of those without sound."""
    bounds, silent = np.full((len(recordings.files), 2), math.nan), {}

    def measure(row: int) -> None:
        try:
            bounds[row] = survey(str(recordings.files[row]), channel=audio.channel, below_dbfs=below_dbfs).sound
        except AudioError as error:
            silent[row] = error

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(measure, range(len(bounds))))
    return Recordings(recordings.files, bounds[:, 0], bounds[:, 1]), dict(sorted(silent.items()))


def file_vectors(
    model: Model, files: Sequence[PathLike], *, pooling: str = "mean", layer: int = -1, grid: Grid | None = None, **options: Any
) -> list[Row]:
    """One vector a file, float32 [D], from all tokens of all its windows; options as in `file_rows`.

    Args:
      pooling, layer: as in `Model.embed`. grid: windows; None = `Model.grid`.
    Raises:
      UserError: no files, or an unknown pooling or layer.
    """
    model.require_pooling(pooling, layer)
    program = model.program(Outputs((pooling,), (layer,)))
    found = file_rows(program, files, grid or model.grid(), Pooled((pooling,)), **options)
    return [row if row.value is None else row._replace(value=row.value[0, 0]) for row in found]


def file_scores(model: Model, files: Sequence[PathLike], *, grid: Grid | None = None, **options: Any) -> list[Row]:
    """Probabilities of every file, float64 [C], by the model's own rule from the mean of its windows' logits.

    Options as in `file_rows`; quiet ends are cut off where the model was evaluated without them.

    Raises:
      UserError: no files, or a model without a head. AudioError: the first bad file, with `on_error` raise.
    """
    model.require_head()
    options = {"trim_below_dbfs": model.reading.trim_below_dbfs, **options}
    found = file_rows(model.program(Outputs(logits=True)), files, grid or model.grid(), MeanLogits(), **options)
    rule = model.multi_label
    return [row if row.value is None else row._replace(value=probabilities(row.value.logits, rule)) for row in found]


def probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """float64 [..., C] from logits: sigmoid for several labels a row, softmax for one."""
    from scipy.special import expit, softmax

    logits = np.asarray(logits, np.float64)
    return expit(logits) if multi_label else softmax(logits, axis=-1)
