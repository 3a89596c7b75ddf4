"""Meta Embedded Clustering: clusters → labels to learn from → an encoder that has learnt them → clusters, until they settle.

    model ─ embed ─> vectors [N, D] ─ scale, reduce, cluster ─> labels [N] ─ few-shot episodes of the clusters ─> model ─ ...

`mec` is darksound's first version with a rule to stop, `one_pass` its second. What each stage is good for is measured in
docs/discovery_methods.md. An iteration that is finished is not computed again: its folder holds clusters and figures.

FOLDER/mec.json                      the settings and what they depend on
FOLDER/iteration-00/clusters.npz     labels, membership, points
FOLDER/iteration-00/iteration.json   figures, the model that embedded; written last
FOLDER/iteration-00/...              what `learn` leaves: the run that makes the next model
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from beats_jax.config import to_mapping
from beats_jax.config.rules import Settings, bounded, one_of
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.grouping.agreement import at_coverage
from beats_jax.evaluation.embeddings.grouping.group import Groups
from beats_jax.evaluation.embeddings.grouping.selection import Candidate, measure, select
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings, upstream_v1, upstream_v2
from beats_jax.evaluation.embeddings.neighbours import unit_vectors
from beats_jax.files import whole_file
from beats_jax.inference.store import differences
from beats_jax.json_files import read_json
from beats_jax.pipelines.training.workdir import write_json

RECORD = "mec.json"
WHEN_AND_WHICH = ("iterations", "settled", "choose")  # when to stop, and which to take: no iteration depends on them
DIMENSIONS = (5, 10, 15, 20, 25)  # of upstream's second version
Embed = Callable[[str], np.ndarray]  # a model's name or file → vectors [N, D], always of the same N rows in one order


@dataclass(frozen=True)
class MecSettings(Settings):
    """How often clusters are learnt, and how they are sought.

    Attributes:
      iterations: times that an encoder learns from clusters; 0 = the clusters of the first model alone.
      settled: adjusted Rand index of two iterations' clusters, rows in none as one more, from which on they count as settled.
      surest: share of the rows in clusters that are learnt, those with the highest membership; 1 = all, as upstream.
      anchored: whether later iterations see the first model's vectors beside their own, each of length 1; False = their own,
        as upstream, which forgets what few clusters do not tell apart.
      choose: which iteration is the result: the `last`; `dbcv`, the highest of those with the most frequent number of clusters,
        as upstream; `first`.
      grouping: scale, reduction and method.
    """

    GROUP: ClassVar[str] = "mec"

    iterations: int = bounded(3, ge=0, le=1000)
    settled: float = bounded(0.98, gt=0, le=1)
    surest: float = bounded(0.8, gt=0, le=1)
    anchored: bool = True
    choose: str = one_of("last", "dbcv", "first")
    grouping: GroupingSettings = field(default_factory=GroupingSettings)


def darksound_v1(n_shot: int = 5, n_query: int = 1, iterations: int = 20, seed: int = 0) -> MecSettings:
    """Upstream's first version: it has no rule to stop, learns all rows in clusters and chooses by DBCV."""
    grouping = upstream_v1(n_shot, n_query, seed=seed)
    return MecSettings(iterations=iterations, settled=1.0, surest=1.0, anchored=False, choose="dbcv", grouping=grouping)


@dataclass(frozen=True)
class Iteration:
    """The clusters of one model.

    Attributes:
      number: 0 = of the model at the start. model: that embedded. groups: see `group`.
      dbcv, silhouette: without labels; None = undefined. same: adjusted Rand index with the iteration before; None for the first.
    """

    number: int
    model: str
    groups: Groups
    dbcv: float | None
    silhouette: float | None
    same: float | None

    def row(self) -> dict[str, Any]:
        """A row of a table, fit for JSON."""
        figures = {"dbcv": self.dbcv, "silhouette": self.silhouette, "same": self.same}
        counts = {"clusters": self.groups.count, "coverage": self.groups.coverage}
        return {"iteration": self.number, "model": self.model, **counts, **figures}


@dataclass(frozen=True)
class Learning:
    """What `learn` is given. labels: int32 [N], -1 = not learnt. model: of the iteration, where the next starts."""

    labels: np.ndarray
    model: str
    iteration: int
    folder: Path


Learn = Callable[[Learning], str]  # trains in `folder`, or resumes there, and returns the next model's name or file


def mec(
    embed: Embed,
    learn: Learn,
    model: str,
    folder: Path,
    settings: MecSettings | None = None,
    identity: Mapping[str, Any] | None = None,
) -> tuple[Iteration, list[Iteration]]:
    """Runs the iterations that `folder` does not hold yet.

    Args:
      embed, learn: `mec_encoder.embedder` and `mec_encoder.learner` give both for regions of recordings. model: the first.
      identity: what the vectors depend on, fit for JSON: the folder of another identity is refused.
    Returns:
      The chosen iteration, and all of them. They end where clusters settle, or fewer than two of them are left to learn.
    Raises:
      UserError: a folder of other settings, or a damaged one.
    """
    settings = settings or MecSettings()
    lasting = {name: value for name, value in to_mapping(settings).items() if name not in WHEN_AND_WHICH}
    _open(folder, {"settings": lasting, "model": model, **(identity or {})})

    @cache
    def first() -> np.ndarray:
        return embed(model)

    def vectors(name: str, number: int) -> np.ndarray:
        if not number:
            return first()
        own = embed(name)
        return np.concatenate([unit_vectors(first()), unit_vectors(own)], axis=1) if settings.anchored else own

    found = [_iteration(lambda: model, vectors, [], folder, settings)]
    while (labels := _to_learn(found, settings)) is not None:
        newest = found[-1]
        given = Learning(labels, newest.model, newest.number, _place(folder, newest.number))
        found.append(_iteration(partial(learn, given), vectors, found, folder, settings))
    return _chosen(found, settings.choose), found


