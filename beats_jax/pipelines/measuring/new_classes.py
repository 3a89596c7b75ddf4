"""Classes that a run has never met: what their recordings are to its encoder, and how well a few examples name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import num_frames
from beats_jax.config import EvaluationConfig, Experiment
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.episode_batches import sampler_of
from beats_jax.datasets.episodes import EpisodeRule
from beats_jax.datasets.manifest import Manifest
from beats_jax.inference.grid import Grid, evaluation_grid
from beats_jax.inference.job import answer_rows
from beats_jax.inference.program import Architecture, ModelProgram, Outputs
from beats_jax.inference.reduce import EachWindow, Pooled, Row
from beats_jax.inference.stream import Stretches
from beats_jax.models.fewshot.heads import FewShotHead, to_maps
from beats_jax.models.registry import form_for

AT_A_TIME = 50  # episodes that are scored at once
HEAD = "predictor"


class NewClasses:
    """The recordings of held-out classes, and episodes of them; always the same ones.

    Attributes:
      sampler: of the episodes. Fewer classes than `evaluation.n_way` are all in every episode.
    """

    def __init__(self, rows: Manifest, experiment: Experiment, reading: Mapping[str, Any], errors: ErrorLog) -> None:
        """reading: options of `answer_rows`. Raises `UserError` where classes have too few recordings, by name."""
        settings: EvaluationConfig = experiment.evaluation
        self.classes = len(rows.labels.counts())
        rule = EpisodeRule(min(settings.n_way, self.classes), settings.n_shot, settings.n_query)
        self.sampler = sampler_of(rows, rule)
        self._rows, self._experiment, self._reading, self._errors = rows, experiment, reading, errors

    def vectors(self, params: Any, pooling: str) -> np.ndarray:
        """float32 [N, D]: the embedding of every recording, over all its windows; zeros, and listed, where it is unreadable."""
        experiment, program = self._experiment, self._program(params, Outputs((pooling,)))
        grid = evaluation_grid(experiment.data, experiment.audio)
        found = answer_rows(program, self._rows, grid, Pooled((pooling,)), shared=True, **self._reading)
        return self._in_order(found, lambda pooled: pooled[0, 0])

    def maps(self, params: Any) -> np.ndarray:
        """float32 [N, H, W, C]: the map of the first window of every recording; as `vectors`."""
        experiment, program = self._experiment, self._program(params, Outputs(tokens=True))
        seconds = experiment.data.window_seconds
        return self._in_order(first_maps(program, self._rows, seconds, shared=True, **self._reading), lambda one: one)

    def _program(self, params: Any, outputs: Outputs) -> ModelProgram:
        experiment = self._experiment
        headless = replace(experiment.model, predictor_class=0, checkpoint="")
        encoder = {name: leaf for name, leaf in params.items() if name != HEAD}
        precision = experiment.training.precision
        form = form_for(headless, experiment.training.attention, precision)
        return ModelProgram(Architecture(headless, experiment.audio, precision, form), encoder, outputs)

    def _in_order(self, found: list[Row], take: Any) -> np.ndarray:
        for row in found:
            if row.error is not None:
                self._errors.add(row.error.path, row.error.reason)
        values = {row.row: np.asarray(take(row.value), np.float32) for row in found if row.value is not None}
        blank = np.zeros_like(next(iter(values.values())))
        return np.stack([values.get(row, blank) for row in range(len(self._rows))])

    def episodes(self, head: FewShotHead, params: Any, items: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy and mean loss of each of `number` episodes, float64 [number] each; `params`: of the head."""
        found, values = [], jnp.asarray(items)
        for first in range(0, number, AT_A_TIME):
            drawn = self.sampler.batch(first, min(first + AT_A_TIME, number))
            query = drawn.query.reshape(len(drawn.query), -1)
            found.append(_accuracy_and_loss(head, params, values, drawn.support, query))
        accuracy, loss = (np.concatenate([np.asarray(part[i], np.float64) for part in found]) for i in (0, 1))
        return accuracy, loss


def first_maps(program: ModelProgram, rows: Stretches, window_seconds: float, **options: Any) -> list[Row]:
    """The map of the first window of every row, float32 [H, W, C].

    Args:
      program: gives tokens. window_seconds: of the windows, all of that length. options: of `answer_rows`.
    """
    grid, audio = Grid(window_seconds), program.audio
    samples = grid.window_samples(audio.sample_rate)
    frames, config = num_frames(samples, audio.filterbank), program.architecture.config
    found = answer_rows(program, rows, grid, EachWindow(), samples=samples, **options)
    first = lambda windows: np.asarray(to_maps(config, *_tokens(windows[0].values), frames)[0])  # noqa: E731
    return [row if row.value is None else row._replace(value=first(row.value)) for row in found]


def _tokens(values: Mapping[str, np.ndarray]) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(values["tokens"])[None], jnp.asarray(values["token_mask"])[None]


@partial(jax.jit, static_argnums=0)
def _accuracy_and_loss(
    head: FewShotHead, params: Any, values: jax.Array, support: jax.Array, query: jax.Array
) -> tuple[jax.Array, jax.Array]:
    scores = head.scores(params, values[support], values[query])
    ways = support.shape[1]
    targets = jnp.broadcast_to(jnp.repeat(jnp.eye(ways), query.shape[1] // ways, axis=0), scores.shape)
    right = jnp.argmax(scores, axis=-1) == jnp.argmax(targets, axis=-1)
    return jnp.mean(right, axis=1), jnp.mean(head.losses(scores, targets), axis=1)
