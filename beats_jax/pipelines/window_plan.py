"""What a job over recordings has to do: which recordings there are, each once, and which are on disk already."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.audio.files import some
from beats_jax.errors import UserError
from beats_jax.inference.job import header_seconds
from beats_jax.inference.store import UNKNOWN_SIZE, finished_paths, finished_sizes, finished_times, forget
from beats_jax.inference.tables import recordings_of

HEADER_THREADS = 8


@dataclass(frozen=True)
class Plan:
    """What lies ahead.

    Attributes:
      names: of the recordings, N. sizes: their bytes, `UNKNOWN_SIZE` where nobody knows. seconds: float64 [N], as their headers
        state; 0 = unknown. done: rows that are on disk already.
    """

    names: list[str]
    sizes: list[int]
    seconds: np.ndarray
    done: frozenset[int]

    @property
    def seconds_left(self) -> float:
        """Seconds of sound still to compute, on all processes."""
        return float(sum(self.seconds[row] for row in range(len(self.names)) if row not in self.done))


def find_recordings(inputs: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The recordings of all inputs, each once, and why others are left out."""
    names: dict[str, None] = {}
    left_out: dict[str, str] = {}
    for given in inputs:
        if not Path(given).exists():
            raise UserError(f"--input {given} does not exist")
        found, rest = recordings_of(given)
        names |= dict.fromkeys(found)
        left_out |= rest["errors"]
        for note in rest["notes"]:
            print(note, flush=True)
    for name in [name for name in names if not _is_text(name)]:
        del names[name]
        left_out[name] = "its name is not UTF-8, and no table can hold it; rename the file"
    return _each_once(names), left_out


def _each_once(names: Iterable[str]) -> list[str]:
    """The first name of each recording: inputs may overlap, by other spellings and links."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(os.path.realpath(name), name)
    kept = list(first.values())
    if repeats := [name for name in names if first[os.path.realpath(name)] != name]:
        print(f"{len(repeats)} recordings are given under two names and count once: {some(repeats)}", flush=True)
    return kept


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def make_plan(names: list[str], folder: Path, done_word: str) -> Plan:
    """What is to do. Recordings that have grown since they were read are taken out of `folder`, to be read anew.

    Times of files decide nothing: copying changes them, and so does a change to summer time on a card's file system. A recording
    of equal size that was written after its rows is named.

    Args:
      done_word: what became of the others, such as "embedded".
    Raises:
      UserError: a relative name led to another recording when `folder` took it; two would be one.
    """
    if names:
        print(f"reading the headers of {len(names)} recordings ...", flush=True)
    sizes, done = [file_size(name) for name in names], finished_sizes(folder)
    known_as = _known_as(names, finished_paths(folder), done_word)
    held = [known_as.get(name, name) for name in names]  # under which `folder` may hold them
    pairs = [(name, size, done[name]) for name, size in zip(held, sizes, strict=True) if name in done]
    grown = [name for name, size, then in pairs if UNKNOWN_SIZE < then < size]
    if grown:
        print(f"{len(grown)} recordings have grown since they were {done_word}, and are read again: {some(grown)}", flush=True)
        forget(folder, set(grown))
    if shrunk := [name for name, size, then in pairs if UNKNOWN_SIZE < size < then]:
        print(f"warning: {len(shrunk)} recordings are smaller than when they were {done_word}; their rows stay: {some(shrunk)}")
    times = finished_times(folder)
    equal = [name for name, size, then in pairs if size == then]
    if later := [name for name in equal if name in times and changed_at(name) > times[name]]:
        print(f"warning: {len(later)} recordings have a later time than their rows and the same size: {some(later)}")
        print("  their rows stay; if they are no copies and sound otherwise, give another --output", flush=True)
    kept = done.keys() - set(grown)
    return Plan(names, sizes, header_lengths(names), frozenset(row for row, name in enumerate(held) if name in kept))


def _known_as(names: Sequence[str], paths: Mapping[str, str], done_word: str) -> dict[str, str]:
    """name → another name of the same recording, under which its rows are on disk.

    Raises:
      UserError: one of `names` leads to another file than when its rows were written, and that file is still there.
    """
    by_path = {os.path.realpath(path): name for name, path in paths.items()}
    found = {}
    for name in names:
        then = paths.get(name, "")
        if then and os.path.exists(then) and os.path.exists(name) and not os.path.samefile(then, name):
            raise UserError(
                f"{name} was {done_word} from {then}, and is another file here; give whole paths, or another --output"
            )
        if (known := by_path.get(os.path.realpath(name), name)) != name:
            found[name] = known
    if found:
        name, known = next(iter(found.items()))
        print(f"{len(found)} recordings are {done_word} under other names, such as {known} for {name}", flush=True)
    return found


def file_size(name: str) -> int:
    """Bytes of a file; `UNKNOWN_SIZE` where it cannot be asked."""
    try:
        return os.stat(name).st_size
    except OSError:
        return UNKNOWN_SIZE


def changed_at(name: str) -> float:
    """When a file was last written, seconds since 1970; 0 where it cannot be asked."""
    try:
        return os.stat(name).st_mtime
    except OSError:
        return 0.0


def header_lengths(names: Sequence[str]) -> np.ndarray:
    """float64 [N], seconds of recordings by their headers; 0 = unknown."""
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        return np.array(list(pool.map(header_seconds, names)), np.float64)
