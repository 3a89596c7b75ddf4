"""Searches a table of embeddings for sounds like a clip; prints the best, writes a table of them, and clips to listen to."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.audio.files import some
from beats_jax.audio.io import AudioError, audio_info, read, write_wav
from beats_jax.config.rules import require, require_one_of
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.tables.registry import Events, table_kind, write_events
from beats_jax.errors import UserError
from beats_jax.files import cannot_write, whole_file, write_text
from beats_jax.inference.job import header_seconds
from beats_jax.inference.search.embeddings import Embeddings, Matches, open_embeddings
from beats_jax.inference.search.nearest import METRICS
from beats_jax.spreadsheets import safe_cell

if TYPE_CHECKING:
    import pandas as pd

TABLE, ERRORS = "matches.csv", "errors.csv"
SHOWN = 10
MANY_ROWS = 5_000_000  # an exact search of so many reads 8 to 15 GB
_UNSAFE = re.compile(r"[^\w.-]+")
STEM_BYTES = 120


@dataclass(frozen=True)
class SearchSettings:
    """What is searched for, and where; see `python -m beats_jax.search --help`.

    Raises:
      UserError: a number out of its range, an unknown metric or kind of table.
    """

    embeddings: str
    like: tuple[str, ...]
    unlike: tuple[str, ...] = ()
    top: int = 50
    metric: str = "cosine"
    column: str | None = None
    apart: float = 0.0
    leave_out_examples: bool = False
    approximate: bool = False
    model: str | None = None
    formats: tuple[str, ...] = ("csv",)
    label: str = "match"
    context: float = 0.0

    def __post_init__(self) -> None:
        require_one_of("metric", self.metric, METRICS)
        require(self.top >= 1, f"--top is {self.top}; it must be 1 or more")
        for name in ("apart", "context"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"--{name} is {value}; it must be 0 or more seconds")
        require(bool(self.label.strip()), "--label is blank; give the results a name")
        for kind in self.formats:
            table_kind(kind)


def search(settings: SearchSettings, output: Path | None, clips: Path | None) -> None:
    """Prints the windows that are most like the examples, best first, and writes what is asked for.

    Args:
      output: a folder for the tables, or a .csv or .parquet file; None = the results are only printed.
      clips: folder for a WAV of each result.
    Raises:
      UserError: an output that exists, no rows, a clip that cannot be read, or another model than that of the embeddings.
    """
    _refuse_existing(settings, output, clips)
    table = open_embeddings(settings.embeddings)
    print(table, flush=True)
    column = table.require_column(settings.column)
    examples = table.examples(settings.like, column, model=settings.model)
    others = table.examples(settings.unlike, column, model=settings.model) if settings.unlike else None
    print(f"like {some(examples.names)}" + (f"; unlike {some(others.names)}" if others else ""), flush=True)
    _announce(table, settings.approximate)
    begun = time.perf_counter()
    found = table.find(
        examples,
        others,
        settings.top,
        metric=settings.metric,
        column=column,
        apart=settings.apart,
        leave_out_examples=settings.leave_out_examples,
        approximate=settings.approximate,
    )
    print(f"{len(table)} windows searched in {time.perf_counter() - begun:.2f} s", flush=True)
    if found.unusable:
        print(f"warning: {found.unusable} windows have no usable vector (not finite, or all 0) and are left out", flush=True)
    frame = found.to_pandas(examples.names)
    frame.insert(3, "label", settings.label)
    _show(frame, found, len(frame) if output is None else SHOWN)
    if output is not None:
        _write(frame, settings, output)
    if clips is not None:
        _write_clips(frame, settings.context, clips)


def _announce(table: Embeddings, approximate: bool) -> None:
    if approximate:
        print("looking for the index of these windows, which is built where it is missing ...", flush=True)
    elif len(table) >= MANY_ROWS:
        print(
            f"all {len(table)} windows are read from the disk; --approximate builds an index once, then takes seconds", flush=True
        )


def _show(frame: pd.DataFrame, found: Matches, count: int) -> None:
    width = max([len(file) for file in frame.file[:count]], default=4)
    several = frame.like.nunique() > 1
    columns = zip(frame.score, frame.file, frame.start, frame.end, frame.like, found.is_example.tolist(), strict=True)
    for score, file, start, end, like, is_example in islice(columns, count):
        note = (f"  like {like}" if several else "") + ("  (overlaps an example)" if is_example else "")
        print(f"{score:9.5f}  {file:{width}}  {start:9.2f} {end:9.2f}{note}")
    if len(frame) > count:
        print(f"... and {len(frame) - count} more")


def _refuse_existing(settings: SearchSettings, output: Path | None, clips: Path | None) -> None:
    """Checked before anything is computed."""
    if output is not None:
        if output.suffix.lower() in (".csv", ".parquet") and not output.is_dir():
            require(settings.formats == ("csv",), f"--output {output} is a file; --format needs a folder")
            taken = [output]
        else:
            taken = [output] if output.is_file() else sorted(output.iterdir()) if output.is_dir() else []
        if any(path.exists() for path in taken):
            raise UserError(f"--output {output} exists already, with {taken[0].name}; give another one, or remove it")
    if clips is not None and (clips.is_file() or (clips.is_dir() and any(clips.iterdir()))):
        raise UserError(f"--clips {clips} exists already and is not empty; give another folder, or remove it")


def _write(frame: pd.DataFrame, settings: SearchSettings, output: Path) -> None:
    suffix = output.suffix.lower()
    if suffix in (".csv", ".parquet"):
        written = [write_table(frame, output)]
    else:
        written = [write_table(frame, output / TABLE)] if "csv" in settings.formats else []
        kinds = [kind for kind in settings.formats if kind != "csv"]
        written += write_events(Events.from_pandas(frame), output, kinds, _lengths(frame) if kinds else {})
    print(
        f"{len(frame)} results in {', '.join(map(str, written[:SHOWN]))}" + (" ..." if len(written) > SHOWN else ""), flush=True
    )


def _lengths(frame: pd.DataFrame) -> dict[str, float]:
    """Seconds of each recording, for tables whose time runs on over all of them."""
    ends = frame.groupby("file", sort=False).end.max()
    lengths = {str(file): header_seconds(str(file)) for file in ends.index}
    gone = [file for file, seconds in lengths.items() if not seconds]
    if gone:
        print(
            f"warning: {len(gone)} recordings cannot be opened, such as {gone[0]}; tables count them as long as their last result"
        )
    return {file: seconds or float(ends[file]) for file, seconds in lengths.items()}


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """All columns, as CSV without cells that a spreadsheet would run, or as Parquet."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    if path.suffix.lower() == ".parquet":
        with whole_file(path) as file:
            frame.to_parquet(file, index=False)
    else:
        cells = frame.map(lambda cell: safe_cell(cell) if isinstance(cell, str) else cell)
        write_text(path, cells.to_csv(index=False, lineterminator="\n"))
    return path


