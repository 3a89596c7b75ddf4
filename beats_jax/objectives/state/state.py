"""What a training run carries from one step to the next, and how loaded weights enter it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from beats_jax.errors import UserError
from beats_jax.models.statistics import with_statistics

Params = Any  # nested dict of float32 arrays


@no_type_check  # JAX also makes states of shapes and of shardings
class State(flax.struct.PyTreeNode):
    """Everything that decides the next step besides the batch, so that saving it makes a resumed run the same run.

    Attributes:
      step: int32 [], updates done so far.
      params: the parameters in training.
      opt_state: the optimizer's own state.
      ema: exponential average of `params`, or None where it is not kept.
      key: a `jax.random.key`; it never changes, every step folds its own number into it.
    """

    # Any: shapes or shardings stand where arrays do when a state is described and not held (`jax.eval_shape`).
    step: Any
    params: Params
    opt_state: Any
    ema: Params | None
    key: Any

    @property
    def weights(self) -> Params:
        """The parameters that are evaluated and exported: the average where one is kept."""
        return self.params if self.ema is None else self.ema


S = TypeVar("S", bound=State)


def create(params: Params, key: jax.Array, optimizer: optax.GradientTransformation, *, average: bool) -> State:
    """The state before the first update; an average starts as a copy of the parameters, so it needs no bias correction."""
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params) if average else None,
        key=key,
    )


def apply_gradients(
    state: S, gradients: Params, optimizer: optax.GradientTransformation, ema_decay: float, statistics: Params | None = None
) -> S:
    """One optimizer step, and one step of the average where the state keeps one.

    Args:
      statistics: batch statistics that take their places in the parameters (`models.statistics`), and so in the average.
    """
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if statistics is not None:
        params = with_statistics(params, statistics)
    ema = None if state.ema is None else average(state.ema, params, state.step, ema_decay)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state, ema=ema)


def average(ema: Params, params: Params, step: jax.Array, decay: float) -> Params:
    """ema <- d * ema + (1 - d) * params with d = min(decay, (1 + t) / (10 + t)), t = updates done before this one."""
    # The rising decay (as in TensorFlow's `ExponentialMovingAverage(num_updates=...)`) lets the random start fade soon.
    t = step.astype(jnp.float32)
    return ema_update(ema, params, jnp.minimum(decay, (1 + t) / (10 + t)))


def ema_update(tree: Params, params: Params, decay: float | jax.Array) -> Params:
    """decay * tree + (1 - decay) * params, for the leaves of `tree` (in a joint run the teacher has no head)."""
    if isinstance(tree, Mapping):
        return {name: ema_update(branch, params[name], decay) for name, branch in tree.items()}
    return decay * tree + (1 - decay) * params


def with_parameters(state: S, loaded: Mapping[str, Any]) -> S:
    """`state` with the leaves of `loaded` in place of its own, in `params` and in the average; see `with_leaves`."""
    params = with_leaves(state.params, loaded)
    return state.replace(params=params, ema=None if state.ema is None else with_leaves(state.ema, loaded))


def with_leaves(tree: Any, loaded: Any) -> Any:
    """`tree` with the leaves of `loaded` in place of its own, in the same dtype and on the same devices.

    Args:
      loaded: nested arrays; a part of the tree (a new head may be missing from it).
    Raises:
      UserError: a loaded leaf that the tree does not have, or that has another shape.
    """
    found = {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(loaded)[0]}
    used: set[str] = set()

    def place(path: Any, leaf: jax.Array) -> jax.Array:
        name = path_name(path)
        if name not in found:
            return leaf
        used.add(name)
        value = np.asarray(found[name])
        if value.shape != leaf.shape:
            raise UserError(f"weights for {name} have shape {value.shape}, the model needs {leaf.shape}: is this another model?")
        value = value.astype(leaf.dtype)
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: value[index])

    result = jax.tree_util.tree_map_with_path(place, tree)
    surplus = sorted(set(found) - used)
    if surplus:
        raise UserError(
            f"{len(surplus)} loaded weights have no place in the model: {', '.join(surplus[:5])}; is this another model?"
        )
    return result


def path_name(path: Any) -> str:
    """A pytree path as "encoder/layers_0/fc1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def extend_state(cls: type[S], state: State, **more: Any) -> S:
    """`state` as a state of the class `cls`, whose further attributes are `more`."""
    return cls(**{field.name: getattr(state, field.name) for field in dataclasses.fields(state)}, **more)
