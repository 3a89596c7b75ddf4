"""Items to clusters with their figures: groups, stability, representatives, novelty, agreement with known labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.clusters import NOISE, SILHOUETTE_ROWS, describe_clusters
from beats_jax.evaluation.embeddings.grouping.agreement import agreement
from beats_jax.evaluation.embeddings.grouping.group import Groups, group
from beats_jax.evaluation.embeddings.grouping.selection import VALIDITY_ROWS, consecutive
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.evaluation.embeddings.grouping.stability import Stability, stability
from beats_jax.evaluation.embeddings.grouping.validity import density_validity
from beats_jax.evaluation.embeddings.maps import sample_rows
from beats_jax.evaluation.embeddings.novelty import UNSURE, novelty
from beats_jax.inference.search.embeddings import open_embeddings
from beats_jax.inference.store import differences
from beats_jax.pipelines.discovering.clustered import Clustered
from beats_jax.pipelines.discovering.items import Items, open_items
from beats_jax.pipelines.discovering.iterations import iterate
from beats_jax.pipelines.discovering.labels import labels_of_items, read_known, region_figures
from beats_jax.pipelines.discovering.mec import Iteration
from beats_jax.pipelines.discovering.members import representative_ranks
from beats_jax.pipelines.discovering.settings import TREES, DiscoverSettings

# Of the identity of vectors: what makes two tables comparable. Windows of `embed` and regions may be compared.
ENCODER = ("model", "params_sha256", "audio", "above_background", "layers", "poolings", "columns", "margin")
LARGEST_SHARE = 0.7  # of all sounds in one cluster
LARGEST_BESIDE, SEVERAL = 0.6, 5  # of the sounds in clusters, where there are so many clusters
Figures = dict[str, float | int | str | None]


def cluster_items(
    items: Items, identity: Mapping[str, Any], settings: DiscoverSettings, output: Path, errors: ErrorLog
) -> Clustered:
    """The clusters of all sounds whose vectors are finite; the others are listed, and in none.

    Args:
      identity: all that the vectors depend on; those of a reference must be of the same encoder.
      output: folder of the iterations in which clusters are learnt, where there are some.

    Raises:
      UserError: a method that is not installed, labels that cannot be read, or a reference of another model.
    """
    usable = items.usable
    _list_unusable(items, usable, errors)
    grouping = settings.grouping_of(int(usable.sum()))
    groups, grouping = _groups(items, grouping) if len(items) else (_nothing(), grouping)
    learnt: list[Iteration] = []
    if settings.iterations and groups.count >= 2:
        last, learnt = iterate(items, identity, grouping, settings, output)
        groups = last.groups
    ranks = representative_ranks(groups.points, groups.labels, items.frame["file"].to_numpy(object), settings.representatives)
    known, agreed = _known(items, groups.labels, settings)
    new = np.full(len(items), np.nan)
    if settings.reference and usable.any():
        new[usable] = _novelty(items.vectors[usable], identity, settings)
    print(f"{groups.count} clusters; measuring how stable they are ...", flush=True)
    count, again = groups.count, _stability(groups, grouping)
    figures: Figures = {
        "sounds": len(items),
        "recordings": len(items.recordings),
        "clusters": count,
        "smallest": grouping.smallest,
        "selection": grouping.selection,
        "clustered": groups.coverage,
        "coverage": groups.coverage,  # of the labelled sounds, where labels are known: those that the figures below are about
        "stability": None if again is None else again.agreement,
        **_quality(groups, grouping.seed),
        **({"iterations": len(learnt) - 1, "clustered_before": learnt[0].groups.coverage} if learnt else {}),
        **_agreement_before(learnt, known),
        **agreed,
    }
    silhouettes = cluster_silhouettes(groups.points, groups.labels, grouping.seed)
    stable = np.full(count, np.nan) if again is None else again.clusters
    return Clustered(items, groups.labels, groups.membership, groups.points, ranks, new, known, stable, silhouettes, figures)


def _groups(items: Items, settings: GroupingSettings) -> tuple[Groups, GroupingSettings]:
    """The groups, and how they were made: the leaves of HDBSCAN's tree, where its most stable cut puts nearly all into one.

    Sounds of the field often have no gaps between kinds but places where they are denser; and clusters are merged by one click,
    while one of everything tells nothing.
    """
    found = group(items.vectors, settings)
    if not _is_lump(found.labels) or settings.selection != "eom" or settings.method not in TREES:
        return found, settings
    leaves = replace(settings, selection="leaf")
    finer = group(items.vectors, leaves)
    if finer.count <= found.count:
        return found, settings
    print(
        f"one cluster would hold {(found.labels == 0).sum()} of {len(items)} sounds, so the {finer.count} densest parts of all "
        "are taken (--group selection=leaf)",
        flush=True,
    )
    return finer, leaves


def _is_lump(labels: np.ndarray) -> bool:
    """Whether the first cluster holds nearly all sounds, or most of those in clusters beside several that are small."""
    largest, inside = int((labels == 0).sum()), int((labels != NOISE).sum())
    several = int(labels.max(initial=NOISE)) + 1 >= SEVERAL
    return largest > LARGEST_SHARE * len(labels) or (several and largest > LARGEST_BESIDE * inside)


def _nothing() -> Groups:
    empty = np.zeros(0)
    return Groups(empty.astype(np.int32), empty.astype(np.float32), np.zeros((0, 1), np.float32), empty.astype(bool), 0)


def _list_unusable(items: Items, usable: np.ndarray, errors: ErrorLog) -> None:
    bad = items.frame[~usable]
    for file, start in zip(bad["file"], bad["start"], strict=True):
        errors.add(file, f"the vector of its sound at {start:.2f} s is not finite; the sound is in no cluster")
    if len(bad):
        print(f"warning: {len(bad)} sounds have vectors that are not finite, and are in no cluster", flush=True)


def _stability(groups: Groups, settings: GroupingSettings) -> Stability | None:
    if not groups.count:
        return None
    return stability(groups.points[groups.finite], groups.labels[groups.finite], settings)


def _quality(groups: Groups, seed: int) -> Figures:
    kept = groups.finite
    rows = np.flatnonzero(kept)[sample_rows(int(kept.sum()), VALIDITY_ROWS, seed)] if kept.any() else np.flatnonzero(kept)
    validity = density_validity(groups.points[rows], consecutive(groups.labels[rows]))
    found = describe_clusters(groups.points[kept], groups.labels[kept], groups.fitted) if kept.any() else None
    return {
        "dbcv": validity.score,
        "silhouette": found.silhouette if found else None,
        "davies_bouldin": found.davies_bouldin if found else None,
        "calinski_harabasz": found.calinski_harabasz if found else None,
    }


def cluster_silhouettes(points: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """float64 [C]: the mean silhouette of the rows of each cluster, of at most `SILHOUETTE_ROWS` in all; NaN where undefined."""
    from sklearn.metrics import silhouette_samples

    count = int(labels.max(initial=NOISE)) + 1
    kept = np.flatnonzero(labels != NOISE)
    rows = kept[sample_rows(len(kept), SILHOUETTE_ROWS, seed)] if len(kept) else kept
    if not 2 <= len(np.unique(labels[rows])) < len(rows):
        return np.full(count, np.nan)
    values = silhouette_samples(points[rows], labels[rows])
    sums, sizes = np.bincount(labels[rows], np.asarray(values), count), np.bincount(labels[rows], minlength=count)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def _known(items: Items, labels: np.ndarray, settings: DiscoverSettings) -> tuple[tuple[str, ...], Figures]:
    if not settings.labels:
        return (), {}
    table = read_known(settings.labels, settings.inputs)
    known = labels_of_items(table, items.frame)
    figures: Figures = dict(region_figures(table, items.frame, items.recordings)) if are_regions(items) else {}
    if not any(known):
        raise UserError(
            f"--labels {settings.labels} has no label for any of the {len(items)} sounds; its files must be those of --input"
        )
    labelled = np.array([bool(label) for label in known])
    figures |= agreement(np.array(known)[labelled], labels[labelled])
    figures["labelled"] = figures.pop("n")
    return tuple(known), {name: value for name, value in figures.items() if name != "clusters"}


def _agreement_before(learnt: Sequence[Iteration], known: Sequence[str]) -> Figures:
    """AMI and ARI of the first clusters, before anything was learnt of them."""
    labelled = np.array([bool(label) for label in known], bool)
    if not learnt or not labelled.any():
        return {}
    first = agreement(np.array(known)[labelled], learnt[0].groups.labels[labelled])
    return {f"{name}_before": first[name] for name in ("ami", "ari", "ami_with_noise", "ari_with_noise")}


def are_regions(items: Items) -> bool:
    """Whether the sounds were sought, and are not windows of a grid."""
    return bool(items.frame["snr_db"].notna().any())


def _novelty(vectors: np.ndarray, identity: Mapping[str, Any], settings: DiscoverSettings) -> np.ndarray:
    reference = settings.reference
    others = open_items(reference, settings.column or None)
    theirs = open_embeddings(reference).identity
    ours = {name: value for name, value in identity.items() if name in ENCODER}
    if changes := differences({name: theirs.get(name) for name in ours}, json.loads(json.dumps(ours))):
        raise UserError(f"--reference {reference} was embedded in another way: {changes}; make it anew with discover")
    others = others.take(others.usable)
    if len(others) < UNSURE:
        raise UserError(f"--reference {reference} has {len(others)} usable sounds; shares need {UNSURE} or more")
    return novelty(vectors, others.vectors, others.frame["file"].to_numpy(str), settings.grouping.seed)
