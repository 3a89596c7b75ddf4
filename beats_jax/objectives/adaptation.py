"""Which parameters learn: all of them, the head, or the head and low-rank changes of chosen kernels (LoRA).

LoRA (Hu et al. 2021, arXiv 2106.09685, section 4.1): W + alpha / r * down @ up with `down` [in, r] random and `up` [r, out] zero,
so that training starts at the loaded model. The change is added to the kernel before the model runs: any family can be adapted,
and what is exported is an ordinary model. Frozen leaves get no gradient, so nothing is computed for them.

Parameters with LoRA: the model's own tree and, beside it, `lora/<path of the kernel with dots>/{down, up}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from beats_jax.config import TrainingConfig
from beats_jax.errors import UserError
from beats_jax.objectives.state.state import path_name

LORA = "lora"
FROZEN = {"full": (), "probe": (r"(?!predictor/).*",), "lora": (r"(?!predictor/|lora/).*",)}  # by mode: whole paths


def frozen_patterns(training: TrainingConfig, constants: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Regular expressions on whole paths of frozen parameters: `freeze`, the mode's, and the model's constants."""
    return (*training.freeze, *FROZEN[training.mode], *constants)


@dataclass(frozen=True)
class Adaptation:
    """Trained parameters, and how they become those of the model.

    Attributes:
      frozen: patterns of paths without gradient.
      targets: pattern of the kernels that get a low-rank change; None = no LoRA.
      rank, scale: r and alpha / r.
    """

    frozen: tuple[str, ...] = ()
    targets: str | None = None
    rank: int = 8
    scale: float = 2.0

    def init(self, key: jax.Array, params: Any) -> Any:
        """The model's parameters, with the factors of LoRA beside them.

        Raises:
          UserError: no kernel matches the targets, or one that does is not a matrix.
        """
        if self.targets is None:
            return params
        found = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]]
        chosen = [(name, leaf) for name, leaf in found if re.fullmatch(self.targets, name)]
        if not chosen:
            kernels = sorted({re.sub(r"_\d+/", "_*/", name) for name, leaf in found if leaf.ndim == 2})
            raise UserError(f"training.lora_targets {self.targets!r} matches no kernel; there are {', '.join(kernels)}")
        factors = {}
        for number, (name, leaf) in enumerate(chosen):
            if leaf.ndim != 2:
                raise UserError(f"training.lora_targets matches {name} of shape {leaf.shape}; only matrices can be adapted")
            rows, columns = leaf.shape
            down = jax.random.normal(jax.random.fold_in(key, number), (rows, self.rank), jnp.float32) * rows**-0.5
            factors[name.replace("/", ".")] = {"down": down, "up": jnp.zeros((self.rank, columns), jnp.float32)}
        return {**params, LORA: factors}

    def learning(self, params: Any) -> Any:
        """The same parameters, without gradients where nothing learns."""
        if not self.frozen:
            return params

        def stop(path: Any, leaf: jax.Array) -> jax.Array:
            name = path_name(path)
            return jax.lax.stop_gradient(leaf) if any(re.fullmatch(pattern, name) for pattern in self.frozen) else leaf

        return jax.tree_util.tree_map_with_path(stop, params)

    def merge(self, params: Any) -> Any:
        """The model's own parameters with the changes of LoRA added."""
        if self.targets is None:
            return params
        factors = params[LORA]

        def add(path: Any, leaf: jax.Array) -> jax.Array:
            change = factors.get(path_name(path).replace("/", "."))
            return leaf if change is None else leaf + self.scale * (change["down"] @ change["up"])

        return jax.tree_util.tree_map_with_path(add, {name: tree for name, tree in params.items() if name != LORA})


EVERYTHING = Adaptation()


def of(training: TrainingConfig, constants: tuple[str, ...] = ()) -> Adaptation:
    """The adaptation of `training.mode`."""
    targets = training.lora_targets if training.mode == "lora" else None
    if targets is not None:
        try:
            re.compile(targets)
        except re.error as error:
            raise UserError(f"training.lora_targets {targets!r} is no regular expression: {error}") from error
    return Adaptation(frozen_patterns(training, constants), targets, training.lora_rank, training.lora_alpha / training.lora_rank)


def depth_with_lora(depth_of: Callable[[str], int]) -> Callable[[str], int]:
    """`depth_of` for paths of LoRA too: a change has the depth of its kernel."""

    def depth(path: str) -> int:
        if path.startswith(f"{LORA}/"):
            return depth_of(path.split("/")[1].replace(".", "/"))
        return depth_of(path)

    return depth
