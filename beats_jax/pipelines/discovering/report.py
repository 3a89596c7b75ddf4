"""The page on what was found: figures in sentences, the map, sites and hours, sounds of each cluster."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.clusters import NOISE
from beats_jax.evaluation.embeddings.maps import has_umap, sample_rows, tsne_places, umap_places
from beats_jax.evaluation.metrics.result import Estimate
from beats_jax.evaluation.report.clusters import ClusterMap, ClusterSounds, clusters_page
from beats_jax.evaluation.report.html import MP3_RATES
from beats_jax.evaluation.report.page import Example, write_page
from beats_jax.pipelines.discovering.clustered import Clustered, cluster_table
from beats_jax.pipelines.discovering.members import random_members
from beats_jax.pipelines.discovering.settings import DiscoverSettings
from beats_jax.pipelines.environment import provenance
from beats_jax.pipelines.exploring.clips import playable_sound, read_clip, usual_speed
from beats_jax.pipelines.measuring.write import versions
from beats_jax.pipelines.reviewing.tiles import tile_png

REPORT = "report.html"
MAP_ROWS = 2000  # points on the map: more take minutes to place, and cover each other
SHOWN_CLUSTERS = 30  # with sounds on the page, so that it stays small enough for a mail
LONGEST_CLIP = 10.0  # seconds of a region that are shown
MOST_CONTEXT = 0.5  # seconds of the recording before and behind a region that are shown with it
AGREEMENT = {
    "ari": "ARI",
    "ami": "AMI",
    "nmi": "NMI",
    "v_measure": "V-measure",
    "accuracy": "accuracy (each cluster as one label)",
}


def write_report(
    found: Clustered, output: Path, settings: DiscoverSettings, command: str, record: Mapping[str, Any], errors: ErrorLog
) -> Path:
    """Writes report.html."""
    header, rows = _page_table(found)
    sounds = _sounds(found, settings)
    hours, hours_note = site_tables(found)
    left = len(found.rows) - len(sounds)
    note = "The box is the region. Bats are played ten times slower, sounds at 4 kHz and less four times faster."
    page = clusters_page(
        title="Sounds in clusters",
        subtitle=f"{len(found.items)} sounds of {len(found.items.recordings)} recordings",
        tiles=_tiles(found),
        findings=sentences(found),
        names=found.names,
        header=header,
        rows=rows,
        of_map=_map(found, settings.grouping.seed),
        hours=hours,
        hours_note=hours_note,
        sounds=sounds,
        sounds_note=note + (f" The {len(sounds)} largest clusters; clips/ has sounds of the other {left} too." if left else ""),
        agreement=_agreement(found),
        errors=errors.rows(),
        settings=record,
        command=command,
        versions=versions(),
        provenance=provenance(),
    )
    path = output / REPORT
    write_page(path, page)
    return path


def sentences(found: Clustered) -> list[str]:
    """What was found, for the page and the terminal."""
    figures, items = found.figures, found.items
    lines = []
    if not len(items):
        return ["No sound was found. Lower --seed-db, widen the band, or look at errors.csv."]
    inside = int((found.labels != NOISE).sum())
    if not len(found.rows):
        return [
            f"None of {len(items)} sounds is in a cluster: they are of one kind, or each of its own. Lower --smallest, or give "
            "--method kmeans with --clusters."
        ]
    sizes = [len(rows) for rows in found.rows]
    lines.append(
        f"{inside} of {len(items)} sounds ({inside / len(items):.0%}) are in {len(sizes)} clusters of {min(sizes)} to "
        f"{max(sizes)}."
    )
    if len(sizes) == 1:
        lines.append("There is one cluster only: nothing separates the sounds, or --smallest is too large.")
    single = sum(len({items.frame["file"].iat[row] for row in rows.tolist()}) == 1 for rows in found.rows)
    if single and len(items.recordings) > 1:
        lines.append(f"{single} clusters are of one recording each: they may be that recording rather than a kind of sound.")
    if "region_recall" in figures:
        parts = " and ".join(f"{name} {figures[f'region_{name}'] or 0:.2f}" for name in ("precision", "recall"))
        lines.append(f"Regions against the annotated sounds, at an IoU in time of 0.3: {parts}.")
    if figures.get("ami") is not None:
        lines.append(
            f"Against the labels: AMI {figures['ami']:.2f}, ARI {figures['ari']:.2f} at a coverage of "
            f"{figures['coverage']:.0%}; with sounds in no cluster counted as one {figures['ami_with_noise']:.2f} and "
            f"{figures['ari_with_noise']:.2f}."
        )
    if "iterations" in figures:
        lines.append(
            f"An encoder learnt from the clusters {figures['iterations']} times; before, {figures['clustered_before']:.0%} of "
            "the sounds were in clusters" + (f", with AMI {figures['ami_before']:.2f}." if figures.get("ami_before") else ".")
        )
    new = found.novelty[np.isfinite(found.novelty)]
    if len(new):
        lines.append(
            f"{(new >= 0.95).mean():.0%} of the sounds are newer than 95 % of the reference; 5 % of known ones would be."
        )
    return lines


def _tiles(found: Clustered) -> list[tuple[str, Estimate]]:
    names = {"clustered": "in clusters", "stability": "stability", "silhouette": "silhouette", "dbcv": "DBCV", "ami": "AMI"}
    values = {name: found.figures.get(name) for name in names}
    return [(title, Estimate(float(values[name]))) for name, title in names.items() if isinstance(values[name], int | float)]  # type: ignore[arg-type]


def _agreement(found: Clustered) -> list[tuple[str, float | None, float | None]]:
    if "ari" not in found.figures:
        return []
    pairs = [(title, found.figures.get(name), found.figures.get(f"{name}_with_noise")) for name, title in AGREEMENT.items()]
    rows = [(title, *(value if isinstance(value, int | float) else None for value in values)) for title, *values in pairs]
    return [*rows, ("coverage", float(found.figures["coverage"] or 0), 1.0)]  # type: ignore[list-item]


HEADER = {  # columns of clusters.csv on the page; those without a value in any row are left out
    **{"name": "cluster", "size": "sounds", "recordings": "recordings", "stability": "stability", "silhouette": "silhouette"},
    **{"hz": "Hz", "seconds": "seconds", "snr_db": "SNR, dB", "novelty": "novelty", "sites": "sites"},
    **{"known_label": "known label", "known_share": "share"},
}


def _page_table(found: Clustered) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of the table of clusters."""
    rows = [{**row, "hz": _band(row), "snr_db": _short(row["snr_db"])} for row in cluster_table(found).to_dict("records")]
    kept = [name for name in HEADER if any(row.get(name) not in (None, "") and row[name] == row[name] for row in rows)]
    return [HEADER[name] for name in kept], [[None if row[name] != row[name] else row[name] for name in kept] for row in rows]


