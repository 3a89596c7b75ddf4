"""The windows that are explored: their vectors, when and where they were recorded, and their labels.

OUTPUT/recordings-HASH/   what `embed` writes, for a folder of audio; the same call again adds recordings that are new
OUTPUT/maps/              places on maps, by the vectors and the settings that they were computed with
OUTPUT/labels.csv         labels given on the page
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from beats_jax.audio.files import search_folder
from beats_jax.audio.recorders.metadata import COLUMNS
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.sources.annotations import locate_recordings
from beats_jax.datasets.tables.cells import decimal
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.maps import Principal, fit_principal, sample_rows
from beats_jax.evaluation.embeddings.neighbours import unit_vectors
from beats_jax.files import require_below
from beats_jax.inference.search.embeddings import LOGITS, Embeddings, open_embeddings
from beats_jax.inference.search.query import open_query_model
from beats_jax.inference.sources import FILTERBANK
from beats_jax.pipelines.embed import EmbedSettings, embed
from beats_jax.pipelines.exploring.known_labels import folder_labels, labels_of_windows, read_labels
from beats_jax.pipelines.exploring.label_table import LABELS_FILE, LabelTable
from beats_jax.pipelines.training.workdir import ERRORS_FILE
from beats_jax.weights.audioset import readable_names

if TYPE_CHECKING:
    import pandas as pd

MOST_SAMPLES = 20_000  # points that a browser draws and a page answers in time
PLACE_COLUMNS = ("file", "start", "end")


@dataclass(frozen=True)
class ExploreSettings:
    """What is explored; see `python -m beats_jax.explore --help`. Texts are "" where they are not given."""

    data: str = ""
    embeddings: str = ""
    model: str = ""
    labels: str = ""
    output: str = "explored"
    column: str = ""
    max_samples: int = MOST_SAMPLES
    seed: int = 0
    embedded: str = ""  # where this call has embedded `data` already

    def __post_init__(self) -> None:
        if not self.data and not self.embeddings:
            raise UserError("there is nothing to explore; give --data FOLDER_OF_AUDIO or --embeddings FOLDER_OF_EMBED")
        if self.max_samples < 1:
            raise UserError(f"--max-samples is {self.max_samples}; it must be 1 or more")
        for name in ("data", "embeddings"):
            if (folder := getattr(self, name)) and not Path(folder).is_dir():
                what = "is a file" if Path(folder).exists() else "does not exist"
                raise UserError(f"--{name} {folder} {what}; give a folder")


class Note(NamedTuple):
    """What is not shown: `kind` is sampled, sampled_recordings, unusable, unreadable or missing."""

    kind: str
    count: int
    detail: str  # an example, or how many there are in all


@dataclass(frozen=True, eq=False)
class Collection:
    """N windows.

    Attributes:
      frame: file, start, end (seconds) and `audio.recorders.metadata.COLUMNS`; index 0 to N-1; what is unknown is None or NaN.
      vectors: float32 [N, D]. labels: of each row, "" = none; of a table or of folders. predictions: the likeliest label of each
        row where the embeddings have logits, else empty. table: where they are from.
      notes: what is not shown, and why.
    """

    settings: ExploreSettings
    frame: pd.DataFrame
    vectors: np.ndarray
    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    table: Embeddings
    notes: tuple[Note, ...]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def output(self) -> Path:
        """The folder of everything that is written."""
        return Path(self.settings.output)

    @cached_property
    def identity(self) -> str:
        """Hash of the vectors, which maps are kept by."""
        return hashlib.sha256(np.ascontiguousarray(self.vectors).data).hexdigest()

    @cached_property
    def principal(self) -> Principal:
        """Principal components of the vectors."""
        return fit_principal(self.vectors, seed=self.settings.seed)

    @cached_property
    def reduced(self) -> np.ndarray:
        """The vectors on them, float32 [N, K]."""
        return self.principal.project(self.vectors)

    @cached_property
    def units(self) -> np.ndarray:
        """The vectors at length 1, float32 [N, D]."""
        return unit_vectors(self.vectors)

    @cached_property
    def names(self) -> list[str]:
        """The name of the file of each row, without its folders."""
        return [os.path.basename(file) for file in self.frame["file"]]

    @cached_property
    def places(self) -> list[tuple[str, str, str]]:
        """file, start and end of each row, as the table of labels has them."""
        rows = zip(*(self.frame[name].tolist() for name in PLACE_COLUMNS), strict=True)
        return [(file, decimal(start), decimal(end)) for file, start, end in rows]

    @cached_property
    def label_table(self) -> LabelTable:
        """The labels given on the page."""
        return LabelTable(self.output / LABELS_FILE)

    def recording(self, row: int) -> Path:
        """The file of a row.

        Raises:
          UserError: it has gone, or lies outside the folder of audio.
        """
        below = Path(self.settings.data) if self.settings.data else None
        return require_below(Path(str(self.frame["file"].iat[row])), below, "--data")

    def window(self, row: int) -> tuple[float, float]:
        """Start and end of a row, in seconds."""
        return float(self.frame["start"].iat[row]), float(self.frame["end"].iat[row])


def open_collection(settings: ExploreSettings) -> Collection:
    """The windows to explore. A folder of audio is embedded first, as far as an earlier call has not done it.

    Raises:
      UserError: no audio, no rows, another model than that of the embeddings, a damaged part of a table, labels that cannot be
        read.
    """
    notes: list[Note] = []
    if settings.embeddings:
        table, wanted = open_embeddings(settings.embeddings), None
        if settings.model:
            open_query_model(table.identity, settings.model, table.folder)
    else:
        table, wanted = _embed(settings, notes)
    frame, vectors, predictions = _read(table, wanted, settings, notes)
    if settings.embeddings and settings.data:
        frame["file"] = _moved(frame["file"].tolist(), Path(settings.data))
    frame["file"] = [os.path.abspath(name) for name in frame["file"]]
    gone = [name for name in dict.fromkeys(frame["file"]) if not os.path.isfile(name)]
    if gone:
        notes.append(Note("missing", len(gone), gone[0]))
    events = read_labels(settings.labels, settings.data) if settings.labels else folder_labels(settings.data)
    labels = labels_of_windows(events, *(frame[name].tolist() for name in PLACE_COLUMNS))
    return Collection(settings, frame, vectors, tuple(labels), predictions, table, tuple(notes))


def _embed(settings: ExploreSettings, notes: list[Note]) -> tuple[Embeddings, set[str]]:
    """The table of a folder of audio, and the recordings of it that are asked for."""
    root = os.path.abspath(settings.data)
    found = search_folder(root)
    if not found.paths:
        raise UserError("; ".join([f"--data {settings.data} holds no recordings", *found.notes]))
    rows = sample_rows(len(found.paths), settings.max_samples, settings.seed)  # each has a window at least
    if len(rows) < len(found.paths):
        notes.append(Note("sampled_recordings", len(rows), str(len(found.paths))))
    names = [str(found.paths[row]) for row in rows]
    model = settings.model or FILTERBANK
    place = os.path.abspath(model) if os.path.exists(model) else model
    folder = Path(settings.output) / f"recordings-{hashlib.sha256(f'{root} {place}'.encode()).hexdigest()[:8]}"
    if settings.embedded != str(folder):
        embed(EmbedSettings(tuple(names), model=model), folder, strict=False, command=f"explore --data {root}")
    unreadable = [*ErrorLog(folder / ERRORS_FILE).rows(), *((str(error.path), error.reason) for error in found.errors)]
    if unreadable:
        file, reason = unreadable[0]
        notes.append(Note("unreadable", len({name for name, _ in unreadable}), f"{file}: {reason}"))
    return open_embeddings(folder), set(names)


def _read(
    table: Embeddings, wanted: set[str] | None, settings: ExploreSettings, notes: list[Note]
) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """Places, vectors and predictions of the rows that are shown, not more of them in memory."""
    column, rows = table.require_column(settings.column or None), np.arange(len(table))
    if wanted is not None:
        rows = rows[[name in wanted for name in table.places(rows)["file"].to_pylist()]]
    if not len(rows):
        raise UserError(f"{table.folder} holds no rows of these recordings; look into its errors.csv")
    chosen = rows[sample_rows(len(rows), settings.max_samples, settings.seed)]
    if len(chosen) < len(rows):
        notes.append(Note("sampled", len(chosen), str(len(rows))))
    vectors = _take(table, column, table.columns[column], chosen)
    likeliest = _take(table, LOGITS, len(table.labels), chosen).argmax(axis=1) if table.labels else np.zeros(0, np.int64)
    frame, usable = table.places(chosen).to_pandas(), np.isfinite(vectors).all(axis=1)
    if not usable.any():
        raise UserError(f"{table.folder} holds no finite vector; embed the recordings anew")
    if not usable.all():
        notes.append(Note("unusable", int((~usable).sum()), str(frame["file"][~usable].iat[0])))
        frame, vectors = frame[usable].reset_index(drop=True), vectors[usable]
        likeliest = likeliest[usable] if table.labels else likeliest
    names = readable_names(table.labels[row] for row in likeliest.tolist())
    return _with_recorder_columns(frame), vectors, tuple(names)


def _take(table: Embeddings, column: str, width: int, rows: np.ndarray) -> np.ndarray:
    """Some vectors of a column, float32 [R, width]; rows in order."""
    vectors, seen = np.empty((len(rows), width), np.float32), 0
    for part in table.read_vectors(column):
        first, last = np.searchsorted(rows, (seen, seen + len(part)))
        vectors[first:last] = part[rows[first:last] - seen]
        seen += len(part)
    return vectors


def _moved(names: list[str], root: Path) -> list[str]:
    """The files of a table below `root`: by their folders below what all have in common, else by their names alone."""
    absolute = {name: os.path.abspath(name) for name in names}
    common = os.path.commonpath({os.path.dirname(path) for path in absolute.values()})
    places = {name: os.path.relpath(path, common) for name, path in absolute.items()}
    found = locate_recordings(list(dict.fromkeys(places.values())), root)
    return [found[places[name]] for name in names]


def _with_recorder_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The places with all columns of `COLUMNS`; unknown texts are None, unknown numbers NaN."""
    import pandas as pd

    columns: dict[str, pd.Series] = {name: pd.Series(frame[name].tolist()) for name in PLACE_COLUMNS}
    for name, kind in COLUMNS.items():
        values = frame[name].tolist() if name in frame else [None] * len(frame)
        texts = [value if isinstance(value, str) else None for value in values]  # pandas has NaN for a missing text
        columns[name] = pd.Series(texts, dtype=object) if kind is str else pd.Series(values, dtype=np.float64)
    return pd.DataFrame(columns)
