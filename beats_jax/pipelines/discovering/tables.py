"""Writes what was found: tables of regions and clusters, tables of events for Raven and Audacity, and clips of representatives.

A killed job leaves no table that its record does not know, and a table that somebody changed is never replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.audio.io import AudioError, audio_info, read, write_wav
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import write_events
from beats_jax.pipelines.detecting.tables import Found, Scored, leave_out_unwritable
from beats_jax.pipelines.discovering.clustered import Clustered, cluster_table, hour_table, region_table
from beats_jax.pipelines.search import clip_names, write_table
from beats_jax.pipelines.window_plan import header_lengths

if TYPE_CHECKING:
    import pandas as pd

REGIONS_TABLE, CLUSTERS_TABLE, HOURS_TABLE = "regions.csv", "clusters.csv", "hours.csv"
CLIPS = "clips"
CLIP_CONTEXT = 0.1  # seconds of the recording before and behind a region, so that its onset can be heard


def write_result_tables(found: Clustered, output: Path, formats: Sequence[str], errors: ErrorLog) -> list[Path]:
    """regions.csv and .parquet, clusters.csv, hours.csv and tables of events; the files written.

    Raises:
      UserError: an unknown format, or no room to write.
    """
    table = region_table(found)
    written = [write_table(table, output / REGIONS_TABLE), write_table(table, (output / REGIONS_TABLE).with_suffix(".parquet"))]
    written.append(write_table(cluster_table(found), output / CLUSTERS_TABLE))
    written.append(write_table(hour_table(found), output / HOURS_TABLE))
    events = events_of(table, found.row_names, found.membership)
    return written + write_event_tables(events, found.items.recordings, output, formats, errors)


def events_of(table: pd.DataFrame, labels: Sequence[str], scores: np.ndarray) -> Events:
    """Rows of regions as events with these labels."""
    bounds = {name: table[name].to_numpy(np.float64) for name in ("low_hz", "high_hz")}
    times = (table["start"].to_numpy(np.float64), table["end"].to_numpy(np.float64))
    return Events.from_columns(table["file"].tolist(), *times, labels, scores=np.round(scores, 4), **bounds)


def write_event_tables(
    events: Events, recordings: Sequence[str], output: Path, formats: Sequence[str], errors: ErrorLog
) -> list[Path]:
    """Tables of the kinds in `formats`, one a recording and one for all where the kind has both.

    Args:
      recordings: all that were searched; those without an event get tables, too.
    """
    if not formats:
        return []
    ends = {file: float(events.ends[rows].max()) for file, rows in events.rows_of().items()}
    stated = dict(zip(recordings, header_lengths(recordings).tolist(), strict=True))
    lengths = {file: max(stated[file], ends.get(file, 0.0)) for file in recordings}
    all_found = Found(events, {file: Scored(seconds, {}) for file, seconds in lengths.items()})
    kept = leave_out_unwritable(all_found, formats, errors)
    return write_events(kept.events, output, formats, {file: lengths[file] for file in kept.recordings})


def write_clips(found: Clustered, output: Path, errors: ErrorLog) -> list[Path]:
    """A WAV of each representative at its recording's own rate, in a folder for each cluster; the files written."""
    written: list[Path] = []
    frame = found.items.frame
    for cluster, name in enumerate(found.names):
        rows = found.representatives(cluster)
        places = [frame[column].iloc[rows].tolist() for column in ("file", "start", "end")]
        rounded = [places[0], *([round(float(value), 3) for value in column] for column in places[1:])]
        for clip, file, start, end in zip(clip_names(found.membership[rows].tolist(), *rounded), *places, strict=True):
            path = output / CLIPS / name / clip
            if _write_clip(path, str(file), float(start), float(end), errors):
                written.append(path)
    return written


def _write_clip(path: Path, file: str, start: float, end: float, errors: ErrorLog) -> bool:
    first = max(0.0, start - CLIP_CONTEXT)
    try:
        rate = audio_info(file).sample_rate
        sound = read(file, sample_rate=rate, start_seconds=first, seconds=end + CLIP_CONTEXT - first)
    except AudioError as error:
        errors.add(file, error.reason)
    except OSError as error:
        errors.add(file, f"cannot be read: {error}")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, np.clip(sound, -1, 1), rate)
        return True
    return False
