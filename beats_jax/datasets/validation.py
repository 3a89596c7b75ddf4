"""Looks at every file once before training: what cannot be used is listed and left out, the rest is described in a report.

Files are read in a pool of threads, a few at a time, so that memory does not grow with what is read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from beats_jax.audio.io import AudioError, AudioInfo, audio_info, raw_blocks
from beats_jax.audio.survey import LEVELS, survey
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.copies import copies
from beats_jax.datasets.manifest import LabelColumn, Manifest, text_column
from beats_jax.datasets.report import Found, ValidationReport, describe, some
from beats_jax.errors import UserError

FILES_AT_A_TIME = 256  # futures held at once
MOST_FILES = 50_000  # among more, copies are not looked for: every file is compared with all of its length


@dataclass(frozen=True)
class Checked:
    """What one file turned out to be: `info`, hash of the bytes, where sound lies (seconds) and its levels, or the error."""

    info: AudioInfo | None
    content: str
    error: AudioError | None
    sound: tuple[float, float] | None = None
    levels: np.ndarray | None = None


def validate(
    manifest: Manifest,
    data: DataConfig,
    audio: AudioConfig,
    *,
    strict: bool = False,
    error_log: ErrorLog | None = None,
    min_classes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Checks every file and row.

    Left out and listed: files that cannot be used (`data.check` "decode" reads all of each file; "header" its header only, which
    misses damage further on and files with the same bytes), rows that end before they start, that start behind the end of their
    file, or that are shorter than a frame of the filterbank. Rows given twice are kept once (with `data.multi_label`
    the labels of both are put together). Ends behind the end of the file are cut there.

    Args:
      strict: raise the first `AudioError` instead of leaving files out.
      error_log: where errors are written as they are found; it may be strict itself.
      min_classes: classes that must be left; 1 for data that is only evaluated.
      progress: called with (files done, files in all).
    Returns:
      The report. Its `manifest` holds the good rows with metadata `seconds` (float64, duration of the file), `file_hash` (text,
      hash of the file's bytes; "" with "header") and `content` (that hash, or the one of the first copy of the same sound at
      another level, rate or format). Give `report.manifest` to `splits.assign_splits`, and what comes back to
      `report.with_splits`.
    Raises:
      UserError: one row given twice with different labels; nothing usable is left; too few classes; the first error when strict.
    """
    errors: list[AudioError] = []

    def note(error: AudioError) -> None:
        errors.append(error)
        if error_log is not None:
            error_log.add(error.path, error.reason)
        if strict:
            raise error

    for error in manifest.errors:
        note(error)
    if not len(manifest):
        raise UserError("the data has no rows; give at least one recording per class")
    rows_given = len(manifest)
    manifest, repeated = merge_repeated_rows(manifest, data.multi_label)
    files, file_of_row = np.unique(manifest.files, return_inverse=True)
    found = _check_files(files, data, audio, note, progress)
    if data.trim_below_dbfs:
        manifest = _trim(manifest, *found.sound[:, file_of_row])
    alike, unsought = _copies(found, audio.channel)
    facts = {"seconds": found.seconds, "content": _shared_content(found.content, alike), "file_hash": found.content}
    manifest = manifest.with_metadata(**{name: column[file_of_row] for name, column in facts.items()})
    good, cut = _usable_rows(manifest, audio.filterbank.frame_samples / audio.sample_rate, note)
    if not good.any():
        raise UserError(f"none of the {len(files)} files can be used{f'; the first error: {errors[0]}' if errors else ''}")
    manifest = _usable(manifest, good, found, audio, unsought)
    require_classes(manifest, data.multi_label, min_classes)
    return describe(
        manifest, found, copies=alike, rows_given=rows_given, repeated_rows=repeated, cut_rows=cut, errors=tuple(errors)
    )


def _usable(manifest: Manifest, good: np.ndarray, found: Found, audio: AudioConfig, notes: Sequence[str]) -> Manifest:
    """The good rows (bool [N]), with further notes: on the front-end, and on classes that have lost all their rows."""
    from beats_jax.audio.band import band_warnings  # which imports jax: worker processes of the loader do without

    kept = replace(manifest.take(good), errors=())
    rates = Counter(found.sample_rates[~np.isnan(found.seconds)].tolist())
    lost = sorted(manifest.labels.counts().keys() - kept.labels.counts().keys())
    gone = [f"{len(lost)} classes have no usable recording and are gone: {some(lost)}"] if lost else []
    return kept.with_notes(*notes, *band_warnings(rates, audio.filterbank), *gone)