def _write_clips(frame: pd.DataFrame, context: float, folder: Path) -> None:
    """A WAV of each result with `context` seconds at both ends, at its recording's own rate, named as BirdNET's are."""
    errors = ErrorLog(folder / ERRORS)
    names = clip_names(frame.score.tolist(), frame.file.tolist(), frame.start.tolist(), frame.end.tolist())
    written = 0
    for name, file, start, end in zip(names, frame.file, frame.start, frame.end, strict=True):
        first = max(0.0, start - context)
        try:
            rate = audio_info(file).sample_rate
            sound = read(file, sample_rate=rate, start_seconds=first, seconds=end + context - first)
        except AudioError as error:
            errors.add(file, error.reason)
            continue
        except OSError as error:
            errors.add(file, f"cannot be read: {error}")
            continue
        write_wav(folder / name, np.clip(sound, -1, 1), rate)
        written += 1
    listed = len(errors.rows())
    lost = f"; {listed} recordings that cannot be read are listed in {errors.path}" if listed else ""
    print(f"{written} clips in {folder}{lost}", flush=True)


def clip_names(scores: Sequence[float], files: Sequence[str], starts: Sequence[float], ends: Sequence[float]) -> list[str]:
    """`{score:.5f}_{stem}_{start}_{end}.wav` of each result, all different, without characters that a disk or a shell minds."""
    names: list[str] = []
    taken: set[str] = set()
    for score, file, start, end in zip(scores, files, starts, ends, strict=True):
        stem = _UNSAFE.sub("_", re.split(r"[/\\]", file)[-1].rpartition(".")[0] or Path(file).name)
        stem = stem.encode("utf-8", "ignore")[:STEM_BYTES].decode("utf-8", "ignore")
        base = f"{score:.5f}_{stem}_{start}_{end}"
        name, number = base, 2
        while name.casefold() in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name.casefold())
        names.append(f"{name}.wav")
    return names
