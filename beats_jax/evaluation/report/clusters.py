"""The page on clusters of sounds: figures, map, sites and hours, and sounds of every cluster to look at and listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from beats_jax.evaluation.metrics.result import Estimate
from beats_jax.evaluation.report.figures.clusters import MOST_CLUSTERS, MOST_SITES, cluster_map, site_hours
from beats_jax.evaluation.report.page import Bold, Card, Cards, Cell, Example, Figure, Page, Paragraph, Section, Table


@dataclass(frozen=True)
class ClusterSounds:
    """A cluster's heading, sounds that stand for it, and some that were drawn at random."""

    heading: str
    representatives: Sequence[tuple[str, Example]]  # what is known of a sound, and the sound
    members: Sequence[tuple[str, Example]]


@dataclass(frozen=True)
class ClusterMap:
    """Points float [M, 2], their clusters int [M] (-1 = none), and how they were placed, in a sentence."""

    places: np.ndarray
    labels: np.ndarray
    note: str


def clusters_page(
    *,
    title: str,
    subtitle: str,
    tiles: Sequence[tuple[str, Estimate]],
    findings: Sequence[str],
    names: Sequence[str],
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    of_map: ClusterMap | None,
    hours: Mapping[str, np.ndarray],
    hours_note: str,
    sounds: Sequence[ClusterSounds],
    sounds_note: str,
    agreement: Sequence[Sequence[Cell]],
    errors: Sequence[tuple[str, str]],
    settings: Mapping[str, object],
    command: str,
    versions: Mapping[str, str],
    provenance: Mapping[str, str],
) -> Page:
    """The page.

    Args:
      header, rows: of the table of clusters. hours: site → int [C, 24], {} = no clock is known. hours_note: what was left out.
      agreement: figure, value, and the value with sounds in no cluster counted, where labels are known.
    """
    table = Section("Clusters", [Table(header, rows, numbers_from=1)] if rows else [Paragraph("No cluster was found.")])
    return Page(
        title=title,
        subtitle=subtitle,
        tiles=tiles,
        findings=findings,
        sections=[
            _map_section(of_map, names),
            _agreement_section(agreement),
            _hours_section(hours, hours_note, names),
            table,
            _sounds_section(sounds, sounds_note),
        ],
        errors=errors,
        settings=settings,
        command=command,
        versions=versions,
        provenance=provenance,
    )


def _map_section(of_map: ClusterMap | None, names: Sequence[str]) -> Section | None:
    if of_map is None:
        return None
    draw = partial(cluster_map, of_map.places, of_map.labels, names)
    return Section("Map", [Figure(draw, "sounds as points, coloured by cluster", of_map.note)])


def _agreement_section(rows: Sequence[Sequence[Cell]]) -> Section | None:
    if not rows:
        return None
    note = "Figures of sounds in clusters alone rise as fewer are in clusters: read them beside the coverage, or those of all."
    header = ("figure", "sounds in clusters", "all, those outside as one cluster")
    return Section("Against the labels", [Paragraph(note, "note"), Table(header, rows)])


def _hours_section(hours: Mapping[str, np.ndarray], note: str, names: Sequence[str]) -> Section:
    if not hours:
        return Section("Sites and hours", [Paragraph(note)])
    lines = [f"Hours of the recorders' clocks. The darkest hour of a row has most sounds of that cluster. {note}".strip()]
    if len(hours) > MOST_SITES:
        lines.append(f"The {MOST_SITES} sites with most sounds of {len(hours)}; hours.csv has all.")
    if len(names) > MOST_CLUSTERS:
        lines.append(f"The {MOST_CLUSTERS} largest clusters of {len(names)}.")
    counts = Table(("site", "sounds in clusters"), [(site or "no site named", int(table.sum())) for site, table in hours.items()])
    draw = partial(site_hours, hours, names)
    return Section("Sites and hours", [Figure(draw, "sounds by cluster, site and hour", " ".join(lines), instead=counts)])


def _sounds_section(sounds: Sequence[ClusterSounds], note: str) -> Section | None:
    if not sounds:
        return None
    groups = []
    for one in sounds:
        groups.append((one.heading, [Card([Bold("stands for it"), f" · {text}"], clip) for text, clip in one.representatives]))
        if one.members:
            groups.append(("", [Card([f"drawn at random · {text}"], clip) for text, clip in one.members]))
    return Section("Sounds", [Cards(note, groups)])