def one_pass(
    vectors: np.ndarray, dimensions: Sequence[int] = DIMENSIONS, seed: int = 0, **changed: Any
) -> tuple[Candidate, list[Candidate]]:
    """Upstream's second version: densMAP to each number of dimensions, DBSCAN, and of them the one with the highest DBCV.

    Args:
      vectors: float [N, D]. changed: settings of `upstream_v2`, such as `knee="kth"`, which is the k-th neighbour's distance.
    Raises:
      UserError: umap-learn is not installed.
    """
    return select(vectors, [upstream_v2(each, seed=seed, **changed) for each in dimensions], by="dbcv")


def learnt_labels(groups: Groups, surest: float) -> np.ndarray:
    """Labels int32 [N] of the surest rows of each cluster, by size; -1 for the others."""
    labels = np.full_like(groups.labels, -1)
    for cluster in range(groups.count):
        rows = np.flatnonzero(groups.labels == cluster)
        kept = at_coverage(np.zeros(len(rows), np.int32), groups.membership[rows], surest) >= 0
        labels[rows[kept]] = cluster
    return labels


def _to_learn(found: list[Iteration], settings: MecSettings) -> np.ndarray | None:
    """The labels that come next; None where clusters have settled, or there are too few, or enough iterations."""
    newest = found[-1]
    labels = learnt_labels(newest.groups, settings.surest)
    settled = newest.same is not None and newest.same >= settings.settled
    enough = len(found) > settings.iterations or int(labels.max(initial=-1)) < 1
    return None if settled or enough else labels


def _place(folder: Path, number: int) -> Path:
    return folder / f"iteration-{number:02d}"


def _iteration(
    next_model: Callable[[], str],
    vectors: Callable[[str, int], np.ndarray],
    before: list[Iteration],
    folder: Path,
    settings: MecSettings,
) -> Iteration:
    """The next iteration, read where it is finished; only then nothing is learnt and embedded."""
    from sklearn.metrics import adjusted_rand_score

    place = _place(folder, len(before))
    if (known := _read(place, len(before))) is not None:
        return known
    model = next_model()
    one = measure(vectors(model, len(before)), settings.grouping)
    same = float(adjusted_rand_score(before[-1].groups.labels, one.groups.labels)) if before else None
    found = Iteration(len(before), model, one.groups, one.dbcv, one.silhouette, same)
    place.mkdir(parents=True, exist_ok=True)
    with whole_file(place / "clusters.npz") as file:
        np.savez(file, **{name: value for name, value in asdict(one.groups).items() if name != "fitted"})
    write_json(place / "iteration.json", {**found.row(), "fitted": one.groups.fitted})
    print(f"iteration {found.number}: {_in_words(found)}", flush=True)
    return found


def _read(place: Path, number: int) -> Iteration | None:
    record = place / "iteration.json"
    if not record.is_file():
        return None
    row = read_json(record, {"model": str, "fitted": int}, remedy=f"delete {place}")
    try:
        with np.load(place / "clusters.npz") as arrays:
            groups = Groups(**{name: arrays[name] for name in arrays.files}, fitted=row["fitted"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place / 'clusters.npz'} cannot be read ({error}); delete {place}") from error
    return Iteration(number, row["model"], groups, row["dbcv"], row["silhouette"], row["same"])


def _open(folder: Path, identity: dict[str, Any]) -> None:
    """Records what the folder is of. Raises `UserError` for that of something else."""
    own, record = json.loads(json.dumps(identity)), folder / RECORD
    if record.is_file():
        if changes := differences(read_json(record, remedy=f"delete {folder}"), own):
            raise UserError(f"{folder} holds clusters of other settings: {changes}; give another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, own)


def _chosen(found: list[Iteration], how: str) -> Iteration:
    if how in ("first", "last"):
        return found[0 if how == "first" else -1]
    usual = Counter(each.groups.count for each in found).most_common(1)[0][0]
    alike = [each for each in found if each.groups.count == usual]
    return max(alike, key=lambda each: -np.inf if each.dbcv is None else each.dbcv)


def _in_words(one: Iteration) -> str:
    parts = [f"{one.groups.count} clusters of {one.groups.coverage:.0%} of the sounds"]
    parts += [f"DBCV {one.dbcv:.2f}"] if one.dbcv is not None else []
    parts += [f"{one.same:.2f} like the one before"] if one.same is not None else []
    return ", ".join(parts)
