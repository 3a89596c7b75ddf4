"""The self-distilled tokenizer of BEATs (VQ-KD; arXiv 2212.09058 §3.2.2, unilm/beats/quantizer.py, the rest as in ESPnet).

waveforms [B, S] -> objectives.inputs -> fbank [B, F, M], token_mask [B, T] -> tokenizer -> codes int32 [B, T], vectors [B, T, Q]
vectors -> estimator -> estimate [B, T, D]; frozen teacher, of the same fbank -> target [B, T, D]
loss = sum over the real tokens of valid rows of (1 - cosine) + commitment * mean squared distance from the code, / their number

The codebook is part of the state; `quantizer.move_codes` moves it, not the optimizer.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from beats_jax.config import Experiment, TokenizerConfig, TokenizerObjectiveConfig
from beats_jax.errors import UserError
from beats_jax.models.pretraining import quantizer
from beats_jax.models.pretraining.encoder import DistilledTokenizer
from beats_jax.models.pretraining.predictor import stack_config
from beats_jax.models.pretraining.quantizer import Codebook, normalise
from beats_jax.models.registry import form_for
from beats_jax.objectives.inputs import Frontend, frontend_of
from beats_jax.objectives.metrics import Metrics, code_usage, masked_sum, once, used_codes
from beats_jax.objectives.objective import Batch, SelfSupervised, mean_gradients
from beats_jax.objectives.random_streams import Stream, model_rngs, row_keys
from beats_jax.objectives.state.state import State, apply_gradients, create, extend_state, with_leaves, with_parameters
from beats_jax.objectives.state.targets import dead_codes
from beats_jax.objectives.state.teacher import Teacher, build_teacher
from beats_jax.parallel.exchange import fetch
from beats_jax.parallel.mesh import replicate_tree

RESTART_EVERY = 100  # steps: the memory of the running average of usage
VECTORS_PER_CODE = 64  # of which the k-means is made; more hardly change K directions
ASSIGNED, CANDIDATES = "_assigned", "_candidates"  # sums over the batch that `gradients` takes out of the metrics


class TokenizerState(State):
    """Attributes beside those of `State`: `codebook`, and `teacher`, the teacher's parameters."""

    codebook: Codebook
    teacher: Any

    @property
    def weights(self) -> Any:
        """`model` with its codebook, `estimator` and `teacher`."""
        trained = super().weights
        model = {**trained["model"], "quantizer": self.codebook._asdict()}
        return {"model": model, "estimator": trained["estimator"], "teacher": self.teacher}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TokenizerTraining(SelfSupervised[TokenizerState]):
    """Codes from which the features of a teacher can be estimated.

    Attributes:
      module: tokenizer and estimator; its parameters are `model` (without the codebook) and `estimator`.
    """

    module: DistilledTokenizer
    frontend: Frontend
    teacher: Teacher
    config: TokenizerObjectiveConfig

    @property
    def size(self) -> tuple[int, int]:
        """K codes of width Q."""
        return self.module.config.quant_n, self.module.config.quant_dim

    def init(self, key: jax.Array, batch: Batch) -> TokenizerState:
        """See `Objective`; the codebook starts empty."""
        init_key, run_key = jax.random.split(key)
        fbank, token_mask = self.frontend.without_labels(None, batch)
        (codes, width), zeros = self.size, jnp.zeros
        book = Codebook(zeros((codes, width)), zeros(codes), zeros(codes), zeros((codes, width)), zeros(1))
        params = self.module.init({"params": init_key}, fbank, token_mask, book.embedding)["params"]
        state = create(params, run_key, self.optimizer, average=self.ema_decay > 0)
        return extend_state(TokenizerState, state, codebook=book, teacher=self.teacher.init())

    def begin(self, state: TokenizerState, loaded: Any, batches: Callable[[], Iterator[Any]]) -> TokenizerState:
        """See `SelfSupervised`; the teacher is loaded, and without a checkpoint's codebook one is made of the first batches.

        Raises:
          UserError: those batches hold no sound.
        """
        state = state.replace(teacher=with_leaves(state.teacher, self.teacher.loaded))
        if loaded is not None:
            model = dict(loaded)
            state = state.replace(codebook=with_leaves(state.codebook, model.pop("quantizer")))
            state = with_parameters(state, {"model": model})
        if np.asarray(state.codebook.initted).any():
            return state
        vectors, key = self._first_vectors(state, batches), jax.random.fold_in(state.key, Stream.RESTART)
        started = jax.jit(quantizer.start_codebook)(fetch(state.codebook), key, vectors)
        return state.replace(codebook=with_leaves(state.codebook, fetch(started)))

    def gradients(self, state: TokenizerState, batch: Batch) -> tuple[Any, Metrics, Codebook]:
        """See `Objective`; the third result is the codebook after this batch."""
        key = jax.random.fold_in(state.key, state.step)
        fbank, token_mask = self.frontend.without_labels(key, batch)
        prepared = {"fbank": fbank, "token_mask": token_mask, "example_mask": batch["example_mask"]}
        if self.config.restart_below > 0:
            keys = row_keys(jax.random.fold_in(key, Stream.RESTART), batch["positions"])
            prepared["candidates"] = _candidates(keys, token_mask & batch["example_mask"][:, None], self.size[0])
        loss = partial(self._loss, state.codebook.embedding, state.teacher, False)
        gradients, metrics = mean_gradients(loss, state.params, prepared, key, self.accumulation_steps)
        book = quantizer.move_codes(state.codebook, *metrics.pop(ASSIGNED))
        if CANDIDATES in metrics:
            unused = book.usage < self.config.restart_below * jnp.mean(book.usage)
            due = (state.step + 1) % RESTART_EVERY == 0
            book = quantizer.restart_codes(book, unused & due, metrics.pop(CANDIDATES)[0])
        metrics = used_codes(metrics)
        metrics["dead_codes"] = once(jnp.sum(dead_codes(book.usage)).astype(jnp.float32))
        return gradients, metrics, book

    def advance(self, state: TokenizerState, gradients: Any, found: Codebook) -> TokenizerState:
        """See `Objective`; the codebook is the one after this batch."""
        return apply_gradients(state, gradients, self.optimizer, self.ema_decay).replace(codebook=found)

    def evaluate(self, weights: Any, batch: Batch) -> Metrics:
        fbank, token_mask = self.frontend.without_labels(None, batch)
        prepared = {"fbank": fbank, "token_mask": token_mask, "example_mask": batch["example_mask"]}
        model = dict(weights["model"])
        book = model.pop("quantizer")
        params = {"model": model, "estimator": weights["estimator"]}
        metrics = self._loss(book["embedding"], weights["teacher"], True, params, prepared, jax.random.key(0))[1]
        metrics.pop(ASSIGNED)
        return used_codes(metrics)

    def _loss(
        self, embedding: jax.Array, teacher: Any, deterministic: bool, params: Any, part: Mapping[str, Any], key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Sum of the losses over the real tokens of a part of a batch, and metrics.

        `loss`, `cosine` (with the teacher), `commitment` (mean squared distance from the code, unweighted) and the counts of the
        codes; besides, for `gradients`, the sums of the vectors assigned to every code.
        """
        output: Any = self.module.apply(
            {"params": params},
            part["fbank"],
            part["token_mask"],
            embedding,
            deterministic=deterministic,
            rngs=model_rngs(key),
        )
        estimate, codes, projected = output
        target = jax.lax.stop_gradient(self.teacher(teacher, part["fbank"], part["token_mask"]))
        real = part["token_mask"] & part["example_mask"][:, None]
        agreement, count = masked_sum(jnp.sum(normalise(estimate) * normalise(target), axis=-1), real)
        distances = jnp.mean((jax.lax.stop_gradient(embedding)[codes] - normalise(projected)) ** 2, axis=-1)
        distance = jnp.sum(jnp.where(real, distances, 0.0))
        total = count - agreement + self.config.commitment * distance
        metrics: Metrics = {
            "loss": (total, count),
            "cosine": (agreement, count),
            "commitment": (distance, count),
            **code_usage("used", codes[..., None], real, self.size[0]),
            ASSIGNED: quantizer.sum_by_code(projected, codes, self.size[0], real),
        }
        if "candidates" in part:
            metrics[CANDIDATES] = quantizer.sum_by_code(projected, part["candidates"], self.size[0], real)
        return total, metrics

    def _first_vectors(self, state: TokenizerState, batches: Callable[[], Iterator[Any]]) -> np.ndarray:
        """Quantiser inputs of real tokens of the first batches, float32 [N, Q]; from each batch the same number is drawn."""

        @jax.jit
        def read(params: Any, batch: Batch) -> Any:
            fbank, token_mask = self.frontend.without_labels(None, batch)
            vectors = self.module.apply({"params": params}, fbank, token_mask, method=DistilledTokenizer.project)
            return replicate_tree((vectors, token_mask & batch["example_mask"][:, None]))

        found, draw = [], np.random.default_rng(0)
        wanted = -(-VECTORS_PER_CODE * self.size[0] // self.config.kmeans_batches)
        for batch in itertools.islice(batches(), self.config.kmeans_batches):
            vectors, real = (np.asarray(part) for part in read(state.params, batch))
            flat = vectors[real]
            found.append(flat[np.sort(draw.choice(len(flat), min(wanted, len(flat)), replace=False))])
        vectors = np.concatenate(found)
        if not len(vectors):
            raise UserError("the first batches hold no sound at all, the codebook cannot start: see data.reject_below_dbfs")
        return vectors


def _candidates(keys: jax.Array, real: Bool[Array, "B T"], size: int) -> Int[Array, "B T"]:
    """Random real tokens numbered from 0 to K - 1, the code that each may become; -1 = none."""
    draws = jax.vmap(lambda key: jax.random.uniform(key, real.shape[1:]))(keys)
    order = jnp.argsort(jnp.where(real, draws, 2.0).reshape(-1))
    rank = jnp.argsort(order).reshape(real.shape)
    return jnp.where(real & (rank < size), rank, -1)


def build(experiment: Experiment, optimizer: optax.GradientTransformation, **_: Any) -> TokenizerTraining:
    """The objective of an experiment, which needs no labels.

    Raises:
      UserError: a model that is no tokenizer, or a teacher that does not fit (`teacher.build_teacher`).
    """
    config, training, model = experiment.objective, experiment.training, experiment.model
    assert isinstance(config, TokenizerObjectiveConfig)
    if not isinstance(model, TokenizerConfig):
        raise UserError(f"objective tokenizer trains the family 'beats_tokenizer', not {model.family!r}: set config.model.family")
    dtype = jnp.dtype(training.precision)
    teacher = build_teacher(config, model, experiment.audio, dtype)
    stack = stack_config(model, config.estimator_layers, config.estimator_dim, config.estimator_heads)
    form = form_for(model, training.attention, dtype, training.remat)
    return TokenizerTraining(
        module=DistilledTokenizer(model, stack, teacher.outputs, dtype, form),
        frontend=frontend_of(experiment, model),
        teacher=teacher,
        optimizer=optimizer,
        config=config,
        ema_decay=training.ema_decay,
        accumulation_steps=training.accumulation_steps,
    )
