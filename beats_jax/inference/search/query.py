"""Sounds to search for, as vectors of a table of embeddings: by the very model, windows and layer that the table records."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from beats_jax.audio.resampling import resample
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.reduce import EachWindow, Window, reduce_rows
from beats_jax.inference.run import run
from beats_jax.inference.sources import FILTERBANK, VectorSource, open_source
from beats_jax.inference.store import differences
from beats_jax.inference.stream import Recordings, WindowBatch

if TYPE_CHECKING:
    import pyarrow as pa

Clip = str | os.PathLike[str] | np.ndarray
BATCH = 16
MOST_EXAMPLES = 4096  # the similarities of a tile to so many take 128 MB
_STRETCH = re.compile(r"(?P<file>.+)@(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)", re.DOTALL)


class Stretch(NamedTuple):
    """A stretch of a recording in seconds; NaN = its start, its end."""

    file: str
    start: float
    end: float


@dataclass(frozen=True)
class Examples:
    """P windows of clips.

    Attributes:
      names: of the windows, such as "owl.wav@0-5". vectors: float32 [P, D]. stretches: where each is; None = not from a file.
    """

    names: list[str]
    vectors: np.ndarray
    stretches: list[Stretch | None]

    def overlaps(self, table: pa.Table) -> np.ndarray:
        """bool [R]: which rows of a table (file, start, end) share sound with an example, by the places of the files."""
        own: dict[str, list[Stretch]] = {}
        for stretch in self.stretches:
            if stretch is not None:
                own.setdefault(os.path.realpath(stretch.file), []).append(stretch)
        rows = zip(*(table[name].to_pylist() for name in ("file", "start", "end")), strict=True)
        paths = {file: os.path.realpath(file) for file in set(table["file"].to_pylist())} if own else {}
        return np.array(
            [any(one.start < end and start < one.end for one in own.get(paths.get(file, ""), ())) for file, start, end in rows],
            bool,
        )


class QueryModel(NamedTuple):
    """The model of a table, and its windows."""

    source: VectorSource
    grid: Grid


def parse_clip(text: str) -> Stretch:
    """`FILE`, or `FILE@START-END` in seconds. A file that has such a name itself is taken whole.

    Raises:
      UserError: an end that is not behind its start.
    """
    found = _STRETCH.fullmatch(text)
    if found is None or Path(text).exists():
        return Stretch(text, np.nan, np.nan)
    start, end = float(found["start"]), float(found["end"])
    if start >= end:
        raise UserError(f"{text}: a clip cannot go from {start:g} to {end:g} s; write FILE@START-END in seconds")
    return Stretch(found["file"], start, end)


def open_query_model(identity: dict[str, Any], name: str, folder: Path) -> QueryModel:
    """The model that made a table.

    Args:
      identity: of the table. name: from where the model is loaded. folder: of the table, for messages.
    Raises:
      UserError: the model cannot be loaded, or is not the one of the table (what differs is named).
    """
    if identity.get("rows") == "file":
        raise UserError(f"{folder} has a vector for each whole recording, and clips cannot be compared with those; give a vector")
    grid = Grid(**identity["grid"])
    name = FILTERBANK if identity["model"] == FILTERBANK and not name else name
    if not name:
        raise UserError(f"{folder} does not record from where its model was loaded; name it with --model")
    layers, poolings = tuple(identity.get("layers", (-1,))), tuple(identity.get("poolings", ("mean",)))
    options = {"logits": identity.get("logits", False), "dtype": identity.get("dtype", "float32")}
    try:
        if name == FILTERBANK:
            layers, poolings, options["logits"] = (-1,), ("mean",), False
        source, _, _ = open_source(name, layers, poolings, **options, window=None, hop=None)
    except UserError as error:
        raise UserError(f"the model of {folder} cannot be loaded: {error}; --model gives its new place") from error
    made = json.loads(json.dumps(source.program.identity()))
    if changes := differences({key: identity.get(key) for key in made}, made):
        raise UserError(f"{name} is not the model of {folder}: {changes}; give the right one with --model, or embed anew")
    return QueryModel(source, grid)


def read_examples(
    clips: Clip | Sequence[Clip], column: str, width: int, model: Callable[[], QueryModel], sample_rate: int | None
) -> Examples:
    """The vectors of clips: files, stretches of files (`parse_clip`), waveforms, vectors; every window is an example.

    Args:
      column: of the table, and `width` its length. model: opened only where a clip is no vector.
      sample_rate: of waveforms; None = the model's.
    Raises:
      UserError: no clip, one that cannot be read, or one of another kind.
    """
    is_one = isinstance(clips, str | os.PathLike) or getattr(clips, "ndim", 0) == 1
    given: list[Any] = [clips] if is_one else list(clips)  # type: ignore[arg-type]
    if not given:
        raise UserError("no clip is given; give a file, FILE@START-END, a waveform or a vector")
    names: list[str] = []
    vectors: list[np.ndarray] = []
    stretches: list[Stretch | None] = []
    for number, clip in enumerate(given, start=1):
        if isinstance(clip, str | os.PathLike):
            stretch = parse_clip(os.fspath(clip))
            source, windows = model().source, _windows_of_file(stretch, model())
            spans = [Stretch(stretch.file, window.start, window.start + window.seconds) for window in windows]
            names += [f"{one.file}@{one.start:g}-{one.end:g}" for one in spans]
            stretches += spans
        else:
            array = np.asarray(clip)
            if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.floating):
                raise UserError(
                    f"example {number} is an array {array.dtype} {array.shape}; give a vector, float [{width}], or a waveform"
                )
            if len(array) == width:
                names.append(f"vector {number}")
                vectors.append(array.astype(np.float32))
                stretches.append(None)
                continue
            source, windows = model().source, _windows_of_waveform(array, model(), sample_rate)
            names += [f"waveform {number}@{one.start:g}-{one.start + one.seconds:g}" for one in windows]
            stretches += [None] * len(windows)
        vectors += [source.vectors(window.values)[column] for window in windows]
    if len(names) > MOST_EXAMPLES:
        raise UserError(f"the clips are {len(names)} windows, more than {MOST_EXAMPLES}; give stretches of them, FILE@START-END")
    return Examples(names, np.stack(vectors).astype(np.float32), stretches)


def _windows_of_file(stretch: Stretch, model: QueryModel) -> list[Window]:
    recordings = Recordings(np.array([stretch.file], np.dtypes.StringDType()), np.array([stretch.start]), np.array([stretch.end]))
    options = {"batch_size": BATCH, "threads": 1, "on_error": "raise"}
    (row,) = answer_rows(model.source.program, recordings, model.grid, EachWindow(), **options)
    if not row.value:
        raise UserError(f"{stretch.file} holds no sound to search for")
    if stretch.end - row.end > 1 / model.source.program.audio.sample_rate:
        raise UserError(f"{stretch.file} ends at {row.end:g} s, before {stretch.end:g} s; correct the clip")
    return row.value


def _windows_of_waveform(waveform: np.ndarray, model: QueryModel, sample_rate: int | None) -> list[Window]:
    program, grid = model.source.program, model.grid
    rate = program.audio.sample_rate
    sound = waveform.astype(np.float32)
    if not np.isfinite(sound).all():
        raise UserError("the waveform holds NaN or infinite samples; correct it")
    if sample_rate is not None and sample_rate != rate:
        sound = resample(sound, sample_rate, rate)
    window, starts = grid.window_samples(rate), grid.starts(len(sound), rate)
    longest = max(min(window, len(sound)), program.min_samples)

    def batch(numbers: np.ndarray) -> WindowBatch:
        cut = [sound[starts[number] : starts[number] + window] for number in numbers]
        lengths = np.array([len(one) for one in cut], np.int32)
        padded = np.stack([np.pad(one, (0, longest - len(one))) for one in cut])
        finished = (0,) if numbers[-1] == len(starts) - 1 else ()
        row = np.zeros(len(numbers), np.int64)
        return WindowBatch(padded, lengths, row, numbers.astype(np.int32), starts[numbers] / rate, lengths / rate, finished)

    batches = (batch(numbers) for numbers in np.array_split(np.arange(len(starts)), -(-len(starts) // BATCH)))
    (row,) = reduce_rows(run(program, batches), EachWindow())
    return row.value
