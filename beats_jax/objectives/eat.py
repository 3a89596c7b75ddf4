"""EAT (arXiv 2401.03497 §3): a student that sees a fifth of a clip predicts what its EMA teacher computes from the whole clip.

waveforms [B, S] -> objectives.inputs -> fbank [B, F, M] -> teacher, whole clip, once -> targets [B, L, D]
C masks of each clip -> student, visible patches [B * C, V] -> CLS, and the decoder's estimates [B * C, L, D]
loss = mean over clips and masks of (mean over hidden patches of the frame loss + weight * utterance loss)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from beats_jax.config import EATConfig, EATObjectiveConfig, Experiment
from beats_jax.errors import UserError
from beats_jax.models.eat import EAT
from beats_jax.models.eat_decoder import Decoder
from beats_jax.models.registry import form_for
from beats_jax.objectives.eat_masks import block_plan, clone_masks
from beats_jax.objectives.inputs import Frontend, frontend_of
from beats_jax.objectives.losses.eat import frame_losses, spread, teacher_decay, teacher_targets, utterance_losses
from beats_jax.objectives.metrics import Metrics, masked_sum, once
from beats_jax.objectives.objective import Batch, SelfSupervised, mean_gradients
from beats_jax.objectives.random_streams import Stream, evaluation_keys, row_keys
from beats_jax.objectives.state.state import State, apply_gradients, create, ema_update, extend_state, with_parameters
from beats_jax.parallel.mesh import shard_batch


class EATState(State):
    """Attributes beside those of `State`: `teacher`, the EMA of `params["model"]`; `exports`: student | teacher."""

    teacher: Any
    exports: str = flax.struct.field(pytree_node=False, default="student")

    @property
    def weights(self) -> Any:
        """`model` (what is exported), and `student`, `decoder` and `teacher`, from which the loss can be computed."""
        student = self.params["model"]
        exported = {**student, **self.teacher} if self.exports == "teacher" else student  # a joined head has no teacher
        return {**self.params, "model": exported, "student": student, "teacher": self.teacher}


class Compared(NamedTuple):
    """Losses, targets and estimates of a batch, C masks a clip."""

    frame: Float[Array, "B C"]
    utterance: Float[Array, "B C"]
    targets: Float[Array, "B L D"]
    estimates: Float[Array, "B C L D"]
    hidden: Bool[Array, "B C L"]  # masked and real
    real: Bool[Array, "B L"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EATPretraining(SelfSupervised[EATState]):
    """Prediction of the teacher's features of hidden patches. `ema_decay` must be 0: the teacher is the average.

    Attributes:
      model: the encoder; its parameters are `model`.
      decoder: estimates all patches from the student's visible ones; its parameters are `decoder`.
    """

    model: EAT
    decoder: Decoder
    frontend: Frontend
    config: EATObjectiveConfig

    def init(self, key: jax.Array, batch: Batch) -> EATState:
        """See `Objective`; the teacher starts as a copy of the student."""
        model_key, decoder_key, run_key = jax.random.split(key, 3)
        fbank, token_mask = self.frontend.evaluation(batch)
        model = self.model.init({"params": model_key}, fbank, token_mask)["params"]
        grid = self._grid(fbank)
        tokens = jnp.zeros((1, grid[0] * grid[1], self.model.config.embed_dim))
        params = {"model": model, "decoder": self.decoder.init(decoder_key, tokens, grid)["params"]}
        state = create(params, run_key, self.optimizer, average=False)
        return extend_state(EATState, state, teacher=jax.tree.map(jnp.copy, model), exports=self.config.exports)

    def begin(self, state: EATState, loaded: Any, batches: Callable[[], Iterator[Any]]) -> EATState:
        """See `SelfSupervised`; the loaded encoder becomes student and teacher."""
        del batches
        if loaded is None:
            return state
        state = with_parameters(state, {"model": loaded})
        return state.replace(teacher={name: jax.tree.map(jnp.copy, state.params["model"][name]) for name in state.teacher})

    def gradients(self, state: EATState, batch: Batch) -> tuple[Any, Metrics, None]:
        key = jax.random.fold_in(state.key, state.step)
        fbank, token_mask, _ = self.frontend.training(key, batch, jnp.zeros((batch["positions"].shape[0], 1)))
        keys = row_keys(jax.random.fold_in(key, Stream.MASK), batch["positions"])
        prepared = self._prepare(fbank, token_mask, keys, batch)
        loss = partial(self._loss, state.teacher, False)
        gradients, metrics = mean_gradients(loss, state.params, prepared, key, self.accumulation_steps)
        metrics["teacher_decay"] = once(self._decay(state.step + 1))
        return gradients, metrics, None

    def advance(self, state: EATState, gradients: Any, found: None) -> EATState:
        """See `Objective`; then the teacher moves towards the new student."""
        del found
        state = apply_gradients(state, gradients, self.optimizer, 0.0)
        return state.replace(teacher=ema_update(state.teacher, state.params["model"], self._decay(state.step)))

    def evaluate(self, weights: Any, batch: Batch) -> Metrics:
        fbank, token_mask = self.frontend.evaluation(batch)
        params = {"model": weights["student"], "decoder": weights["decoder"]}
        keys = evaluation_keys(batch["positions"], batch["rows"])
        prepared = self._prepare(fbank, token_mask, keys, batch)
        return self._loss(weights["teacher"], True, params, prepared, jax.random.key(0))[1]

    def _decay(self, step: jax.Array) -> jax.Array:
        config = self.config
        return teacher_decay(step, config.teacher_decay, config.teacher_end_decay, config.teacher_anneal_steps)

    def _grid(self, fbank: jax.Array) -> tuple[int, int]:
        size = self.model.config.patch_size
        return fbank.shape[1] // size, fbank.shape[2] // size

    def _prepare(self, fbank: jax.Array, token_mask: Any, keys: jax.Array, batch: Batch) -> dict[str, Any]:
        config = self.config
        plan = block_plan(self._grid(fbank), config.mask_ratio, config.mask_adjust, config.mask_block)
        visible = clone_masks(keys, config.clones, plan)
        return shard_batch(
            {"fbank": fbank, "token_mask": token_mask, "visible": visible, "keys": keys, "example_mask": batch["example_mask"]}
        )

    def targets(self, teacher: Any, fbank: jax.Array, token_mask: jax.Array | None) -> jax.Array:
        """The teacher's target for every patch, float32 [B, L, D], without gradient."""
        layers = self.config.average_layers or self.model.config.depth

        def run(module: EAT) -> list[jax.Array]:
            tokens = module.add_positions(module.embed_patches(fbank, token_mask))
            return [block.feed_forward[:, 1:] for block in module.encode_blocks(tokens, token_mask)[1][-layers:]]

        branches: Any = self.model.apply({"params": teacher}, method=run)
        real = jnp.ones(branches[0].shape[:2], bool) if token_mask is None else token_mask[:, 1:]
        return jax.lax.stop_gradient(teacher_targets(branches, real))

    def student(
        self, params: Any, fbank: jax.Array, token_mask: jax.Array | None, visible: jax.Array, **options: Any
    ) -> jax.Array:
        """Features of CLS and the visible patches under every mask, float32 [B * C, 1 + V, D]; `options`: deterministic, rngs."""
        deterministic = options.pop("deterministic")

        def run(module: EAT) -> jax.Array:
            tokens = module.add_positions(module.embed_patches(fbank, token_mask))  # once for all masks of a clip
            mask = None if token_mask is None else gather_visible(token_mask[:, 1:, None], visible)[:, :, 0]
            mask = None if mask is None else jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
            return module.encode_blocks(gather_visible(tokens, visible), mask, deterministic=deterministic)[1][-1].states

        return self.model.apply({"params": params}, method=run, **options)  # type: ignore[return-value]

    def _loss(
        self, teacher: Any, deterministic: bool, params: Any, part: Mapping[str, Any], key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Sum of the losses over the clips of a part of a batch, and metrics.

        `loss`, `frame_loss`, `utterance_loss`, `hidden_share` (of the real patches), and how far the targets and the estimates
        of one batch spread (`target_spread`, `estimate_spread`): near 0 they have collapsed.
        """
        found = self.compare(
            params, teacher, part["fbank"], part["token_mask"], part["visible"], part["keys"],
            deterministic=deterministic, rngs={"dropout": key},
        )  # fmt: skip
        valid = part["example_mask"]
        count = jnp.sum(valid).astype(jnp.float32)
        both = found.frame + self.config.utterance_weight * found.utterance
        ours = {"loss": both, "frame_loss": found.frame, "utterance_loss": found.utterance}
        metrics = {name: masked_sum(jnp.mean(x, axis=1), valid) for name, x in ours.items()}
        hidden, real = found.hidden & valid[:, None, None], found.real & valid[:, None]
        any_ = (count > 0).astype(jnp.float32)
        metrics["hidden_share"] = jnp.sum(hidden) / hidden.shape[1], jnp.sum(real).astype(jnp.float32)
        metrics["target_spread"] = spread(found.targets, real) * any_, any_
        metrics["estimate_spread"] = spread(found.estimates, hidden) * any_, any_
        return metrics["loss"][0], metrics

    def compare(
        self,
        params: Any,
        teacher: Any,
        fbank: Float[Array, "B F M"],
        token_mask: Bool[Array, "B T"] | None,
        visible: Int[Array, "B C V"],
        keys: jax.Array | None,
        noise: Float[Array, "B C L D"] | None = None,
        **options: Any,
    ) -> Compared:
        """Student against teacher under every mask.

        Args:
          params: `model` and `decoder`; teacher: like `model`.
          keys: [B], of the noise that stands for hidden patches; None where `noise` is given.
          noise: that noise itself instead.
          options: as of `student`.
        """
        targets = self.targets(teacher, fbank, token_mask)
        batch, patches, width = targets.shape
        real = jnp.ones((batch, patches), bool) if token_mask is None else token_mask[:, 1:]
        features = self.student(params["model"], fbank, token_mask, visible, **options)
        if noise is None:
            assert keys is not None
            noise = self.config.decoder_noise * clip_noise(keys, (visible.shape[1], patches, width))
        seen = fill_hidden(features[:, 1:], visible, noise)
        decoded: Any = self.decoder.apply({"params": params["decoder"]}, seen, self._grid(fbank))
        estimates = decoded.reshape(batch, -1, patches, width)
        hidden = ~is_visible(visible, patches) & real[:, None]
        return Compared(
            frame_losses(estimates, targets, hidden),
            utterance_losses(features[:, 0].reshape(batch, -1, width), targets, real),
            targets,
            estimates,
            hidden,
            real,
        )


def gather_visible(tokens: Float[Array, "B L N"] | Bool[Array, "B L N"], visible: Int[Array, "B C V"]) -> jax.Array:
    """The visible patches of every mask, [B * C, V, N]."""
    batch, clones, count = visible.shape
    taken = jnp.take_along_axis(tokens, visible.reshape(batch, -1, 1), axis=1)
    return taken.reshape(batch * clones, count, tokens.shape[-1])


def fill_hidden(
    features: Float[Array, "N V D"], visible: Int[Array, "B C V"], filler: Float[Array, "B C L D"]
) -> Float[Array, "N L D"]:
    """The whole grid for each of N = B * C masks: `features` at the visible places, `filler` elsewhere."""
    places = visible.reshape(-1, visible.shape[-1])
    return jax.vmap(lambda base, at, x: base.at[at].set(x))(filler.reshape(-1, *filler.shape[2:]), places, features)


def is_visible(visible: Int[Array, "B C V"], patches: int) -> Bool[Array, "B C L"]:
    """Whether each of L = `patches` patches is visible."""
    one = lambda at: jnp.zeros(patches, bool).at[at].set(True)  # noqa: E731
    return jax.vmap(jax.vmap(one))(visible)


def clip_noise(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Normal numbers, float32 [B, *shape], from one key for each clip."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), shape))(keys)


def build(experiment: Experiment, optimizer: optax.GradientTransformation, **_: Any) -> EATPretraining:
    """The objective of an experiment, which needs no labels.

    Raises:
      UserError: a model that is not EAT, a decoder that does not divide into its groups, or an average besides the teacher.
    """
    config, training, model = experiment.objective, experiment.training, experiment.model
    assert isinstance(config, EATObjectiveConfig)
    if not isinstance(model, EATConfig):
        raise UserError(f"objective eat trains models of the family 'eat', not {model.family!r}")
    model = dataclasses.replace(model, predictor_class=0)
    if training.ema_decay:
        raise UserError(f"training.ema_decay is {training.ema_decay:g}; objective eat keeps its own average, the teacher: use 0")
    if config.average_layers > model.depth:
        raise UserError(f"objective.average_layers is {config.average_layers}; the model has {model.depth} (model.depth)")
    width = config.decoder_width or model.embed_dim
    for name, size in (("model.embed_dim", model.embed_dim), ("objective.decoder_width", width)):
        if size % config.decoder_groups:
            raise UserError(f"{name} {size} is not a multiple of objective.decoder_groups {config.decoder_groups}")
    dtype = jnp.dtype(training.precision)
    form = form_for(model, training.attention, dtype, training.remat)
    return EATPretraining(
        model=EAT(model, dtype, form),
        decoder=Decoder(model.embed_dim, width, config.decoder_layers, config.decoder_kernel, config.decoder_groups, dtype, form),
        frontend=frontend_of(experiment, model),
        optimizer=optimizer,
        config=config,
        accumulation_steps=training.accumulation_steps,
    )
