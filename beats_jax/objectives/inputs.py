"""From a batch of waveforms to what a model reads, inside the jitted step; the same for every objective.

waveforms float32 [B, S], lengths int32 [B] -> augment -> filterbank -> fbank float32 [B, F, M], token_mask bool [B, T]

Every row has its own random key, made of the step's key and the row's place in the global batch, so augmentation does not
depend on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from beats_jax.audio import augment
from beats_jax.audio.filterbank import filterbank
from beats_jax.config import AugmentConfig, Experiment, ModelConfig
from beats_jax.config.rules import require_one_of
from beats_jax.models import registry
from beats_jax.objectives.objective import Batch
from beats_jax.objectives.random_streams import Stream, row_keys
from beats_jax.parallel.mesh import shard_batch, shard_map_rows

SYNTHETIC_BRANCH = 100  # folded into the key of a row; those of `audio.augment` are below


@dataclass(frozen=True, eq=False)
class Synthetic:
    """Synthetic examples that take the place of some training rows.

    Attributes:
      fbank: float32 [K, F, M], as the front-end gives real ones. targets: float32 [K, C]. share: of a batch's rows, in [0, 1).
    """

    fbank: np.ndarray
    targets: np.ndarray
    share: float


@dataclass(frozen=True)
class Frontend:
    """The way from waveforms to a model's input.

    Attributes:
      filterbank: (waveforms [B, S], lengths [B]) -> (fbank [B, F, M], frame_mask [B, F]); every row alone.
      token_mask: frame_mask [B, F] -> bool [B, T], or None for a model that attends to padding.
      augment: what is done to training rows.
      sample_rate: Hz.
      background: number of the class of `augment.background_class`; None = clips of any class are backgrounds.
      hides_unread: a row that could not be read has no real token, because batch statistics must not count it.
      synthetic: what some rows are replaced with in training; None = nothing.
    """

    filterbank: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    token_mask: Callable[[jax.Array], jax.Array | None]
    augment: AugmentConfig
    sample_rate: int
    background: int | None = None
    hides_unread: bool = False
    synthetic: Synthetic | None = None

    def evaluation(self, batch: Batch) -> tuple[Float[Array, "B F M"], Bool[Array, "B T"] | None]:
        """fbank [B, F, M] and token_mask [B, T] (or None) of a batch, without augmentation."""
        fbank, frame_mask = shard_batch(shard_map_rows(self.filterbank)(batch["waveforms"], batch["lengths"]))
        return fbank, self._token_mask(frame_mask, batch)

    def without_labels(self, key: jax.Array | None, batch: Batch) -> tuple[Float[Array, "B F M"], Bool[Array, "B T"]]:
        """fbank and token_mask for a model that hides padding: augmented as in `training`; without a key, as in `evaluation`."""
        if key is None:
            fbank, token_mask = self.evaluation(batch)
        else:
            fbank, token_mask, _ = self.training(key, batch, jnp.zeros((batch["positions"].shape[0], 1)))
        assert token_mask is not None
        return fbank, token_mask

    def training(
        self, key: jax.Array, batch: Batch, targets: Float[Array, "B C"]
    ) -> tuple[Float[Array, "B F M"], Bool[Array, "B T"] | None, Float[Array, "B C"]]:
        """fbank and token_mask (or None) augmented by the key of the step, and the targets, mixed where the sounds were."""
        keys = row_keys(key, batch["positions"])
        partners, own = self._mixup_plan(key, keys, batch["example_mask"])
        lengths = batch["lengths"]
        waveforms = batch["waveforms"]
        if self.augment.background_probability > 0:
            background_key = jax.random.fold_in(key, Stream.BACKGROUND)
            allowed = batch["example_mask"] & (self.background is None or targets[:, self.background or 0] > 0)
            waveforms = augment.add_backgrounds(background_key, keys, waveforms, lengths, allowed, self.augment)
        waveforms = augment.augment_waveforms(keys, waveforms, lengths, self.augment, self.sample_rate)
        mixing = self.augment.mixup_probability > 0
        if mixing and self.augment.mixup_domain == "waveform":
            waveforms = augment.mix(waveforms, partners, own)
            lengths = augment.mixed_lengths(lengths, partners, own)
        fbank, frame_mask = shard_batch(shard_map_rows(self.filterbank)(*shard_batch((waveforms, lengths))))
        if mixing and self.augment.mixup_domain == "fbank":
            fbank = augment.mix(fbank, partners, own)
            frame_mask = augment.mixed_frame_mask(frame_mask, partners, own)
        fbank = augment.shift_frequencies(keys, fbank, self.augment)
        if mixing:
            targets = augment.mix(targets, partners, own)
        if self.synthetic is not None:
            fbank, frame_mask, targets = replace_rows(keys, self.synthetic, batch["example_mask"], fbank, frame_mask, targets)
        fbank = augment.mask_fbank(keys, fbank, frame_mask, self.augment)
        fbank, frame_mask, targets = shard_batch((fbank, frame_mask, targets))
        return fbank, self._token_mask(frame_mask, batch), targets

    def _token_mask(self, frame_mask: jax.Array, batch: Batch) -> jax.Array | None:
        token_mask = self.token_mask(frame_mask)
        if token_mask is None:
            return None
        read = batch["example_mask"][:, None]
        # A row that could not be read counts as all real: without a single real token its softmax, and then every gradient,
        # would be NaN. Its loss is left out.
        return token_mask & read if self.hides_unread else token_mask | ~read

    def _mixup_plan(self, key: jax.Array, keys: jax.Array, example_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Partner int32 [B] and own share float32 [B] of every row; a row that could not be read is no row's partner."""
        mixup_key = jax.random.fold_in(key, Stream.MIXUP)
        partners, own = augment.mixup_plan(mixup_key, keys, example_mask.shape[0], self.augment)
        return partners, jnp.where(example_mask[partners], own, 1.0)


