"""A run that is measured on classes it never met: it learns by episodes or as a classifier, a few examples name them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.config import EpisodicConfig, Experiment
from beats_jax.config.rules import require
from beats_jax.datasets.episode_batches import episode_batches, sampler_of
from beats_jax.datasets.episodes import EpisodeRule
from beats_jax.datasets.loader import Batch
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.evaluation.episodes.result import accuracy_interval
from beats_jax.evaluation.report.pretraining import last_figures
from beats_jax.models.fewshot.heads import FewShotHead
from beats_jax.objectives.state.state import with_parameters
from beats_jax.parallel.exchange import call_on_main, fetch, main_first
from beats_jax.parallel.mesh import check_batch_size
from beats_jax.pipelines.job import merge_errors
from beats_jax.pipelines.measuring.new_classes import NewClasses
from beats_jax.pipelines.measuring.write import read_history
from beats_jax.pipelines.training.preparation import DATA_REPORT_FILE, PreparedData
from beats_jax.pipelines.training.pretraining import write_encoder_results
from beats_jax.pipelines.training.run import Run
from beats_jax.pipelines.training.starting_point import StartingPoint, starting_point
from beats_jax.pipelines.training.statistics import with_statistics
from beats_jax.pipelines.training.workdir import write_text
from beats_jax.training.loop import Evaluate, FitResult
from beats_jax.weights.few_shot_head import SavedHead, save_head

VALIDATION_SHARE = 3  # validation takes one in so many of `evaluation.episodes`
SIMPLESHOT = FewShotHead("simpleshot")


def require_fit_for_new_classes(experiment: Experiment) -> None:
    """Raises `UserError`, before anything is read or written, for settings that do not go with classes that are held out."""
    data, objective, mode = experiment.data, experiment.objective, experiment.training.mode
    by_classes = data.split_by == "classes"
    require(
        objective.NEEDS_LABELS or not by_classes,
        f"data.split_by 'classes' needs labels; objective {objective.name} learns without: use 'rows'",
    )
    if isinstance(objective, EpisodicConfig):
        require(by_classes, "objective episodic is measured on classes that it never met: set data.split_by='classes'")
        require(mode == "full", f"training.mode is {mode!r}; objective episodic takes full, and training.freeze")
        require(not data.balanced and data.draw == "rows", "episodes draw classes and rows: unset data.balanced and data.draw")


def train_few_shot(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> dict[str, Any]:
    """Trains on the training classes; leaves model/, metrics.json and report.html, measured by episodes on the test classes.

    Returns:
      what metrics.json holds: the figures of `NewClassesRun.measure` and the last ones of the training.
    """
    call_on_main(lambda: write_text(workdir / DATA_REPORT_FILE, data.report.to_json() + "\n"))
    experiment = with_statistics(experiment, data, workdir)
    data = replace(data, vocabulary=LabelVocabulary.from_manifest(data.manifest.split("train")))
    episodic = isinstance(experiment.objective, EpisodicConfig)
    labels = () if episodic else data.vocabulary.names
    start = main_first(lambda: starting_point(experiment.model, experiment.audio, labels))
    run = (EpisodicRun if episodic else NewClassesRun)(replace(experiment, model=start.model), workdir, data)
    weights, fitted = run.train(start, run.evaluation())
    selected = weights[experiment.training.select]
    run.save(selected, labels, start, fitted)
    figures = run.measure(selected)
    merge_errors(data.errors)
    return call_on_main(lambda: _write_results(workdir, experiment, data, fitted, figures, command=command))


class NewClassesRun(Run):
    """A classifier of the training classes; validation and test are episodes of classes that it never met, by SimpleShot."""

    head, pooling = SIMPLESHOT, "mean"

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        super().__init__(experiment, workdir, data)
        splits = {name: data.manifest.split(name) for name in ("val", "test")}
        # Here, before the first step, classes with too few recordings are refused.
        held_out = {name: rows for name, rows in splits.items() if len(rows)}
        self.held_out = {name: NewClasses(rows, experiment, self.reading, data.errors) for name, rows in held_out.items()}

    def begin(self, state: Any, start: StartingPoint) -> Any:
        """The random state with the parameters of the checkpoint, if there is one."""
        if start.params is None:
            return state
        return with_parameters(state, {self.group: start.params} if self.group else start.params)

    def head_params(self, weights: Any) -> Any:
        """The parameters by which queries are compared with examples; None where there are none."""
        del weights

    def save(self, weights: Any, labels: tuple[str, ...], start: StartingPoint, fitted: FitResult) -> None:
        """Exports the encoder, or the classifier, as WORKDIR/model."""
        self.save_model(self.objective.export_params(weights), labels, start, fitted)

    def evaluation(self) -> Evaluate | None:
        """The loop's evaluation: `accuracy` and `loss` of episodes of the validation classes; None where there are none."""
        if "val" not in self.held_out:
            return None
        number = max(2, self.experiment.evaluation.episodes // VALIDATION_SHARE)

        def evaluate(weights: Any, step: int) -> dict[str, float]:
            items, classes = self._items("val", weights), self.held_out["val"]
            accuracy, loss = classes.episodes(self.head, self.head_params(weights), items, number)
            return {"loss": float(loss.mean()), "accuracy": float(accuracy.mean())}

        return evaluate

    def measure(self, weights: Any) -> dict[str, Any]:
        """The figures of the test classes, or of the validation classes where there is no test; empty where there is neither.

        Returns:
          `accuracy` over `n` episodes with `_low` and `_high` (95 %, normal), `simpleshot_accuracy` of the same embeddings
          likewise, `n_way`, `n_shot`, `n_query`, `classes`.
        """
        name = "test" if "test" in self.held_out else "val"
        if name not in self.held_out:
            return {}
        classes, items, number = self.held_out[name], self._items(name, weights), self.experiment.evaluation.episodes
        figures = _interval("accuracy", classes.episodes(self.head, self.head_params(weights), items, number)[0])
        if not self.head.reads_maps and self.head != SIMPLESHOT:
            figures |= _interval("simpleshot_accuracy", classes.episodes(SIMPLESHOT, None, items, number)[0])
        rule = classes.sampler.rule
        sizes = {"n_way": rule.n_way, "n_shot": rule.n_shot, "n_query": rule.n_query, "classes": classes.classes}
        return {**figures, "n": number, **sizes}

    def _items(self, name: str, weights: Any) -> np.ndarray:
        classes, params = self.held_out[name], self.objective.export_params(weights)
        return classes.maps(params) if self.head.reads_maps else classes.vectors(params, self.pooling)


class EpisodicRun(NewClassesRun):
    """A run that learns by episodes."""

    group = "model"

    def __init__(self, experiment: Experiment, workdir: Path, data: PreparedData) -> None:
        assert isinstance(experiment.objective, EpisodicConfig)
        self.settings_of_episodes = config = experiment.objective
        self.head, self.pooling = FewShotHead(config.method), config.pooling
        rows = data.manifest.split("train")
        rule = EpisodeRule(config.n_way, config.n_shot, config.n_query, experiment.training.seed, config.disjoint)
        self.sampler = sampler_of(rows, rule)
        experiment = replace(experiment, data=replace(experiment.data, batch_size=config.clips_per_step))
        super().__init__(experiment, workdir, data)

    def _steps_per_epoch(self) -> int:
        config = self.settings_of_episodes
        return -(-config.episodes_per_epoch // config.episodes_per_step)

    def _check_batch_sizes(self) -> None:
        """Raises `UserError` for a step that does not divide over devices, or whose episodes do not over its parts."""
        config, parts = self.settings_of_episodes, self.experiment.training.accumulation_steps
        check_batch_size(self.mesh, config.clips_per_step, 1, "episodes_per_step x n_way x (n_shot + n_query)")
        if config.episodes_per_step % parts:
            check_batch_size(self.mesh, config.episodes_per_step, parts, "objective.episodes_per_step")

    def batches(self, start_step: int) -> Generator[Batch, None, None]:
        """Batches of whole episodes from `start_step` on."""
        experiment, episodes = self.experiment, self.settings_of_episodes.episodes_per_step
        rows = (self.train_rows, self.sampler, episodes, experiment.data, experiment.audio)
        return self._without_changed(episode_batches(*rows, **self._place(start_step)))

    def describe_start(self, state: Any) -> list[str]:
        """As every run, without the advice to draw by time, which episodes do not."""
        return [line for line in super().describe_start(state) if "data.draw" not in line]

    def head_params(self, weights: Any) -> Any:
        return weights.get("head")

    def save(self, weights: Any, labels: tuple[str, ...], start: StartingPoint, fitted: FitResult) -> None:
        """Exports the encoder as WORKDIR/model, and beside its tensors how it compares queries with examples."""
        super().save(weights, labels, start, fitted)
        config, params = self.settings_of_episodes, self.head_params(weights)
        head = SavedHead(
            config.method, config.pooling, self.experiment.data.window_seconds, None if params is None else fetch(params)
        )
        call_on_main(lambda: save_head(self.workdir / "model", head))


def _interval(name: str, accuracy: np.ndarray) -> dict[str, float | None]:
    """Mean over episodes and its 95 % interval by the normal distribution, as few-shot papers give it."""
    found = accuracy_interval(accuracy)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _write_results(
    workdir: Path, experiment: Experiment, data: PreparedData, fitted: FitResult, figures: dict[str, Any], *, command: str
) -> dict[str, Any]:
    history = read_history(workdir)
    metrics = {"steps": fitted.steps, "best_step": fitted.best_step, **last_figures(history), **figures}
    facts = {"objective": experiment.objective.name, "steps": fitted.steps, "exported model": str(workdir / "model")}
    title = f"{experiment.name}: classes learnt from a few examples"
    findings = _sentences(figures)
    write_encoder_results(workdir, experiment, data, title, facts, history, metrics, findings=findings, command=command)
    return metrics


def _sentences(figures: dict[str, Any]) -> list[str]:
    """The outcome on new classes; empty where nothing was measured."""
    if not figures:
        return ["No classes were held out: nothing is measured."]
    task = f"{figures['n_way']} of {figures['classes']} new classes, {figures['n_shot']} examples each, {figures['n']} episodes"
    names = {"accuracy": "accuracy", "simpleshot_accuracy": "by SimpleShot"}
    return [
        f"{task}: {word} {figures[name]:.3f} [{figures[f'{name}_low']:.3f}, {figures[f'{name}_high']:.3f}]"
        for name, word in names.items()
        if name in figures
    ]
