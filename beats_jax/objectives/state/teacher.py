"""The teacher of a self-distilled tokenizer: a frozen BEATs of a checkpoint, which reads the same filterbanks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from beats_jax.config import AudioConfig, BEATsConfig, TokenizerConfig, TokenizerObjectiveConfig
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.models.layers import linear
from beats_jax.objectives.state.targets import require_same_tokens
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.pretrained import read_checkpoint

HEAD = "predictor"


@dataclass(frozen=True, eq=False)
class Teacher:
    """Computes the target of every token in the precision of the run; its tensors are part of the run's state.

    Attributes:
      module: the encoder. bundle: its weights on the host.
      logits: False: the last layer; True: the head's logits, of every token before they are averaged over the clip.
      outputs: width of the targets.
    """

    module: nn.Module
    bundle: Bundle
    logits: bool
    outputs: int
    dtype: Any

    @property
    def loaded(self) -> dict[str, Any]:
        """The tensors that it needs, on the host."""
        return {name: tree for name, tree in self.bundle.params.items() if self.logits or name != HEAD}

    def init(self) -> Any:
        """Zeros in the shapes of `loaded`; see `TrainedTargets.init`."""
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), self.loaded)

    def __call__(self, tensors: Any, fbank: jax.Array, token_mask: jax.Array) -> jax.Array:
        """fbank [B, F, M], token_mask [B, T] → float32 [B, T, outputs], without dropout."""
        features = self.module.apply({"params": tensors}, fbank, token_mask).features  # type: ignore[union-attr]
        if not self.logits:
            return features
        return linear(features, tensors[HEAD]["kernel"], tensors[HEAD]["bias"], self.dtype)


def build_teacher(config: TokenizerObjectiveConfig, model: BEATsConfig, audio: AudioConfig, dtype: Any) -> Teacher:
    """The teacher that the settings name.

    Raises:
      UserError: none is named, it is no BEATs, has another filterbank or other patches than `model`, or has no head although
        the target is its logits.
    """
    if not config.teacher:
        raise UserError("objective.teacher is empty; name a BEATs: a run of configs/pretrain_beats.py:iter1, a file or a name")
    bundle = read_checkpoint(config.teacher)
    if not isinstance(bundle.model, BEATsConfig) or isinstance(bundle.model, TokenizerConfig):
        raise UserError(f"objective.teacher {config.teacher} is of the family {bundle.model.family!r}; it must be 'beats'")
    require_same_tokens(bundle, model, audio, config.teacher)
    if config.target == "logits" and not bundle.labels:
        raise UserError(f"objective.target is 'logits' but {config.teacher} has no head: use 'features', or a fine-tuned teacher")
    outputs = len(bundle.labels) if config.target == "logits" else bundle.model.encoder_embed_dim
    headless = replace(bundle.model, predictor_class=0)
    return Teacher(registry.build(headless, dtype), bundle, config.target == "logits", outputs, dtype)