def require_classes(manifest: Manifest, multi_label: bool, min_classes: int) -> None:
    """Raises `UserError` when there is too little to tell apart.

    With `multi_label` one class is enough if some rows do not have it.
    """
    counts = manifest.labels.counts()
    needed = min_classes
    if multi_label and any(number < len(manifest) for number in counts.values()):
        needed = 1
    if len(counts) < needed:
        there = f"only {next(iter(counts))!r}" if counts else "none"
        raise UserError(f"the data has {len(counts)} usable classes ({there}); training needs at least {needed}")


def merge_repeated_rows(manifest: Manifest, multi_label: bool) -> tuple[Manifest, tuple[str, ...]]:
    """Keeps the first of the rows with the same file, start and end.

    Returns:
      The manifest and "file" or "file start-end s" of every row that was given more than once.
    Raises:
      UserError: such rows have different labels; with `multi_label` their labels are put together instead.
    """
    keys = [np.unique(manifest.files, return_inverse=True)[1]]
    times = (np.nan_to_num(manifest.starts), np.nan_to_num(manifest.ends, nan=-1.0))  # start and end of the file
    keys += [np.unique(column, return_inverse=True)[1] for column in times]
    _, first, codes, number = np.unique(
        np.stack(keys, axis=1), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    several = np.flatnonzero(number > 1)
    if not len(several):
        return manifest, ()
    codes = codes.reshape(-1)
    members: dict[int, list[int]] = {int(code): [] for code in several}
    for row in np.flatnonzero(np.isin(codes, several)).tolist():
        members[int(codes[row])].append(row)
    merged: dict[int, list[str]] = {}
    for rows in members.values():
        sets = {manifest.labels[row] for row in rows}
        if len(sets) > 1 and not multi_label:
            names = " and ".join(sorted(" ".join(labels) for labels in sets))
            raise UserError(
                f"{_row_name(manifest, rows[0])} has different labels: {names}; keep one row or set data.multi_label=True"
            )
        merged[min(rows)] = sorted(set().union(*sets))
    kept = np.sort(first)
    result = manifest.take(kept)
    if multi_label:
        lists = [merged.get(row) or list(manifest.labels[row]) for row in kept.tolist()]
        result = replace(result, labels=LabelColumn.from_lists(lists))
    return result, tuple(_row_name(manifest, row) for row in sorted(merged))


def _row_name(manifest: Manifest, row: int) -> str:
    start, end = manifest.starts[row], manifest.ends[row]
    if np.isnan(start) and np.isnan(end):
        return str(manifest.files[row])
    return f"{manifest.files[row]} {0 if np.isnan(start) else start:g}-{'end' if np.isnan(end) else f'{end:g}'} s"


def _trim(manifest: Manifest, sound_starts: np.ndarray, sound_ends: np.ndarray) -> Manifest:
    """Rows without the silence at the ends of their file; a row that lies wholly in it stays as it is."""
    starts = np.fmax(np.nan_to_num(manifest.starts, nan=0.0), sound_starts)
    ends = np.fmin(manifest.ends, sound_ends)
    inside = np.isfinite(sound_ends) & (starts < ends)
    return replace(
        manifest,
        starts=np.where(inside, starts, manifest.starts),
        ends=np.where(inside, ends, manifest.ends),
    )


def _check_files(
    files: np.ndarray,
    data: DataConfig,
    audio: AudioConfig,
    note: Callable[[AudioError], None],
    progress: Callable[[int, int], None] | None,
) -> Found:
    """Facts about every file, in order; what is bad goes to `note` and has NaN seconds."""
    seconds = np.full(len(files), np.nan)
    rates, channels = np.zeros(len(files), np.int64), np.zeros(len(files), np.int64)
    sound = np.stack([np.full(len(files), -np.inf), np.full(len(files), np.inf)])
    levels = np.full((len(files), LEVELS), np.nan, np.float32)
    content: list[str] = []
    encodings: dict[str, int] = {}
    for place, result in enumerate(_check_all(files, data, audio)):
        content.append(result.content)
        if result.error is not None:
            note(result.error)
        elif result.info is not None:
            seconds[place], rates[place], channels[place] = result.info.seconds, result.info.sample_rate, result.info.channels
            if result.sound is not None:
                sound[:, place] = result.sound
            if result.levels is not None:
                levels[place] = result.levels
            encodings[result.info.encoding] = encodings.get(result.info.encoding, 0) + 1
        if progress is not None:
            progress(place + 1, len(files))
    return Found(files, seconds, rates, channels, text_column(content), encodings, sound, levels)


def _check_all(files: np.ndarray, data: DataConfig, audio: AudioConfig) -> Iterator[Checked]:
    def look(name: str) -> Checked:
        return check_file(name, data.check, audio.channel, data.trim_below_dbfs)

    with ThreadPoolExecutor(max(1, data.num_workers), thread_name_prefix="validate") as pool:
        for begin in range(0, len(files), FILES_AT_A_TIME):
            yield from pool.map(look, map(str, files[begin : begin + FILES_AT_A_TIME]))


def check_file(path: str, how: str, channel: str, trim_below_dbfs: float = 0.0) -> Checked:
    """Checks one file: "decode" reads and hashes all of it, "header" only looks at its header (content stays "").

    Its sound is looked for only with a `trim_below_dbfs` other than 0.
    """
    try:
        if how == "header":
            return Checked(audio_info(path), "", None)
        whole = survey(path, channel=channel, below_dbfs=trim_below_dbfs or None)
        return Checked(whole.info, content_hash(path), None, whole.sound, whole.levels)
    except AudioError as error:
        return Checked(None, "", error)
    except UserError:
        raise
    except OSError as error:
        return Checked(None, "", AudioError(path, f"cannot be read: {error.strerror or error}"))
    except Exception as error:  # noqa: BLE001 - a decoder's surprise at one file, whatever its type, must not end the run
        return Checked(None, "", AudioError(path, f"cannot be read: {type(error).__name__}: {error}"))


def _copies(found: Found, channel: str) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    """Pairs of places of files with the same sound, or a sentence where there are too many files to look for them.

    Of files with the same bytes only the first takes part.
    """
    first = np.unique(found.content, return_index=True)[1]
    if len(first) > MOST_FILES:
        return [], (f"copies at another level, rate or format were not looked for: {len(first)} files, at most {MOST_FILES}",)
    pairs = copies(found.files[first], found.levels[first], found.seconds[first], channel)
    return [(min(first[a], first[b]), max(first[a], first[b])) for a, b in pairs], ()


def _shared_content(content: np.ndarray, alike: list[tuple[int, int]]) -> np.ndarray:
    """StringDType [F]: every file's hash, or that of the first file which it is a copy of, also by a chain."""
    shared = content.copy()
    for one, other in alike:
        shared[shared == shared[other]] = shared[one]
    return shared


def content_hash(path: str) -> str:
    """BLAKE2b (16 bytes, hexadecimal) of a recording's bytes, read in blocks."""
    digest = hashlib.blake2b(digest_size=16)
    for block in raw_blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _usable_rows(manifest: Manifest, shortest: float, note: Callable[[AudioError], None]) -> tuple[np.ndarray, int]:
    """bool [N], rows of good files whose times make sense, and the number of rows cut at the end of their file."""
    seconds = manifest.metadata["seconds"]
    starts = np.where(np.isnan(manifest.starts), 0.0, manifest.starts)
    ends = np.where(np.isnan(manifest.ends), seconds, manifest.ends)
    readable = ~np.isnan(seconds)
    with np.errstate(invalid="ignore"):
        faults = {
            "starts before 0": starts < 0,
            "starts behind the end of the file": starts >= seconds,
            "ends before it starts or has no length": ends <= starts,
            f"is shorter than one frame of {shortest * 1000:g} ms": np.minimum(ends, seconds) - starts < shortest,
        }
    good = readable.copy()
    for what, wrong in faults.items():
        for row in np.flatnonzero(wrong & good):
            times = f"row {starts[row]:g}-{ends[row]:g} s of {seconds[row]:g} s"
            note(AudioError(str(manifest.files[row]), f"{times} {what}"))
        good &= ~wrong
    # a table rounds its times; only an end that is more than a frame late says something about the data
    return good, int((good & (ends > seconds + shortest)).sum())
