"""Checks every file once before training, leaves out and lists those that cannot be used, and reports on the others."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from beats_jax.audio.io import AudioError, audio_info, raw_blocks
from beats_jax.audio.recording import name_surprises
from beats_jax.audio.survey import LEVELS, Survey, survey
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.copies import copies
from beats_jax.datasets.distinct import distinct
from beats_jax.datasets.manifest import LabelColumn, Manifest, take_columns, text_column
from beats_jax.datasets.report import Found, ValidationReport, describe, some
from beats_jax.errors import UserError

FILES_AT_A_TIME = 256  # futures held at once, so that memory does not grow with the data
MOST_FILES = 50_000  # copies are not searched among more: each file is compared with all of its length


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

    Left out and listed: files that cannot be used (`data.check` "decode" reads each file whole; "header" misses damage behind the
    header and files with the same bytes), rows that end before they start, start behind the end of their file, or are shorter
    than a frame of the filterbank. Rows given twice are kept once (with `data.multi_label` with the labels of both). Ends behind
    the end of the file are cut.

    Args:
      strict: raise the first `AudioError` instead of leaving files out.
      error_log: receives errors as they are found; it may be strict itself.
      min_classes: classes that must be left; 1 for data that is only evaluated.
      progress: called with (files done, files in all).
    Returns:
      The report. Its `manifest` holds the good rows with metadata `seconds` (float64, duration of the file), `file_hash` (text,
      hash of the file's bytes; "" with "header") and `content` (that hash, or the hash of the first copy of the same sound at
      another level, rate or format). Pass `report.manifest` to `splits.assign_splits`, and the result to `report.with_splits`.
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
    files, file_of_row = distinct(manifest.files)
    found = _check_files(files, data, audio, note, progress)
    if data.trim_below_dbfs:
        manifest = _trim(manifest, *found.sound[:, file_of_row])
    alike, notes = _copies(found, audio.channel)
    facts = {"seconds": found.seconds, "content": _shared_content(found.content, alike), "file_hash": found.content}
    manifest = manifest.with_metadata(**take_columns(facts, file_of_row))
    good, cut = _usable_rows(manifest, audio.filterbank.frame_samples / audio.sample_rate, note)
    if not good.any():
        raise UserError(f"none of the {len(files)} files can be used{f'; the first error: {errors[0]}' if errors else ''}")
    manifest = _keep_rows(manifest, good, found, audio, notes)
    require_classes(manifest, data.multi_label, min_classes)
    return describe(
        manifest, found, copies=alike, rows_given=rows_given, repeated_rows=repeated, cut_rows=cut, errors=tuple(errors)
    )


def _keep_rows(manifest: Manifest, good: np.ndarray, found: Found, audio: AudioConfig, notes: Sequence[str]) -> Manifest:
    """The good rows (bool [N]), with notes on the front-end and on classes that lost all their rows."""
    from beats_jax.audio.band import band_warnings  # imports jax, which the loader's processes do not need

    kept = replace(manifest.take(good), errors=())
    rates = Counter(found.sample_rates[~np.isnan(found.seconds)].tolist())
    lost = sorted(manifest.labels.counts().keys() - kept.labels.counts().keys())
    gone = [f"{len(lost)} classes have no usable recording and are left out: {some(lost)}"] if lost else []
    return kept.with_notes(*notes, *band_warnings(rates, audio.filterbank), *gone)


def require_classes(manifest: Manifest, multi_label: bool, min_classes: int) -> None:
    """Raises `UserError` for too few classes. With `multi_label` one class is enough if some rows do not have it."""
    counts = manifest.labels.counts()
    needed = 1 if multi_label and any(number < len(manifest) for number in counts.values()) else min_classes
    if len(counts) < needed:
        names = f"only {next(iter(counts))!r}" if counts else "none"
        raise UserError(f"the data has {len(counts)} usable classes ({names}); training needs at least {needed}")


def merge_repeated_rows(manifest: Manifest, multi_label: bool) -> tuple[Manifest, tuple[str, ...]]:
    """Keeps the first of the rows with the same file, start and end.

    Returns:
      The manifest and "file" or "file start-end s" of every row that was given more than once.
    Raises:
      UserError: such rows have different labels; with `multi_label` their labels are joined instead.
    """
    # codes, not a dict of rows: a million rows would take 350 MB as Python objects
    codes = distinct(manifest.files)[1]
    for times in (np.nan_to_num(manifest.starts), np.nan_to_num(manifest.ends, nan=-1.0)):  # start and end of the file
        moments, place = np.unique(times, return_inverse=True)
        codes = np.unique(codes * len(moments) + place, return_inverse=True)[1]
    _, first, number = np.unique(codes, return_index=True, return_counts=True)
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(number[codes] > 1).tolist():
        members.setdefault(int(codes[row]), []).append(row)
    if not members:
        return manifest, ()
    merged: dict[int, list[str]] = {}
    for rows in members.values():
        sets = {manifest.labels[row] for row in rows}
        if len(sets) > 1 and not multi_label:
            names = " and ".join(sorted(" ".join(labels) for labels in sets))
            raise UserError(
                f"{_row_name(manifest, rows[0])} has different labels: {names}; keep one row or set data.multi_label=True"
            )
        merged[rows[0]] = sorted(set().union(*sets))
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
    """Rows without the silence at the ends of their file; a row wholly in it stays unchanged."""
    starts = np.fmax(np.nan_to_num(manifest.starts, nan=0.0), sound_starts)
    ends = np.fmin(manifest.ends, sound_ends)
    inside = np.isfinite(sound_ends) & (starts < ends)
    starts, ends = np.where(inside, starts, manifest.starts), np.where(inside, ends, manifest.ends)
    return replace(manifest, starts=starts, ends=ends)


def _check_files(
    files: np.ndarray,
    data: DataConfig,
    audio: AudioConfig,
    note: Callable[[AudioError], None],
    progress: Callable[[int, int], None] | None,
) -> Found:
    """Facts about every file, in order; errors go to `note`, and bad files have NaN seconds."""
    seconds = np.full(len(files), np.nan)
    rates, channels = np.zeros(len(files), np.int64), np.zeros(len(files), np.int64)
    sound = np.stack([np.full(len(files), -np.inf), np.full(len(files), np.inf)])
    levels = np.full((len(files), LEVELS), np.nan, np.float32)
    content: list[str] = []
    encodings: dict[str, int] = {}
    for place, (result, hashed) in enumerate(_check_all(files, data, audio)):
        content.append(hashed)
        if isinstance(result, AudioError):
            note(result)
        else:
            info = result.info
            seconds[place], rates[place], channels[place] = info.seconds, info.sample_rate, info.channels
            sound[:, place] = sound[:, place] if result.sound is None else result.sound
            levels[place] = result.levels
            encodings[info.encoding] = encodings.get(info.encoding, 0) + 1
        if progress is not None:
            progress(place + 1, len(files))
    return Found(files, seconds, rates, channels, text_column(content), encodings, sound, levels)


def _check_all(files: np.ndarray, data: DataConfig, audio: AudioConfig) -> Iterator[tuple[Survey | AudioError, str]]:
    def check(name: str) -> tuple[Survey | AudioError, str]:
        return check_file(name, data.check, audio.channel, data.trim_below_dbfs)

    with ThreadPoolExecutor(max(1, data.num_workers), thread_name_prefix="validate") as pool:
        for begin in range(0, len(files), FILES_AT_A_TIME):
            yield from pool.map(check, map(str, files[begin : begin + FILES_AT_A_TIME]))


def check_file(path: str, how: str, channel: str, trim_below_dbfs: float = 0.0) -> tuple[Survey | AudioError, str]:
    """(facts or error, hash of the bytes) of a file: "decode" reads and hashes it whole, "header" reads its header (hash "")."""
    try:
        with name_surprises(path, "read"):  # nothing that a decoder raises for one file may end the run
            if how == "header":
                return Survey(audio_info(path), None, np.full(LEVELS, np.nan, np.float32)), ""
            return survey(path, channel=channel, below_dbfs=trim_below_dbfs or None), content_hash(path)
    except AudioError as error:
        return error, ""


def _copies(found: Found, channel: str) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    """Pairs of places of files with the same sound, or a note that there are too many files to compare.

    Of files with the same bytes only the first is compared.
    """
    first = np.unique(found.content, return_index=True)[1]
    if len(first) > MOST_FILES:
        return [], (f"copies at another level, rate or format were not looked for: {len(first)} files, at most {MOST_FILES}",)
    pairs = copies(found.files[first], found.levels[first], found.seconds[first], channel)
    return [(min(first[a], first[b]), max(first[a], first[b])) for a, b in pairs], ()


def _shared_content(content: np.ndarray, alike: list[tuple[int, int]]) -> np.ndarray:
    """StringDType [F]: the hash of each file, or of the first file of its chain of copies."""
    if not alike:
        return content
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
    """bool [N], rows of good files with valid times, and the number of rows cut at the end of their file."""
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
    # tables round times, so only an end more than a frame late counts
    return good, int((good & (ends > seconds + shortest)).sum())
