"""The table of recordings and labels that every source makes.

A row is a stretch of a file with its labels. Columns are arrays: texts are `numpy.dtypes.StringDType`, labels are numbers into a
list of names. So a million rows take about 150 MB instead of the gigabyte of a list of dictionaries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from beats_jax.audio.recording import AudioError
from beats_jax.config.validation import nearest
from beats_jax.datasets.distinct import Numbered
from beats_jax.errors import UserError

SPLITS = ("train", "val", "test")


def text_column(values: Sequence[str] | np.ndarray) -> np.ndarray:
    """StringDType [N] from texts."""
    return np.array(values, dtype=np.dtypes.StringDType())


@dataclass(frozen=True)
class LabelColumn:
    """The labels of N rows: row i has `names[k]` for k in `ids[offsets[i]:offsets[i + 1]]`."""

    names: tuple[str, ...]  # every label that a row may have, sorted
    ids: np.ndarray  # int32 [sum of labels]
    offsets: np.ndarray  # int64 [N + 1]

    @classmethod
    def from_lists(cls, labels: Sequence[Sequence[str]]) -> LabelColumn:
        """From a list of labels per row; a label repeated within a row counts once."""
        numbered = Numbered()
        codes = numbered.over(map(tuple, labels))
        names = tuple(sorted({name for row in numbered for name in row}))
        return cls.from_codes(names, list(numbered), codes)

    @classmethod
    def from_codes(cls, names: Sequence[str], lists: Sequence[Sequence[str]], codes: np.ndarray) -> LabelColumn:
        """Row i has the labels `lists[codes[i]]`: a million rows have few different lists."""
        place = {name: k for k, name in enumerate(names)}
        rows = [sorted({place[name] for name in row}) for row in lists]
        ids = np.array([k for row in rows for k in row], dtype=np.int32)
        return cls(tuple(names), ids, np.cumsum([0, *map(len, rows)], dtype=np.int64)).take(codes)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[str, ...]:
        return tuple(self.names[k] for k in self.ids_of(row))

    def ids_of(self, row: int) -> np.ndarray:
        """int32 [labels of the row]: places in `names`."""
        row = range(len(self))[row]  # an index past the end raises; a slice would be empty
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: np.ndarray) -> LabelColumn:
        """The labels of the given rows (int [R]), with the same `names`."""
        lengths = self.per_row[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return LabelColumn(self.names, self.ids[np.repeat(self.offsets[:-1][rows], lengths) + inside], offsets)

    @property
    def per_row(self) -> np.ndarray:
        """int64 [N]: how many labels each row has."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """int64 [sum of labels]: the row of each of `ids`."""
        return np.repeat(np.arange(len(self)), self.per_row)

    def counts(self) -> dict[str, int]:
        """Rows per label; labels of no row are left out."""
        number = np.bincount(self.ids, minlength=len(self.names))
        return {name: int(n) for name, n in zip(self.names, number, strict=True) if n}


@dataclass(frozen=True)
class Manifest:
    """Rows of recordings; all columns have the same length N."""

    files: np.ndarray  # StringDType [N], paths
    labels: LabelColumn
    starts: np.ndarray  # float64 [N], seconds; NaN = start of the file
    ends: np.ndarray  # float64 [N], seconds; NaN = end of the file
    splits: np.ndarray  # StringDType [N]: train, val, test or "" (not decided yet)
    groups: np.ndarray  # StringDType [N]: rows of one group stay in one split; "" = the file is its own group
    metadata: Mapping[str, np.ndarray] = field(default_factory=dict)  # [N] each, such as `fold` or `seconds`
    errors: tuple[AudioError, ...] = ()  # files that the source left out; validation lists them with its own
    notes: tuple[str, ...] = ()  # sentences of the source on its data; validation reports them as warnings

    def __post_init__(self) -> None:
        columns = {"labels": self.labels, "starts": self.starts, "ends": self.ends, "splits": self.splits, "groups": self.groups}
        for name, column in {**columns, **self.metadata}.items():
            if len(column) != len(self.files):
                raise ValueError(f"manifest column {name} has {len(column)} rows, files has {len(self.files)}")

    @classmethod
    def from_columns(
        cls,
        files: Sequence[str],
        labels: Sequence[Sequence[str]],
        *,
        starts: Sequence[float] | np.ndarray | None = None,
        ends: Sequence[float] | np.ndarray | None = None,
        splits: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        metadata: Mapping[str, Sequence[str]] | None = None,
        errors: Sequence[AudioError] = (),
        notes: Sequence[str] = (),
    ) -> Manifest:
        """From one item per row; without a column: whole files, no split, each file its own group."""
        unknown, blank = np.full(len(files), np.nan), [""] * len(files)
        return cls(
            files=text_column(files),
            labels=LabelColumn.from_lists(labels),
            starts=unknown if starts is None else np.asarray(starts, np.float64),
            ends=unknown.copy() if ends is None else np.asarray(ends, np.float64),
            splits=text_column(blank if splits is None else splits),
            groups=text_column(blank if groups is None else groups),
            metadata={name: text_column(column) for name, column in (metadata or {}).items()},
            errors=tuple(errors),
            notes=tuple(notes),
        )

    def __len__(self) -> int:
        return len(self.files)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Start and end of every row in its file, float64 [N] seconds, as rows are written and compared.

        The end of a whole file is NaN until validation adds the metadata `seconds`.
        """
        seconds = self.metadata.get("seconds", np.full(len(self), np.nan))
        return np.nan_to_num(self.starts), np.fmin(self.ends, seconds)

    def take(self, rows: np.ndarray | Sequence[int]) -> Manifest:
        """The given rows (int [R], or bool [N]) as a manifest."""
        chosen = np.asarray(rows)
        if chosen.dtype == bool and chosen.all():
            return self  # columns are not changed: a copy of a million rows takes 200 MB
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return Manifest(
            self.files[chosen],
            self.labels.take(chosen),
            self.starts[chosen],
            self.ends[chosen],
            self.splits[chosen],
            self.groups[chosen],
            take_columns(self.metadata, chosen),
            self.errors,
            self.notes,
        )

    def split(self, name: str) -> Manifest:
        """The rows of one split: train, val or test."""
        if name not in SPLITS:
            raise ValueError(f"split {name!r}; there are {SPLITS}")
        return self.take(self.splits == name)

    def with_splits(self, splits: np.ndarray) -> Manifest:
        """The same rows with other splits (texts [N])."""
        return replace(self, splits=text_column(splits))

    def with_notes(self, *notes: str) -> Manifest:
        """The same rows with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def with_metadata(self, **columns: np.ndarray) -> Manifest:
        """The same rows with further metadata columns ([N] each)."""
        return replace(self, metadata={**self.metadata, **columns})


def take_columns(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """These rows of every column; names of one array share one again, as hash and content of files without copies do."""
    taken = {key: column[rows] for key, column in {id(column): column for column in columns.values()}.items()}
    return {name: taken[id(column)] for name, column in columns.items()}


@dataclass(frozen=True)
class LabelVocabulary:
    """The label names in the order of the model's outputs."""

    names: tuple[str, ...]

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> LabelVocabulary:
        """The labels that occur in the rows, sorted."""
        return cls(tuple(sorted(manifest.labels.counts())))

    def __len__(self) -> int:
        return len(self.names)

    def index(self, label: str) -> int:
        """Place of a label. Raises `UserError` naming the nearest known label when it is unknown."""
        if label not in self._places:
            hint = nearest(label, list(self.names))
            raise UserError(f"label {label!r} is not one of the model's {len(self.names)} labels; {hint}")
        return self._places[label]

    def encode(self, labels: Sequence[str], multi_label: bool) -> np.ndarray:
        """The target of the loss for one row: int32 [] (place of its label), or with `multi_label` float32 [C] of zeros and ones.

        Raises:
          UserError: an unknown label; or not exactly one label without `multi_label`.
        """
        places = [self.index(label) for label in labels]
        if multi_label:
            target = np.zeros(len(self.names), np.float32)
            target[places] = 1
            return target
        if len(places) != 1:
            raise UserError(f"a row has {len(places)} labels {list(labels)}; set data.multi_label=True to train on several")
        return np.asarray(places[0], np.int32)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}

    def to_json(self) -> str:
        """JSON text `{"names": [...]}`."""
        return json.dumps({"names": list(self.names)}, ensure_ascii=False, indent=1)
