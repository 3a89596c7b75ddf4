"""Stage 1: what known classifiers reach on the same splits, from pictures and from tables of features."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.evaluation.embeddings.maps import fit_principal
from beats_jax.evaluation.metrics.classification import compute_metrics
from beats_jax.json_files import read_json
from beats_jax.pipelines.studying.arms import Arms
from beats_jax.pipelines.studying.classifier import Pool, Recipe, Weights, fit, predict
from beats_jax.pipelines.studying.features import FACTS
from beats_jax.pipelines.studying.networks import CNN, MLP, TRANSFORMER
from beats_jax.pipelines.studying.settings import StudySettings
from beats_jax.pipelines.studying.store import ALL, Fit, Outcome, Store
from beats_jax.pipelines.training.workdir import write_json

SHARES = (0.1, 0.25, 0.5)  # of the training rows: the learning curve
TREES, COMPONENTS, LOOKS = 300, 50, 10
STEPS = {TRANSFORMER: 1.5}  # times the steps of the arms: it learns more slowly


@dataclass(frozen=True)
class Baselines:
    """Fits the baselines that a store does not hold.

    Attributes:
      curves: folder of the learning curves over steps, one JSON a network.
    """

    settings: StudySettings
    arms: Arms
    store: Store
    curves: Path

    def run(self, say: Callable[[str], None]) -> None:
        """Every baseline on all training rows, and the CNN on shares of them."""
        for fitted in self.fits():
            if not self.store.has(fitted):
                begun = time.monotonic()
                try:
                    val, test = self._fit(fitted)
                    outcome = Outcome(val, test, time.monotonic() - begun)
                except FloatingPointError as error:  # the others go on, and the page says so
                    outcome = Outcome(None, None, time.monotonic() - begun, failure=str(error))
                self.store.write(fitted, outcome)
                say(f"baseline {fitted.name.split('/')[1]} of {_size(fitted)}: {outcome.failure or f'{outcome.seconds:.0f} s'}")

    def fits(self) -> list[Fit]:
        """In order; a size is a number of training rows, `ALL` all of them."""
        rows = len(self.arms.usable("train"))
        sizes = [int(share * rows) for share in SHARES if int(share * rows) >= 2 * len(self.arms.rows.vocabulary)]
        sizes = sizes if CNN in self.settings.baselines else []
        return [*(Fit(ALL, name, 0.0, 0) for name in self.settings.baselines), *(Fit(size, CNN, 0.0, 0) for size in sizes)]

    def curve(self, kind: str) -> list[dict[str, Any]]:
        """Rows {"step", "train/loss", "val/accuracy", ...} of a network; empty where there is none."""
        path = self.curves / f"{kind}.json"
        return read_json(path, [dict]) if path.is_file() else []

    def _fit(self, fitted: Fit) -> tuple[np.ndarray, np.ndarray]:
        train, val, test = (self.arms.usable(split) for split in ("train", "val", "test"))
        labels = self.arms.rows.labels
        if fitted.size != ALL:
            train = _stratified(train, labels[train], fitted.size)
        if fitted.arm in (CNN, MLP, TRANSFORMER):
            return self._network(fitted, train, val, test)
        classifier, _, what = fitted.arm.rpartition("_")
        values = self._table(what, train)
        model = _tree_model(classifier)
        model.fit(values[train], labels[train])
        classes = len(self.arms.rows.vocabulary)
        return _in_all_classes(model, values[val], classes), _in_all_classes(model, values[test], classes)

    def _table(self, what: str, train: np.ndarray) -> np.ndarray:
        """float32 [N, K]: features, components of the pictures, or what needs no frequency (level, peaks, clipping, mean)."""
        if what == "picture":
            return self._components(train)
        pictures = self.arms.pictures
        return pictures.features if what == "features" else pictures.facts[:, : FACTS.index("seconds")]

    def _components(self, train: np.ndarray) -> np.ndarray:
        """Principal components of the pictures, found on the training rows; float32 [N, K]."""
        flat = self.arms.pictures.images.reshape(len(self.arms.pictures.images), -1)
        return fit_principal(flat[train], COMPONENTS).project(flat)

    def _network(self, fitted: Fit, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, labels, classes = self.arms.pictures.images, self.arms.rows.labels, len(self.arms.rows.vocabulary)
        steps = round(STEPS.get(fitted.arm, 1.0) * self.settings.steps)
        recipe = Recipe(fitted.arm, classes, steps, self.settings.batch_size, augmented=fitted.arm == CNN)
        history: list[dict[str, Any]] = []

        def look(step: int, weights: Weights, loss: float) -> None:
            found = compute_metrics(labels[val], predict(weights, fitted.arm, classes, images[val]), multi_label=False)
            shown = {f"val/{name}": found[name] for name in ("accuracy", "auroc", "f1_macro") if np.isfinite(found[name])}
            history.append({"step": step, "train/loss": loss, **shown})

        pool = Pool(images[train], labels[train], np.ones(classes, np.float32), recipe.augmented)
        every = max(1, steps // LOOKS) if fitted.size == ALL else 0
        weights = fit(pool, recipe, fitted.seed, every=every, look=look)
        if history:
            self.curves.mkdir(parents=True, exist_ok=True)
            write_json(self.curves / f"{fitted.arm}.json", json.loads(json.dumps(history)))
        return predict(weights, fitted.arm, classes, images[val]), predict(weights, fitted.arm, classes, images[test])


def _tree_model(name: str) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    if name == "random_forest":
        return RandomForestClassifier(TREES, class_weight="balanced_subsample", n_jobs=1, random_state=0)
    options: Any = {"early_stopping": False, "random_state": 0}
    return HistGradientBoostingClassifier(max_iter=100, **options)


def _in_all_classes(model: Any, values: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities float32 [N, C]; 0 for a class that the training rows lack."""
    found = np.zeros((len(values), classes), np.float32)
    found[:, model.classes_] = model.predict_proba(values)
    return found


def _stratified(rows: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """`size` of the rows or a few more, each class by its share and one at least."""
    rng, chosen = np.random.default_rng(0), []
    for c in np.unique(labels).tolist():
        own = rows[labels == c]
        chosen.append(rng.permutation(own)[: max(1, round(size * len(own) / len(rows)))])
    return np.concatenate(chosen)


def _size(fitted: Fit) -> str:
    return "all training rows" if fitted.size == ALL else f"{fitted.size} training rows"


def shown_names(names: Sequence[str]) -> list[str]:
    """For readers: `random forest, features`."""
    ends = {"features": "features", "picture": "components of the picture", "level": "level alone"}
    return [
        f"{name.rpartition('_')[0].replace('_', ' ')}, {ends[name.rpartition('_')[2]]}" if "_" in name else f"{name}, picture"
        for name in names
    ]