def _short(value: float) -> str:
    return "" if value != value else f"{value:.1f}"


def _band(row: Mapping[Any, Any]) -> str:
    return "" if row["low_hz"] != row["low_hz"] else f"{row['low_hz']:.0f} to {row['high_hz']:.0f}"


def _map(found: Clustered, seed: int) -> ClusterMap | None:
    finite = np.flatnonzero(np.isfinite(found.points).all(axis=1))
    rows = finite[sample_rows(len(finite), MAP_ROWS, seed)] if len(finite) else finite
    if len(rows) < 3:
        return None
    points = found.points[rows]
    places = umap_places(points, 2, seed=seed) if has_umap() else tsne_places(points, 2, seed=seed)
    method = "UMAP" if has_umap() else "t-SNE"
    part = f"{len(rows)} of {len(found.labels)} sounds" if len(rows) < len(found.labels) else f"{len(rows)} sounds"
    note = f"{part} by {method}: near points are alike; distances between clusters and their sizes on it mean little."
    return ClusterMap(places, found.labels[rows], note)


def site_tables(found: Clustered) -> tuple[dict[str, np.ndarray], str]:
    """site → sounds by cluster and hour, int [C, 24], sites with most first, and a sentence on what could not be counted."""
    clocked = [row for row, time in enumerate(found.times) if time is not None and found.labels[row] != NOISE]
    missing = sum(time is None for time in found.times)
    if not clocked:
        return {}, "The recordings have no clock in their names or headers." if missing else "No sound is in a cluster."
    sites: dict[str, np.ndarray] = {}
    names = found.items.frame["site"].tolist()
    for row in clocked:
        table = sites.setdefault(names[row] or "", np.zeros((len(found.rows), 24), np.int64))
        table[found.labels[row], found.times[row].hour] += 1  # type: ignore[union-attr]  clocked
    note = f"{missing} sounds are of recordings without a clock, and left out." if missing else ""
    return dict(sorted(sites.items(), key=lambda item: -item[1].sum())), note


