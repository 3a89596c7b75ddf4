"""Tables of detections from the scores on disk: no model is needed, so other thresholds and rules take seconds."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from beats_jax.audio.files import some
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import table_kind, write_events
from beats_jax.errors import UserError
from beats_jax.files import sha256_of
from beats_jax.inference.events import EventRule, find_events
from beats_jax.pipelines.detecting.scores import score_columns, scored_recordings
from beats_jax.pipelines.detecting.thresholds import one_line

LENGTH_ROUNDING = 1e-3  # seconds: windows are counted in samples at the model's rate, and end a part of one behind the sound


@dataclass(frozen=True)
class Scored:
    """A recording whose scores are on disk: the seconds that its windows cover, and what its recorder wrote."""

    seconds: float
    recorded: Mapping[str, str | None]


@dataclass(frozen=True)
class Found:
    """Events by recording and time, and all recordings that were searched, by name."""

    events: Events
    recordings: Mapping[str, Scored]


def find_all_events(
    folder: Path,
    all_labels: Sequence[str],
    thresholds: Mapping[str, float | None],
    rule: EventRule,
    lengths: Mapping[str, float] | None = None,
) -> Found:
    """The events in the scores of a folder. Memory holds one shard and the events.

    Args:
      all_labels: of the detector. thresholds: of the labels that are wanted; None = never found.
      lengths: label → seconds of its events with the extent peak; None or a label left out = of their windows.
    """
    limits = {label: value for label, value in thresholds.items() if value is not None}
    columns = score_columns(all_labels)
    # Scores are float32 on disk: a threshold that is a score (as an operating point has) must be rounded alike to be reached
    uppers = np.array(list(limits.values()), np.float32)
    seconds = np.array([(lengths or {}).get(label, np.inf) for label in limits])
    found: dict[str, Events] = {}
    recordings: dict[str, Scored] = {}
    for recording in scored_recordings(folder, [columns[label] for label in limits]):
        recordings[recording.file] = Scored(float(recording.ends.max()), recording.recorded)
        place = (recording.file, recording.starts, recording.ends)
        events = find_events(*place, recording.scores, list(limits), uppers, rule, seconds)
        if len(events):
            found[recording.file] = _by_time(events)
    return Found(
        Events.concatenate([found[file] for file in sorted(found)]), {file: recordings[file] for file in sorted(recordings)}
    )


def _by_time(events: Events) -> Events:
    """Events of a recording in order, with short numbers: 0.46 for 0.45999999999999996.

    Times are rounded to a microsecond, which is less than a sample; scores are written as float32 writes them.
    """
    scores = np.array([float(str(score)) for score in events.scores.astype(np.float32)])
    short = replace(events, starts=np.round(events.starts, 6), ends=np.round(events.ends, 6), scores=scores)
    return short.take(np.argsort(short.starts, kind="stable"))


def recording_lengths(found: Found, headers: Mapping[str, float]) -> dict[str, float]:
    """file → seconds, for tables whose time runs on: as its header says, which Raven reads too, else what the windows cover."""
    lengths = {}
    for file, scored in found.recordings.items():
        stated = headers.get(file, 0.0)
        lengths[file] = stated if stated >= scored.seconds - LENGTH_ROUNDING else scored.seconds
    return lengths


def require_writable(labels: Sequence[str], kinds: Sequence[str]) -> None:
    """Refuses labels that a kind of table cannot hold, before a night is spent on them.

    Raises:
      UserError: an unknown kind, or a label that does not fit; both are named.
    """
    for kind in kinds:
        table_kind(kind)
        try:
            _try(["recording.wav"] * len(labels), labels, kind)
        except UserError as error:
            raise UserError(f"--format {kind}: {error}; or leave it out with --labels or --species-list") from error


def leave_out_unwritable(found: Found, kinds: Sequence[str], errors: ErrorLog) -> Found:
    """Without recordings whose names a kind of table cannot hold; they are listed, and their scores stay."""
    reasons = {}
    for file in found.recordings:
        parts = re.split(r"[/\\]", file)
        if all(part == part.strip() for part in parts) and not set(file) & set("\t\r\n\0"):
            continue
        for kind in kinds:
            try:
                _try([file], ["label"], kind)
            except UserError as error:
                reasons[file] = f"it has scores and is in no table, because {kind} is among them: {error}"
    for file, reason in reasons.items():
        errors.add(file, reason)
    if not reasons:
        return found
    print(
        f"warning: {len(reasons)} recordings are in no table, because of their names: {some([*map(one_line, reasons)])}",
        flush=True,
    )
    kept = np.array([file not in reasons for file in found.events.files.tolist()], bool)
    return Found(found.events.take(kept), {file: scored for file, scored in found.recordings.items() if file not in reasons})


def _try(files: Sequence[str], labels: Sequence[str], kind: str) -> None:
    """Writes a table of one event a label into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        events = Events.from_columns(files, [0.0] * len(labels), [1.0] * len(labels), labels)
        write_events(events, folder, [kind], dict.fromkeys(files, 1.0))


def written_tables(output: Path, tables: Sequence[Path]) -> dict[str, str]:
    """Path in `output` → sha256, by which a later call knows tables that somebody has changed."""
    return {path.relative_to(output).as_posix(): sha256_of(path) for path in tables}


def require_unchanged(output: Path, tables: Mapping[str, str]) -> None:
    """Raises `UserError` where a table of an earlier call is no longer as it was written: it may hold somebody's review."""
    changed = [name for name, digest in tables.items() if (output / name).is_file() and sha256_of(output / name) != digest]
    if changed:
        raise UserError(
            f"{some(changed)} in {output} changed since they were written, and would be replaced; move them to another folder, "
            "or delete them"
        )


def remove_tables(output: Path, tables: Mapping[str, str]) -> None:
    """Removes the tables of an earlier call, so that none of other thresholds or names stays beside the new ones."""
    for name in tables:
        (output / name).unlink(missing_ok=True)
    folders = {output / parent for name in tables for parent in Path(name).parents if parent != Path(".")}
    for folder in sorted(folders, reverse=True):  # the inner ones first
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
