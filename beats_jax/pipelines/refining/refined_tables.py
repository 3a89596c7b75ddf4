"""Writes the clusters as people refined them: a table of all regions, and tables of events.

OUTPUT/clusters_reviewed.csv     file, start, end, low_hz, high_hz, label, membership, status (named, open, dropped, blank = none)
OUTPUT/refined/raven/, ...       the regions of clusters that are not dropped, for Raven and Audacity
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.refinements import DROPPED, Refined
from beats_jax.pipelines.discovering.tables import write_event_tables
from beats_jax.pipelines.refining.discovery import Discovery
from beats_jax.pipelines.search import write_table
from beats_jax.pipelines.training.workdir import ERRORS_FILE

REVIEWED_TABLE, REFINED = "clusters_reviewed.csv", "refined"


def write_reviewed(discovery: Discovery, refined: Refined) -> Path:
    """Writes `clusters_reviewed.csv`, whole or not at all. Raises `UserError` where there is no room."""
    names, status = refined.names(len(discovery.regions))
    frame = discovery.regions.to_pandas().drop(columns="score").assign(label=names, status=status)
    frame["membership"] = discovery.membership
    return write_table(frame, discovery.folder / REVIEWED_TABLE)


def write_refined_events(discovery: Discovery, refined: Refined, formats: tuple[str, ...]) -> list[Path]:
    """Tables of events with the names of clusters as labels, without dropped clusters, into `refined/`; the files written.

    Raises:
      UserError: no room, or an unknown format.
    """
    names, status = refined.names(len(discovery.regions))
    regions = discovery.regions
    bounds = {"scores": regions.scores, "low_hz": regions.low_hz, "high_hz": regions.high_hz}
    events = Events.from_columns(regions.files, regions.starts, regions.ends, names, **bounds)
    kept = events.take(np.array([one != DROPPED for one in status], bool))
    recordings = list(dict.fromkeys(regions.files.tolist()))
    errors = ErrorLog(discovery.folder / ERRORS_FILE)
    return write_event_tables(kept, recordings, discovery.folder / REFINED, formats, errors)
