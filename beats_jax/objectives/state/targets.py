"""Where the codes of masked prediction come from: a random projection, or a trained tokenizer.

Either way the tensors are part of the run's state: saved with it, the same after a restart, and never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.config import AudioConfig, BEATsConfig, MaskedPredictionConfig, TokenizerConfig
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.models.beats import patches
from beats_jax.models.pretraining import random_projection
from beats_jax.parallel.exchange import fetch
from beats_jax.weights.architecture import front_end_changes, require_same_front_end
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.pretrained import read_checkpoint

FITTING_BATCHES = 16  # from whose patches the components are estimated
DEAD_BELOW = 1e-3  # of the mean usage: the running average of a code that was last used some 700 batches ago


class PatchStatistics(NamedTuple):
    """Mean [P * P] and covariance [P * P, P * P] of the pixels of real patches, float64."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class RandomTargets:
    """The tokenizer of the first iteration, drawn from its own seed: G `books` of K `codes` each."""

    codes: int
    width: int
    patch_size: int
    seed: int
    books: int = 1
    loaded: None = None  # `init` has all tensors

    def init(self) -> random_projection.RandomProjection:
        """The tensors."""
        key, sizes = jax.random.key(self.seed), {"codes": self.codes, "width": self.width, "patch_size": self.patch_size}
        return random_projection.init(key, books=self.books, **sizes)

    def __call__(self, tensors: Any, fbank: jax.Array, token_mask: jax.Array | None) -> jax.Array:
        """fbank [B, F, M] → codes of each patch, int32 [B, T, G]."""
        return random_projection.codes(random_projection.RandomProjection(*tensors), fbank, token_mask)


@dataclass(frozen=True, eq=False)
class TrainedTargets:
    """A self-distilled tokenizer of a checkpoint: one book of K `codes`; it computes in the precision of the run."""

    module: nn.Module
    bundle: Bundle
    codes: int
    books: int = 1

    @property
    def loaded(self) -> dict[str, Any]:
        """The checkpoint's parameters, on the host; they take the place of the zeros of `init` when a run begins."""
        return self.bundle.params

    def init(self) -> Any:
        """Zeros in the shapes of `loaded`."""
        # 360 MB of constants would be compiled into the program that calls this.
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), self.bundle.params)

    def __call__(self, tensors: Any, fbank: jax.Array, token_mask: jax.Array | None) -> jax.Array:
        """fbank [B, F, M] → one code for each patch, int32 [B, T, 1]."""
        return self.module.apply({"params": tensors}, fbank, token_mask).codes[..., None]  # type: ignore[union-attr]


Targets = RandomTargets | TrainedTargets


def build(config: MaskedPredictionConfig, model: BEATsConfig, audio: AudioConfig, dtype: Any) -> Targets:
    """The tokenizer that the settings ask for.

    Raises:
      UserError: it is no tokenizer, has another filterbank or other patches than `model`, was never started, or has too many
        dead codes.
    """
    if not config.tokenizer:
        return RandomTargets(config.codes, config.code_dim, model.input_patch_size, config.tokenizer_seed, config.books)
    bundle = read_checkpoint(config.tokenizer)
    if not isinstance(bundle.model, TokenizerConfig):
        raise UserError(
            f"objective.tokenizer {config.tokenizer} is of the family {bundle.model.family!r}; it must be a tokenizer, such as a "
            "run of configs/pretrain_beats.py:tokenizer, or empty"
        )
    require_same_tokens(bundle, model, audio, config.tokenizer)
    _require_living_codes(bundle, config)
    return TrainedTargets(registry.build(bundle.model, dtype), bundle, bundle.model.quant_n)


def patch_sums(fbank: jax.Array, real: jax.Array, model: BEATsConfig) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sum [P * P] and sum of products [P * P, P * P] of the pixels of real patches (bool [B, T]) of fbank, and their number."""
    pixels = jnp.where(real[:, :, None], patches(fbank, model.input_patch_size), 0.0)
    products = jnp.einsum("btp,btq->pq", pixels, pixels, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(pixels, axis=(0, 1)), products, jnp.sum(real)


def patch_statistics(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> PatchStatistics:
    """The statistics of several `patch_sums`.

    Raises:
      UserError: no real patch in any of them.
    """
    total, products, count = (sum(np.asarray(part[i], np.float64) for part in parts) for i in range(3))
    if not count:
        raise UserError("the first batches hold no sound at all, the patches have no statistics: see data.reject_below_dbfs")
    mean = np.asarray(total / count)
    return PatchStatistics(mean, np.asarray(products / count - np.outer(mean, mean)))


def fit_targets(tensors: Any, statistics: PatchStatistics, components: int) -> dict[str, np.ndarray]:
    """The tensors of the random projection that change, see `random_projection.fit_projection`."""
    found = random_projection.fit_projection(fetch(random_projection.RandomProjection(*tensors)), *statistics, components)
    return {"patch_kernel": np.asarray(found.patch_kernel), "centre": np.asarray(found.centre)}


def require_same_tokens(bundle: Bundle, model: BEATsConfig, audio: AudioConfig, name: str) -> None:
    """Raises `UserError` unless the checkpoint's tokens are those of `model`: same filterbank, same patches."""
    require_same_front_end(front_end_changes(bundle.audio, audio), name)
    theirs = getattr(bundle.model, "input_patch_size", None)
    if theirs != model.input_patch_size:
        raise UserError(
            f"{name} has patches of {theirs}, the experiment of {model.input_patch_size}: set config.model.input_patch_size to it"
        )


def dead_codes(usage: Any) -> Any:
    """bool [K]: codes that are hardly ever assigned, from the running average of their use [K]."""
    return usage < DEAD_BELOW * usage.mean()


def _require_living_codes(bundle: Bundle, config: MaskedPredictionConfig) -> None:
    book = bundle.params["quantizer"]
    if not np.any(book["initted"]):
        raise UserError(f"the codebook of {config.tokenizer} was never started from data: it was not trained")
    usage = np.asarray(book["usage"])
    dead = int(dead_codes(usage).sum()) if usage.any() else len(usage)
    if dead > config.largest_dead_share * len(usage):
        raise UserError(
            f"{dead} of the {len(usage)} codes of {config.tokenizer} are dead, more than objective.largest_dead_share "
            f"{config.largest_dead_share:g}: train the tokenizer with objective.restart_below or fewer codes, or raise the share"
        )
