"""Splits rows for training, validation and test: as the data gives them, by fold, or drawn so that groups stay together.

A group must not be on both sides: rows of one file, rows that share a group name, (once validation has hashed the files) files
with the same bytes or the same sound, and (where a column made the folds, see `folds`) rows that agree in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from beats_jax.config.schema import DataConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.class_splits import draw_classes, require_classes_apart
from beats_jax.datasets.distinct import distinct
from beats_jax.datasets.manifest import SPLITS, Manifest, text_column
from beats_jax.errors import UserError

REVIEWED = "reviewed"  # metadata column of rows that only train (`sources.review.add_reviewed`)
FOLD_GROUP = "fold_group"  # metadata column by which `folds.grouped_folds` keeps rows together
SYNONYMS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "development": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip


def normalise_split(name: str) -> str:
    """train, val or test from the names that data sets use. Raises `UserError` naming the nearest known name."""
    known = SYNONYMS.get(name.strip().lower())
    if known is None:
        raise UserError(f"split {name!r} is not known; {nearest(name.strip().lower(), list(SYNONYMS))}")
    return known


def group_codes(manifest: Manifest) -> np.ndarray:
    """int64 [N]: the same number for rows with the same file, group name, content or `FOLD_GROUP`, also by a chain of these."""
    codes = distinct(manifest.files)[1]
    columns = [manifest.groups, *(manifest.metadata[name] for name in ("content", FOLD_GROUP) if name in manifest.metadata)]
    for column in columns:
        named = np.flatnonzero(column != "")
        if len(named):
            codes = _join(codes, named, distinct(column[named])[1])
    return codes


def _join(codes: np.ndarray, rows: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Merges the groups of `codes` whose `rows` share a name: connected components of the graph groups - names."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    groups = int(codes.max()) + 1
    size = groups + int(names.max()) + 1
    edges = coo_matrix((np.ones(len(rows), np.int8), (codes[rows], groups + names)), shape=(size, size))
    return connected_components(edges, directed=False)[1][codes].astype(np.int64)


def assign_splits(manifest: Manifest, data: DataConfig) -> Manifest:
    """Gives every row a split.

    `data.fold` names the test fold. Without it rows keep their splits (all or none must have one); else whole groups are drawn
    for `train_split`, `val_split` and `test_split`, each class as near to these shares as groups allow (greedy iterative
    stratification, Sechidis et al. 2011). With `data.split_by` "classes" whole classes are drawn instead, and splits of the data
    must have no class in common. The same `split_seed` gives the same splits. Rows of `data.reviewed` train; those of a
    group that is measured are left out, so that the others have the splits that they have without them.

    Raises:
      UserError: some rows have a split and others not; the fold does not exist; `data.fold` is "all" (several experiments: call
        `fold_manifest` for each of `folds`); no row for training; see `class_splits`.
    """
    if REVIEWED in manifest.metadata and (added := manifest.metadata[REVIEWED] != "").any():
        return _with_added(manifest, added, data)
    given = manifest.splits != ""
    if data.fold:
        if data.fold == "all":
            raise UserError("data.fold is 'all', which is one experiment per fold; choose one fold here")
        return fold_manifest(manifest, data.fold, data)
    if given.any():
        if not given.all():
            row = int(np.flatnonzero(~given)[0])
            raise UserError(
                f"{int((~given).sum())} rows have no split, the first is {manifest.files[row]}; give all or none a split"
            )
        if not (manifest.splits == "train").any():
            raise UserError("no row is in the split 'train'; the split column must name training rows")
        if data.split_by == "classes":
            require_classes_apart(manifest)
        return manifest
    if data.split_by == "classes":
        return manifest.with_splits(draw_classes(manifest, data))
    return manifest.with_splits(_draw(manifest, data))


def _with_added(manifest: Manifest, added: np.ndarray, data: DataConfig) -> Manifest:
    """`assign_splits` where rows (bool [N]) are added for training."""
    splits = text_column(["train"] * len(manifest))
    splits[~added] = assign_splits(manifest.take(~added), data).splits
    codes = group_codes(manifest)
    shared = added & np.isin(codes, codes[splits != "train"])
    note = [f"{int(shared.sum())} reviewed clips are left out, because their recordings are measured"] if shared.any() else []
    return manifest.with_splits(splits).take(~shared).with_notes(*note)


def folds(manifest: Manifest) -> tuple[str, ...]:
    """The folds of the data, sorted, numbers by value. Raises `UserError` when the data has none."""
    if "fold" not in manifest.metadata:
        raise UserError("data.fold is set but the data has no folds; leave it empty or give the table a column 'fold'")
    names = [str(name) for name in np.unique(manifest.metadata["fold"])]
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def fold_manifest(manifest: Manifest, fold: str, data: DataConfig) -> Manifest:
    """The manifest with one fold as test and the others as train, of which `data.fold_val_split` is drawn for validation.

    Raises `UserError` for an unknown fold.
    """
    known = folds(manifest)
    if fold not in known:
        raise UserError(f"data.fold is {fold!r}; the folds are {', '.join(known)}, or all")
    splits = np.where(manifest.metadata["fold"] == fold, "test", "train")
    if data.fold_val_split:
        others = np.flatnonzero(splits == "train")
        shares = replace(data, train_split=1 - data.fold_val_split, val_split=data.fold_val_split, test_split=0.0)
        splits[others] = _draw(manifest.take(others), shares)
    return manifest.with_splits(splits)


def draw_folds(manifest: Manifest, count: int, seed: int) -> np.ndarray:
    """int64 [N]: one of `count` folds for every row, drawn as in `assign_splits` with equal shares.

    Raises:
      UserError: fewer groups than folds.
    """
    codes, groups = numbered_groups(manifest)
    if groups < count:
        raise UserError(f"{count} folds need as many recordings or groups, and the data has {groups}; take fewer folds")
    return deal(manifest, codes, np.full(count, 1 / count), seed)


def numbered_groups(manifest: Manifest) -> tuple[np.ndarray, int]:
    """`group_codes` numbered from 0 without gaps, and the number of groups."""
    names, codes = np.unique(group_codes(manifest), return_inverse=True)
    return codes, len(names)


def _draw(manifest: Manifest, data: DataConfig) -> np.ndarray:
    shares = np.array([data.train_split, data.val_split, data.test_split])
    return np.array(SPLITS)[deal(manifest, numbered_groups(manifest)[0], shares, data.split_seed)]


def deal(manifest: Manifest, codes: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """int [N]: the part of every row. Groups with rare classes come first, and each goes to the part that needs it most.

    Args:
      codes: int [N], the group of each row, numbered from 0 without gaps.
      shares: float [P] of the P parts, with sum 1; a part with share 0 gets nothing.
    """
    sizes = np.bincount(codes)
    counts = _group_label_counts(manifest, codes, len(sizes))
    totals = np.bincount(manifest.labels.ids, minlength=len(manifest.labels.names))
    want = [[share * total for total in totals.tolist()] for share in shares.tolist()]
    room = (shares * len(manifest)).tolist()
    open_parts = [k for k in range(len(shares)) if shares[k] > 0]
    chosen = np.zeros(len(sizes), np.int64)
    for group in _order(counts, sizes, totals, seed):
        labels = counts[group]
        need = [(sum(n * want[k][c] / totals[c] for c, n in labels), room[k] / len(manifest), -k) for k in open_parts]
        best = -max(need)[2]
        chosen[group] = best
        room[best] -= int(sizes[group])
        for c, n in labels:
            want[best][c] -= n
    return chosen[codes]


def _group_label_counts(manifest: Manifest, codes: np.ndarray, groups: int) -> list[list[tuple[int, int]]]:
    """For every group its (label, rows with that label)."""
    width = max(1, len(manifest.labels.names))
    pairs, number = np.unique(codes[manifest.labels.rows] * width + manifest.labels.ids, return_counts=True)
    counts: list[list[tuple[int, int]]] = [[] for _ in range(groups)]
    for pair, n in zip(pairs.tolist(), number.tolist(), strict=True):
        counts[pair // width].append((pair % width, n))
    return counts


def _order(counts: list[list[tuple[int, int]]], sizes: np.ndarray, totals: np.ndarray, seed: int) -> list[int]:
    """Groups with a rare class first, then large ones; equal ones in an order drawn from the seed."""
    rarest = np.array([min((int(totals[c]) for c, _ in labels), default=len(sizes) + int(totals.sum())) for labels in counts])
    luck = np.random.default_rng(seed).permutation(len(sizes))
    return np.lexsort((luck, -sizes, rarest)).tolist()


@dataclass(frozen=True)
class Leak:
    """A file, group or content (`kind`) named `what` that is in more than one split."""

    kind: str
    what: str
    splits: tuple[str, ...]


def leakage(manifest: Manifest) -> tuple[Leak, ...]:
    """Files, groups and contents in more than one split. Rows without a split do not count."""
    decided = manifest.take(manifest.splits != "")
    columns = {"file": decided.files, "group": decided.groups}
    shared: frozenset[str] = frozenset()
    if "content" in decided.metadata:
        columns["content"] = decided.metadata["content"]
        shared = _in_several_files(columns["content"], decided.files)
    found = []
    for kind, column in columns.items():
        for what, splits, row in _in_several(column, decided.splits):
            # a content has the name of a file that holds it, and counts only if several files do
            if kind != "content":
                found.append(Leak(kind, what, splits))
            elif what in shared:
                found.append(Leak(kind, str(decided.files[row]), splits))
    return tuple(found)


def _in_several_files(contents: np.ndarray, files: np.ndarray) -> frozenset[str]:
    """Contents that more than one file has."""
    (names, content), (known, file) = distinct(contents), distinct(files)
    pairs = np.unique(content * len(known) + file)
    return frozenset(names[np.bincount(pairs // max(1, len(known)), minlength=len(names)) > 1].tolist())


def _in_several(column: np.ndarray, splits: np.ndarray) -> list[tuple[str, tuple[str, ...], int]]:
    """(value, splits, first row) of the values that occur in more than one split; "" is no value."""
    rows = np.flatnonzero(column != "")
    if not len(rows):
        return []
    values, codes = distinct(column[rows])
    first = np.unique(codes, return_index=True)[1]
    inside = np.stack([np.bincount(codes[splits[rows] == name], minlength=len(values)) > 0 for name in SPLITS], axis=1)
    several = np.flatnonzero(inside.sum(axis=1) > 1)
    return [
        (str(values[k]), tuple(name for name, there in zip(SPLITS, inside[k], strict=True) if there), int(rows[first[k]]))
        for k in several
    ]
