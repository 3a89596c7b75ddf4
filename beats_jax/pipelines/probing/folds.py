"""The data of a probe: how recordings are read, their folds and targets, and which of them the encoder knows already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from beats_jax.config import DataConfig
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.splits import draw_folds, folds, group_codes
from beats_jax.errors import UserError
from beats_jax.evaluation.probes.nested import TEST
from beats_jax.pipelines.measuring.seen_rows import known_to
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, read_experiment
from beats_jax.weights.pretrained import read_memory

LEAST_FOLDS = 3


@dataclass(frozen=True)
class FoldPlan:
    """K folds of N rows."""

    codes: np.ndarray  # int64 [N], 0 .. K-1, or -1 (`nested.TEST`) for the data's own test rows
    names: tuple[str, ...]
    drawn: bool  # whether they were drawn here, and can be drawn again
    crossing: int = 0  # recordings or groups in more than one fold, which only the data's own folds can have

    @property
    def sentence(self) -> str:
        """The folds in the report's words."""
        if (self.codes == TEST).any():
            how = f"The data's own test split is measured; {len(self.names)} folds of the other rows choose."
        else:
            how = f"{len(self.names)} folds; each is measured once by a probe that the other folds choose."
        return f"{how} {'They were drawn by group, classes spread evenly.' if self.drawn else 'They are the folds of the data.'}"


def base_data(model: str) -> DataConfig:
    """How recordings are read: as the run does where the model is a run, otherwise by the defaults.

    Only a run with labels decides whether a clip may have several.
    """
    run = Path(model).expanduser()
    if not (run / EXPERIMENT_FILE).is_file():
        return DataConfig()
    experiment = read_experiment(run)
    labelled = experiment.objective.NEEDS_LABELS
    return replace(experiment.data, multi_label=experiment.data.multi_label and labelled)


def plan_folds(manifest: Manifest, count: int, seed: int) -> FoldPlan:
    """The data's own test split, or its own folds (three at least), or `count` folds drawn by groups.

    Raises:
      UserError: fewer groups than folds, fewer than three folds, some rows with a split and others without.
    """
    given = manifest.splits != ""
    if given.any() and not given.all():
        raise UserError(f"{int((~given).sum())} of {len(manifest)} rows have no split; give all or none a split")
    test = manifest.splits == "test"
    rest = manifest.take(~test)
    names = folds(manifest) if "fold" in manifest.metadata and not test.any() else ()
    if len(names) >= LEAST_FOLDS:
        place = {name: k for k, name in enumerate(names)}
        codes = np.array([place[fold] for fold in manifest.metadata["fold"].tolist()], np.int64)
        return FoldPlan(codes, names, False, _crossing(manifest, codes))
    enough_folds(count)
    if not len(rest):
        raise UserError("every row is in the split 'test'; a probe needs others to learn from")
    codes = np.full(len(manifest), TEST, np.int64)
    codes[~test] = draw_folds(rest, count, seed)
    return FoldPlan(codes, tuple(str(k + 1) for k in range(count)), True, _crossing(manifest, codes))


def _crossing(manifest: Manifest, codes: np.ndarray) -> int:
    """Groups with rows in more than one fold."""
    pairs = np.unique(np.stack([group_codes(manifest), codes], axis=1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def enough_folds(count: int) -> None:
    """Raises `UserError` below three."""
    if count < LEAST_FOLDS:
        raise UserError(f"{count} folds; one tests, one chooses and one trains, so --folds is at least {LEAST_FOLDS}")


def targets_of(manifest: Manifest, vocabulary: LabelVocabulary, multi_label: bool) -> np.ndarray:
    """float32 [N, C], one-hot or several.

    Raises:
      UserError: a row without exactly one label, unless `multi_label`.
    """
    targets = np.zeros((len(manifest), len(vocabulary)), np.float32)
    for row in range(len(manifest)):
        labels = manifest.labels[row]
        if not multi_label and len(labels) != 1:
            raise UserError(f"{manifest.files[row]} has {len(labels)} labels {list(labels)}; give --multi-label or one label")
        targets[row, [vocabulary.index(label) for label in labels]] = 1
    return targets


def known_to_the_run(model: str, manifest: Manifest) -> np.ndarray | None:
    """bool [N]: rows that a model was trained on or chosen by, by the content of their files.

    False for every row where the model is no run of ours; None for a run that has no record of its rows.
    """
    seen = read_memory(model)
    if seen is not None:
        return known_to(seen, manifest)
    return None if (Path(model).expanduser() / EXPERIMENT_FILE).is_file() else np.zeros(len(manifest), bool)


def fold_notes(targets: np.ndarray, plan: FoldPlan, names: tuple[str, ...]) -> list[str]:
    """Sentences on groups in several folds, and on classes that cannot be learnt in some fold."""
    members = targets.sum(axis=0)
    single = [name for name, number in zip(names, members.tolist(), strict=True) if number == 1]
    notes = []
    if plan.crossing:
        notes.append(
            f"{plan.crossing} recordings or groups are in more than one fold of the data: figures on new ones would be lower."
        )
    if single:
        notes.append(f"{_some(single)}: a single example, which is either learnt or measured, never both.")
    outer = [TEST] if (plan.codes == TEST).any() else range(len(plan.names))
    absent: set[str] = set()
    for fold in outer:
        only_here = (targets[plan.codes == fold].sum(axis=0) > 0) & (targets[plan.codes != fold].sum(axis=0) == 0)
        absent |= {names[k] for k in np.flatnonzero(only_here).tolist()} - set(single)
    if absent:
        notes.append(f"{_some(sorted(absent))}: in a test fold but not in the others, which cannot learn it.")
    return notes


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