def _sounds(found: Clustered, settings: DiscoverSettings) -> list[ClusterSounds]:
    ceiling = _highest_shown(found)
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in found.items.frame["file"].unique()] or ["/"])
    drawn = random_members(found.labels, found.ranks, settings.members, settings.grouping.seed)
    shown = []
    for cluster, name in enumerate(found.names[:SHOWN_CLUSTERS]):
        parts = [
            [(_story(found, row), _example(found, row, ceiling, folder)) for row in rows.tolist()]
            for rows in (found.representatives(cluster), drawn[cluster])
        ]
        recordings = found.items.frame["file"].iloc[found.rows[cluster]].nunique()
        heading = f"{name}: {len(found.rows[cluster])} sounds of {recordings} recordings"
        shown.append(ClusterSounds(heading, parts[0], parts[1]))
    return shown


def _story(found: Clustered, row: int) -> str:
    known = f", label {found.known[row]}" if found.known and found.known[row] else ""
    new = f", novelty {found.novelty[row]:.2f}" if np.isfinite(found.novelty[row]) else ""
    return f"membership {found.membership[row]:.2f}{known}{new}"


def _highest_shown(found: Clustered) -> float:
    """Up to which frequency spectrograms show: a third above nearly all regions; 0 = all, where regions have no bounds."""
    high = found.items.frame["high_hz"].to_numpy(np.float64)
    high = high[np.isfinite(high)]
    return 1.33 * float(np.percentile(high, 99)) if len(high) else 0.0


def _example(found: Clustered, row: int, ceiling: float, folder: str) -> Example:
    """The sound with some of its recording before and behind; a file that has gone has no picture, and its place stays."""
    one = found.items.frame.iloc[row]
    file, start, end = str(one["file"]), float(one["start"]), float(one["end"])
    end, shown = min(end, start + LONGEST_CLIP), os.path.relpath(file, folder)
    try:
        clip = read_clip(Path(file), start, end, min(MOST_CONTEXT, end - start))
    except (UserError, OSError):
        return Example(shown, start, "", "", np.nan, None, 0)
    band = (float(one["low_hz"]), float(one["high_hz"]))
    speed = usual_speed(clip.sample_rate)
    rate = min((rate for rate in MP3_RATES if rate >= clip.sample_rate * speed), default=MP3_RATES[-1])
    picture = _jpeg(tile_png(clip, start, end, ceiling, band))
    return Example(shown, start, "", "", np.nan, playable_sound(clip, speed, rate), rate, picture=picture)


def _jpeg(png: bytes) -> bytes:
    """A tile in a fifth of its bytes: a page may show two hundred."""
    from PIL import Image

    tile = Image.open(io.BytesIO(png))
    sheet = Image.new("RGB", tile.size, "white")
    sheet.paste(tile, mask=tile)
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=82)
    return stream.getvalue()
