"""Examples of the sounds to find: clips in a folder for each class, clips of one class, or events of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.audio.files import search_folder, some
from beats_jax.audio.io import AudioError, audio_info, read
from beats_jax.config import AudioConfig
from beats_jax.datasets.sources.annotations import LENGTH_SLACK, locate_recordings
from beats_jax.datasets.tables.registry import read_events
from beats_jax.errors import UserError

MOST = 200  # examples of a class: "a few"; with more, a probe or a run learns more from them


@dataclass(frozen=True)
class Example:
    """A stretch of a file, in seconds."""

    file: Path
    start: float
    end: float
    label: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


def find_examples(source: Path, inputs: Sequence[str] = ()) -> list[Example]:
    """The examples in a folder or a table, sorted by label, file and time.

    Args:
      source: a folder of class folders, a folder of clips (one class with the folder's name), or a table of events.
      inputs: folders below which the recordings of a table are looked for by name, where they are not beside it.
    Raises:
      UserError: nothing is there, clips beside class folders, a clip or recording that cannot be read, or too many.
    """
    if not source.exists():
        raise UserError(f"--examples {source} does not exist; give a folder of clips, or a table of events")
    found = _in_folder(source) if source.is_dir() else _in_table(source, inputs)
    for label in {example.label for example in found}:
        number = sum(example.label == label for example in found)
        if number > MOST:
            raise UserError(f"{source} has {number} examples of {label!r}; above {MOST} train a run, or give evaluate --probe")
    return sorted(found, key=lambda example: (example.label, str(example.file), example.start))


def find_clips(folder: Path) -> list[Path]:
    """The recordings in a folder. Raises `UserError` where there are none, or one cannot be used."""
    listing = search_folder(folder)
    if listing.errors:
        raise UserError(f"{listing.errors[0].path}: {listing.errors[0].reason}; repair it, or remove it from {folder}")
    if not listing.paths:
        raise UserError(f"{folder} holds no recordings; give a folder with a few clips")
    return listing.paths


def _in_folder(folder: Path) -> list[Example]:
    clips = find_clips(folder)
    direct = [clip for clip in clips if clip.parent == folder]
    if direct and len(direct) < len(clips):
        raise UserError(f"{folder} holds clips ({some([clip.name for clip in direct])}) beside class folders; put them into one")
    name = folder.resolve().name
    return [whole_clip(clip, name if direct else clip.relative_to(folder).parts[0]) for clip in clips]


def _in_table(table: Path, inputs: Sequence[str]) -> list[Example]:
    events = read_events(table).distinct()  # each is judged by the others, of which none may be itself
    if not len(events):
        raise UserError(f"{table} holds no events; give one row an example: file, start, end, label")
    found = []
    columns = (events.files.tolist(), events.starts.tolist(), events.ends.tolist(), events.labels.tolist())
    for file, start, end, label in zip(*columns, strict=True):
        path = next((place for place in (Path(file), table.parent / file) if place.is_file()), None)
        path = path or _below(file, inputs)
        if path is None:
            raise UserError(f"{table} names {file}, which is neither there, nor in {table.parent}, nor below --input; correct it")
        if not label or end <= start:
            raise UserError(f"{table} has an event in {file} at {start:g} s without a {'length' if label else 'label'}")
        if end > (seconds := whole_clip(path).end) + LENGTH_SLACK:
            raise UserError(f"{table} has an event in {file} until {end:g} s, and {path} ends at {seconds:g} s; correct it")
        found.append(Example(path, start, end, label))
    return found


def _below(file: str, inputs: Sequence[str]) -> Path | None:
    """The recording of that name below one of some folders."""
    located = (Path(locate_recordings([file], Path(folder))[file]) for folder in inputs if Path(folder).is_dir())
    return next((path for path in located if path.is_file()), None)


def whole_clip(clip: Path, label: str = "") -> Example:
    """A clip as an example. Raises `UserError` where it cannot be read."""
    try:
        return Example(clip, 0.0, audio_info(clip).seconds, label)
    except AudioError as error:
        raise UserError(f"{clip}: {error.reason}; repair it, or remove it from the examples") from error


def read_example(example: Example, audio: AudioConfig, around: float = 0.0) -> np.ndarray:
    """The waveform, float32 [samples], with up to `around` seconds more of its file on both sides.

    Raises:
      UserError: it cannot be read.
    """
    first = max(0.0, example.start - around)
    stretch = {"start_seconds": first, "seconds": example.end + around - first}
    try:
        return read(example.file, sample_rate=audio.sample_rate, channel=audio.channel, **stretch)
    except AudioError as error:
        raise UserError(f"{example.file}: {error.reason}; repair it, or remove it from the examples") from error


def lowest_rate(files: Sequence[Path | str]) -> int:
    """The lowest sample rate of some recordings in Hz; those that cannot be opened do not count.

    Raises:
      UserError: none can be opened.
    """
    rates = set()
    for file in files:
        try:
            rates.add(audio_info(file).sample_rate)
        except (AudioError, OSError):
            continue  # listed when it is read
    if not rates:
        raise UserError(f"none of {some([str(file) for file in files])} can be opened")
    return min(rates)