def replace_rows(
    keys: jax.Array,
    synthetic: Synthetic,
    example_mask: Bool[Array, " B"],
    fbank: Float[Array, "B F M"],
    frame_mask: Bool[Array, "B F"],
    targets: Float[Array, "B C"],
) -> tuple[Float[Array, "B F M"], Bool[Array, "B F"], Float[Array, "B C"]]:
    """Each readable row becomes, with the chance `share`, one of the synthetic examples, whole."""

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        chance_key, place_key = jax.random.split(jax.random.fold_in(key, SYNTHETIC_BRANCH))
        return jax.random.bernoulli(chance_key, synthetic.share), jax.random.randint(place_key, (), 0, len(synthetic.fbank))

    chosen, places = jax.vmap(draw)(keys)
    chosen &= example_mask
    fbank = jnp.where(chosen[:, None, None], jnp.asarray(synthetic.fbank)[places], fbank)
    targets = jnp.where(chosen[:, None], jnp.asarray(synthetic.targets)[places], targets)
    return fbank, frame_mask | chosen[:, None], targets


def frontend_of(experiment: Experiment, model: ModelConfig, classes: tuple[str, ...] = ()) -> Frontend:
    """The front-end of an experiment, for a model of these settings and, with labels, these classes.

    Raises:
      UserError: `augment.background_class` is none of the classes.
    """
    settings, family = experiment.audio.filterbank, registry.family(model)
    background = experiment.objective.augment.background_class
    if background:
        require_one_of("objective.augment.background_class", background, classes)
    return Frontend(
        filterbank=partial(filterbank, config=settings),
        token_mask=lambda frame_mask: family.attention_mask(family.token_mask(frame_mask, settings.num_mel_bins)),
        augment=experiment.objective.augment,
        sample_rate=experiment.audio.sample_rate,
        background=classes.index(background) if background else None,
        hides_unread=family.batch_statistics,
    )


def masking_frontend(experiment: Experiment, model: ModelConfig) -> Frontend:
    """The same with a mask of real tokens for every model, also for one that attends to padding: pooling needs it."""
    bins, family = experiment.audio.filterbank.num_mel_bins, registry.family(model)
    return replace(frontend_of(experiment, model), token_mask=lambda frame_mask: family.token_mask(frame_mask, bins))


def two_views(
    key: jax.Array, batch: Batch, frontend: Frontend, crop_samples: int
) -> tuple[Float[Array, "B 2 F M"], Bool[Array, "B 2 T"]]:
    """fbank and token_mask of two views of each recording: two augmentations of one window, or of two random crops of it.

    Args:
      crop_samples: length of a crop; 0 = both views are of the whole window.
    """
    streams = (Stream.FIRST_VIEW, Stream.SECOND_VIEW)
    views = [one_view(jax.random.fold_in(key, stream), batch, frontend, crop_samples) for stream in streams]
    fbank, token_mask = (jnp.stack(parts, axis=1) for parts in zip(*views, strict=True))
    return fbank, token_mask


def one_view(
    key: jax.Array, batch: Batch, frontend: Frontend, crop_samples: int
) -> tuple[Float[Array, "B F M"], Bool[Array, "B T"]]:
    """fbank and token_mask of one augmentation, or of one augmented crop."""
    if crop_samples:
        batch = crop(jax.random.fold_in(key, Stream.CROP), batch, crop_samples)
    return frontend.without_labels(key, batch)


def crop(key: jax.Array, batch: Batch, samples: int) -> Batch:
    """The batch with a random stretch of `samples` of the real sound of every row; a shorter row is kept from its start."""

    def one(key: jax.Array, waveform: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = jax.random.randint(key, (), 0, jnp.maximum(length - samples, 0) + 1)
        return jax.lax.dynamic_slice(waveform, (start,), (samples,)), jnp.minimum(length - start, samples)

    keys = row_keys(key, batch["positions"])
    waveforms, lengths = jax.vmap(one)(keys, batch["waveforms"], batch["lengths"])
    return cast(Batch, {**batch, "waveforms": waveforms, "lengths": lengths})
