"""Opens what `embed` wrote: a table of vectors in Parquet shards, of any size, and the search for the rows nearest to a sound.

DIR/embeddings/part-*.parquet ─ read part by part ─> places (file, start, end, what the recorder wrote) | vectors ─> devices
clips ─ the very model, windows and layer that the table records ─> examples ─ inference.nearest ─> rows, best first
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.config.rules import require, require_one_of
from beats_jax.config.validation import nearest
from beats_jax.errors import UserError, warn
from beats_jax.inference.hoplite.schema import SQLITE_FILE
from beats_jax.inference.search.nearest import METRICS, Block, Nearest, device_blocks, nearest_rows
from beats_jax.inference.search.parts import open_parts, read_part, read_places, read_vectors, vector_columns
from beats_jax.inference.store import JOB_FILE, differences
from beats_jax.json_files import read_json
from beats_jax.parallel.mesh import make_mesh

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from beats_jax.inference.search.query import Clip, Examples, QueryModel

RECORD, FOLDER = "embed.json", "embeddings"
SPARE = 10  # times as many rows are asked for where some of them may not be wanted
LOGITS = "logits"  # a column of vectors that is none of embeddings


@dataclass(frozen=True)
class Matches:
    """R rows of the table, best first.

    Attributes:
      table: of R rows: file, start, end and what the recorder wrote. rows: int64 [R], their numbers. scores: float32 [R].
      examples: int64 [R], the nearest example of each. is_example: bool [R], overlaps an example in its own recording.
      unusable: rows of the whole table without a score (`nearest.Nearest`).
    """

    table: pa.Table
    rows: np.ndarray
    scores: np.ndarray
    examples: np.ndarray
    is_example: np.ndarray
    unusable: int

    def to_pandas(self, names: Sequence[str]) -> pd.DataFrame:
        """file, start, end, score, like (the name of the nearest example, of `names`), what the recorder wrote."""
        frame = self.table.to_pandas()
        frame.insert(3, "score", self.scores.astype(np.float64))
        frame.insert(4, "like", [names[number] for number in self.examples.tolist()])
        frame.attrs["unusable"] = self.unusable
        return frame


class Embeddings:
    """A table of embeddings on disk, with the rows that were there when it was opened. Made by `open_embeddings`.

    Attributes:
      folder: of the shards. identity: model, front-end, windows and columns. record: `embed.json`; the identity where there is
        none. columns: name → length of its vectors. labels: of the column `logits`, where there is one. parts: the shards.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], record: dict[str, Any]) -> None:
        self.folder, self.identity, self.record = folder, identity, record
        self.labels = tuple(record.get("labels", ()))
        self.parts, self._schema = open_parts(folder, identity)
        self._vectors = vector_columns(self._schema)
        self.columns = {name: width for name, (width, _) in self._vectors.items() if name != LOGITS}
        if self.parts and not self.columns:
            raise UserError(f"{folder} holds a table without vectors; give the --output of python -m beats_jax.embed")
        self._loaded: dict[str, list[Block]] = {}
        self._models: dict[str, QueryModel] = {}

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    def __repr__(self) -> str:
        model = self.identity["model"]
        family = model["family"] if isinstance(model, dict) else model
        columns = ", ".join(f"{name} [{width}]" for name, width in self.columns.items()) or "no vectors yet"
        return f"<{len(self)} windows of {self.window_seconds:g} s in {self.folder}: {columns}, from {self._origin or family}>"

    @property
    def window_seconds(self) -> float:
        """Length of a window."""
        return float(self.identity["grid"]["window_seconds"])

    @property
    def _origin(self) -> str:
        return str(self.record.get("loaded_from") or self.record.get("source") or "")

    @cached_property
    def mesh(self) -> Any:
        """The devices that share the rows."""
        return make_mesh()

    def to_pandas(self) -> pd.DataFrame:
        """The whole table, vectors and all. Raises `UserError` where a part is damaged."""
        import pyarrow as pa

        if self._schema is None:
            return pa.table({"file": pa.array([], pa.string()), "start": pa.array([], pa.float64())}).to_pandas()
        return pa.concat_tables([read_part(part) for part in self.parts]).to_pandas()

    def vectors(self, column: str | None = None) -> np.ndarray:
        """The vectors of a column in the order of `to_pandas`, float32 or float16 [N, D] as they are kept."""
        column = self.require_column(column)
        matrix = np.empty((len(self), self.columns[column]), self._vectors[column][1])
        filled = 0
        for part in self.read_vectors(column):
            matrix[filled : filled + len(part)] = part
            filled += len(part)
        return matrix

    def load(self, column: str | None = None) -> Embeddings:
        """Keeps the vectors of a column on the devices, so that searches do not read the disk again; returns itself."""
        column = self.require_column(column)
        if column not in self._loaded:
            self._loaded[column] = list(device_blocks(self.read_vectors(column), self.mesh))
        return self

    def search(
        self,
        clip: Clip | Sequence[Clip],
        k: int = 50,
        *,
        unlike: Sequence[Clip] = (),
        metric: str = "cosine",
        column: str | None = None,
        apart: float = 0.0,
        leave_out_examples: bool = False,
        approximate: bool = False,
        sample_rate: int | None = None,
        model: str | Path | None = None,
    ) -> pd.DataFrame:
        """The k windows that are most like a clip.

        The score of a window is its largest similarity to an example, less its largest similarity to one of `unlike`. A clip
        longer than a window of the table is cut as recordings are, and each of its windows is an example.

        Args:
          clip: a file, "file@start-end" (seconds), a waveform (float [samples]) or a vector (float [D]); or a list of these.
          unlike: counter-examples, given likewise.
          metric: cosine, dot (inner product) or euclidean (the distance, negative).
          column: where the table has several, the one to search.
          apart: seconds between the starts of two results of one recording, at least.
          leave_out_examples: without windows that overlap an example in its own recording; else they lead.
          approximate: by an index (`inference.approximate`), which is built beside the parts where it is missing.
          sample_rate: of waveforms in Hz; None = the model's. model: its place, where it has moved since `embed`.
        Returns:
          columns file, start, end, score, like (which example is nearest) and what the recorder wrote; `attrs["unusable"]`
          counts rows that have no score, because a value is not finite (or, for cosine, all are 0).
        Raises:
          UserError: no rows, a clip that cannot be read, another model than the table's, a damaged part, an unknown column.
        """
        column = self.require_column(column)
        examples = self.examples(clip, column, sample_rate=sample_rate, model=model)
        others = self.examples(unlike, column, sample_rate=sample_rate, model=model) if len(unlike) else None
        found = self.find(
            examples,
            others,
            k,
            metric=metric,
            column=column,
            apart=apart,
            leave_out_examples=leave_out_examples,
            approximate=approximate,
        )
        if found.unusable:
            warn(f"{found.unusable} rows of {self.folder} have no usable vector and are left out")
        return found.to_pandas(examples.names)

    def examples(
        self,
        clips: Clip | Sequence[Clip],
        column: str | None = None,
        *,
        sample_rate: int | None = None,
        model: str | Path | None = None,
    ) -> Examples:
        """Vectors of clips, by the model and the windows of this table; arguments and errors as in `search`."""
        from beats_jax.inference.search.query import open_query_model, read_examples

        name = str(model or self.record.get("loaded_from") or "")

        def opened() -> QueryModel:
            if name not in self._models:
                self._models[name] = open_query_model(self.identity, name, self.folder)
            return self._models[name]

        column = self.require_column(column)
        return read_examples(clips, column, self.columns[column], opened, sample_rate)

    def find(
        self,
        examples: Examples,
        counter_examples: Examples | None,
        k: int,
        *,
        metric: str = "cosine",
        column: str | None = None,
        apart: float = 0.0,
        leave_out_examples: bool = False,
        approximate: bool = False,
    ) -> Matches:
        """`search` for examples that have been embedded."""
        column = self.require_column(column)
        require_one_of("metric", metric, METRICS)
        require(k >= 1, f"the number of results is {k}; it must be 1 or more")
        require(0 <= apart < float("inf"), f"apart is {apart} s; it must be 0 or more")
        if not len(self):
            raise UserError(f"{self.folder} holds no rows yet; wait until `embed` has written some")
        asked = min(len(self), SPARE * k if apart or leave_out_examples else k)
        while True:
            found = self._nearest(examples, counter_examples, asked, metric, column, approximate)
            table = self.places(found.rows[0])
            is_example = examples.overlaps(table)
            chosen = np.array(_choose(table, is_example, k, apart, leave_out_examples), np.int64)
            if len(chosen) >= k or asked >= len(self) or len(found.rows[0]) < asked:
                rows, scores, nearest_examples = found.rows[0][chosen], found.scores[0][chosen], found.examples[0][chosen]
                return Matches(table.take(chosen), rows, scores, nearest_examples, is_example[chosen], found.unusable)
            asked = min(len(self), SPARE * asked)

    def _nearest(
        self, examples: Examples, others: Examples | None, k: int, metric: str, column: str, approximate: bool
    ) -> Nearest:
        positive = examples.vectors
        negative = np.zeros((0, positive.shape[1]), np.float32) if others is None else others.vectors
        for name, vectors in zip([*examples.names, *(others.names if others else ())], [*positive, *negative], strict=True):
            if not np.isfinite(vectors).all() or (metric == "cosine" and not vectors.any()):
                raise UserError(f"{name} has no usable vector (not finite, or all 0); give another clip")
        if approximate:
            from beats_jax.inference.search.approximate import approximate_rows

            return approximate_rows(self, column, positive, negative, k, metric)
        blocks = self._loaded.get(column) or device_blocks(self.read_vectors(column), self.mesh)
        return nearest_rows(blocks, positive[None], negative[None], k, metric, self.mesh)

    def require_column(self, column: str | None) -> str:
        """The column to search. Raises `UserError` for an unknown one, or none named where there are several."""
        if not self.columns:
            raise UserError(f"{self.folder} holds no rows yet; wait until `embed` has written some")
        if column is None:
            if len(self.columns) > 1:
                raise UserError(f"{self.folder} has several columns of vectors; name one of {', '.join(self.columns)}")
            return next(iter(self.columns))
        if column not in self.columns:
            raise UserError(f"{self.folder} has no column {column!r} of vectors; {nearest(column, list(self.columns))}")
        return column

    def read_vectors(self, column: str) -> Iterator[np.ndarray]:
        """The vectors of a column in order, some thousand rows at a time, float [n, D]; see `parts.read_vectors`."""
        from tqdm import tqdm

        with tqdm(total=len(self), desc="reading", unit=" rows", delay=2, leave=False, disable=None) as bar:  # on a terminal
            for vectors in read_vectors(self.parts, column):
                yield vectors
                bar.update(len(vectors))

    def places(self, rows: np.ndarray) -> pa.Table:
        """file, start, end and what the recorder wrote of the given rows (int64 [R], by number), in their order."""
        assert self._schema is not None
        return read_places(self.parts, self._schema, rows)


