"""AdamW that moves a parameter only where momentum and gradient agree ("cautious", Liang et al. 2024, arXiv 2411.16085).

As kyleliang919/C-Optim and, from it, marianbasti/bioacoustics have it: epsilon is added to the root of the *uncorrected* second
moment; the mask is scaled per tensor by its size over one more than what it keeps; weight decay shrinks the parameters before the
step, which decoupled decay after it also does, because the step does not depend on them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class CautiousState(NamedTuple):
    """count int32 []; first and second moments like the parameters."""

    count: jax.Array
    mu: Any
    nu: Any


def scale_by_cautious_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Gradients to steps (to be multiplied by the learning rate): masked, rescaled m / (sqrt(v) + eps) with bias correction."""

    def init(params: Any) -> CautiousState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return CautiousState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(gradients: Any, state: CautiousState, params: Any = None) -> tuple[Any, CautiousState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradients)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, gradients)
        t = count.astype(jnp.float32)
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)

        def step(m: jax.Array, v: jax.Array, g: jax.Array) -> jax.Array:
            agrees = m * g > 0
            scale = m.size / (jnp.sum(agrees) + 1)
            return jnp.where(agrees, correction * scale * m / (jnp.sqrt(v) + eps), 0.0)

        return jax.tree.map(step, mu, nu, gradients), CautiousState(count, mu, nu)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]