def _choose(table: pa.Table, is_example: np.ndarray, k: int, apart: float, leave_out_examples: bool) -> list[int]:
    """The first k rows that are wanted, each `apart` seconds or more from all better ones of its recording."""
    taken: dict[str, list[float]] = {}
    chosen: list[int] = []
    for row, (file, start) in enumerate(zip(table["file"].to_pylist(), table["start"].to_pylist(), strict=True)):
        if len(chosen) == k:
            break
        near = apart > 0 and any(abs(start - other) < apart for other in taken.get(file, ()))
        if not near and not (leave_out_examples and is_example[row]):
            chosen.append(row)
            taken.setdefault(file, []).append(start)
    return chosen


def open_embeddings(folder: str | os.PathLike[str]) -> Embeddings:
    """Opens the output of `python -m beats_jax.embed`, also while it is being written: with the rows that are there now.

    Args:
      folder: the output, or the folder of the parts in it (also that of `Model.embed_files(output=)`), or a Perch-Hoplite
        database, which is read into memory; clips are embedded for one that `embed --hoplite` wrote, others take vectors.
    Raises:
      UserError: it holds no embeddings, a part is damaged, of another job or of other columns, or `embed.json` is of another job.
    """
    given = Path(folder)
    if (given / SQLITE_FILE).is_file():
        from beats_jax.inference.hoplite.table import HopliteEmbeddings

        return HopliteEmbeddings(given)
    place = next((one for one in (given / FOLDER, given) if (one / JOB_FILE).is_file()), None)
    if place is None:
        what = "holds no embeddings" if given.is_dir() else "is no folder" if given.exists() else "does not exist"
        raise UserError(f"{given} {what}; give the --output of python -m beats_jax.embed")
    remedy = "restore it from a copy, or embed the recordings anew"
    identity = read_json(
        place / JOB_FILE, {"model": (str, dict), "audio": dict, "grid": {"window_seconds": float}}, remedy=remedy
    )
    described = place.parent / RECORD
    record = dict(identity)
    if place.name == FOLDER and described.is_file():
        record = read_json(described, {"labels": [str]}, remedy=remedy)
        stated = {name: record.get(name) for name in identity}
        if changes := differences(identity, json.loads(json.dumps(stated))):
            raise UserError(
                f"{described} describes another job than {place / JOB_FILE}: {changes}; restore the one that is wrong"
            )
    return Embeddings(place, identity, record)
