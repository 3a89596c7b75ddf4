"""Formulations for CPUs of attention and grouped convolutions, and the choice between them and the plain ones.

All agree to rounding; only speed and memory differ. Measured on CPU: attention of four or more clips is 2.1 to 2.3 times faster
clip by clip, and a single clip is best direct. From some 800 tokens on (AST has 1214) a head at a time is fastest, because its
scores stay in the cache: 1.5 to 1.9 times forwards, 1.0 to 1.4 in the gradient; at 513 tokens and below it gains nothing. The
gradient of a grouped convolution is 13 to 30 times slower than that of one dense product per group. The gradient of the kernel of
a 2-D convolution is 1.3 to 11 times faster as products of what lies under its taps, a few clips at a time, so that these stay in
the cache. GPUs and TPUs take the plain formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from beats_jax.models import TokenMask
from beats_jax.models.layers import contract

CLIPWISE_FROM_BATCH = 4
HEADWISE_FROM_TOKENS = 800
MOST_COLUMNS = 600_000  # values under the taps that a product reads at once: 2.4 MB


class Form(StrEnum):
    """Which of several equal formulations of a layer is traced."""

    AUTO = "auto"  # the fastest on the platform that will compute
    PLAIN = "plain"  # the plain formulas everywhere; on CPUs only these can be differentiated forwards (`jax.jvp`)
    LOOPED = "looped"  # those of this file, whatever the platform and the shape
    PORTABLE = "portable"  # both in one program, for export: the platform that runs it compiles its own
    # AUTO, and for gradients part of a transformer is computed again instead of kept (`training.remat`):
    BLOCK = "block"  # all that lies within a block
    ATTENTION = "attention"  # the scores of attention
    # As AUTO, but attention is computed in one way at every length. `registry.form_for` refuses what cannot be.
    WHOLE = "whole"  # with all scores at once
    BLOCKED = "blocked"  # `models.blocked`
    CUDNN = "cudnn"  # `models.flash.attend_by_cudnn`, on GPUs
    KERNEL = "kernel"  # `models.flash.attend_by_kernel`, on GPUs and TPUs; a bias that is not by distance takes WHOLE


def block_class(block: type[nn.Module], form: Form, deterministic: int = 0) -> Any:
    """`block`, whose gradient computes it again where the form says so.

    Args:
      deterministic: which argument of its call is a Python bool; 0 = none.
    """
    return nn.remat(block, static_argnums=(deterministic,) if deterministic else ()) if form is Form.BLOCK else block


def platform() -> str:
    """What will run what is being traced (cpu, gpu, tpu): by `jax.default_device` where one is set, else the default backend."""
    # `platform_dependent` everywhere would need no guess, but it keeps the values of both branches for the gradient.
    device: Any = jax.config.jax_default_device  # type: ignore[attr-defined]  a device, a platform's name or None
    return jax.default_backend() if device is None else getattr(device, "platform", device)


def on_cpu(form: Form = Form.AUTO) -> bool:
    """Whether to take the formulations for CPUs."""
    return form is Form.LOOPED or platform() == "cpu"


def pick(form: Form, *, cpu: Callable[..., jax.Array], plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The function to trace: `cpu` on CPUs and `plain` elsewhere, or both in a portable program."""
    if form is Form.PORTABLE:
        return lambda *arrays: jax.lax.platform_dependent(*arrays, cpu=cpu, default=plain)
    return cpu if form is not Form.PLAIN and on_cpu(form) else plain


def over_clips(
    attend_one: Callable[..., jax.Array],
    by_head: tuple[Float[Array, "batch heads tokens width"], ...],
    token_mask: TokenMask | None,
    rest: tuple[jax.Array | None, ...],
    form: Form,
    splittable: bool,
) -> Float[Array, "batch heads tokens width"]:
    """`attend_one(*by_head, token_mask, *rest)` of every clip: all clips together, or in a loop where a CPU is faster so.

    Args:
      rest: further arguments, batch first, or None.
      splittable: heads may be computed one after another, because `rest` has no say.
    """
    batch, _, tokens, _ = by_head[0].shape
    # Scores are computed again for the gradients: kept ones would be copied whole into and out of the loop, on one thread.
    looped = _loop(jax.checkpoint(attend_one, prevent_cse=False))
    heads_alone = splittable and (tokens >= HEADWISE_FROM_TOKENS or form is Form.LOOPED)
    plain = jax.vmap(attend_one)
    if form is Form.ATTENTION:
        plain = jax.checkpoint(plain)
    if form not in (Form.PLAIN, Form.LOOPED, Form.PORTABLE):
        # Over several devices attention stays direct: a loop over a sharded axis would gather it.
        pays = on_cpu() and jax.device_count("cpu") == 1 and (heads_alone or batch >= CLIPWISE_FROM_BATCH)
        form = Form.AUTO if pays else Form.PLAIN
    cpu = partial(_by_heads, looped) if heads_alone else looped
    return pick(form, cpu=cpu, plain=plain)(*by_head, token_mask, *rest)


def _loop(one: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda *arrays: jax.lax.map(lambda row: one(*row), arrays)


def _by_heads(looped, queries, keys, values, token_mask, *rest):
    """`looped` over B * H clips of one head each; `rest` is all None."""
    heads = queries.shape[1]
    alone = (x.reshape(-1, 1, *x.shape[2:]) for x in (queries, keys, values))
    mask = None if token_mask is None else jnp.repeat(token_mask, heads, axis=0)
    return looped(*alone, mask, *rest).reshape(queries.shape)


def convolve(
    x: Float[Array, "batch tokens inputs"], kernel: Float[Array, "taps group_inputs outputs"], groups: int
) -> Float[Array, "batch tokens outputs"]:
    """1-D convolution in `groups` groups of channels; K//2 zeros on both sides, and for even K the last output is dropped."""
    return _convolution(x, kernel, _margins(kernel), groups)


def _margins(kernel: jax.Array) -> tuple[int, int]:
    taps = kernel.shape[0]
    return taps // 2, taps // 2 - (1 - taps % 2)


def _convolution(x, kernel, margins, groups=1):
    axes = ("NTC", "TIO", "NTC")
    return jax.lax.conv_general_dilated(x, kernel, (1,), (margins,), dimension_numbers=axes, feature_group_count=groups)


def convolve_by_groups(
    x: Float[Array, "batch tokens inputs"], kernel: Float[Array, "taps group_inputs outputs"], groups: int
) -> Float[Array, "batch tokens outputs"]:
    """`convolve` as one dense convolution per group."""
    width, tokens = kernel.shape[0], x.shape[1]
    # XLA's CPU convolution is some 30 times slower where the sequence is shorter than the kernel, hence the zeros.
    x = jnp.pad(x, ((0, 0), (0, max(0, width - tokens)), (0, 0)))
    pairs = zip(jnp.split(x, groups, axis=2), jnp.split(kernel, groups, axis=2), strict=True)
    return jnp.concatenate([_dense(part, weights) for part, weights in pairs], axis=2)[:, :tokens]


# XLA's CPU backend has a fast convolution for one order of the axes only, and brings the gradients that autodiff writes into that
# order everywhere but inside a loop (a scan over parts of a batch): there they doubled the time of a whole step.
@jax.custom_vjp
def _dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One ungrouped convolution, x [B, T, in], kernel [K, in, out], whose gradients are plain convolutions as well."""
    return _convolution(x, kernel, _margins(kernel))


def _dense_forward(x, kernel):
    return _dense(x, kernel), (x, kernel)


def _dense_backward(saved, cotangent):
    x, kernel = saved
    before, after = _margins(kernel)
    # The barriers keep XLA from folding the transpositions back into the order of the convolution's axes.
    flipped, by_channel, taps = jax.lax.optimization_barrier(
        (kernel[::-1].transpose(0, 2, 1), x.transpose(2, 1, 0), cotangent.transpose(1, 0, 2))
    )
    x_cotangent = _convolution(cotangent, flipped, (after, before))
    return x_cotangent, _convolution(by_channel, taps, (before, after)).transpose(1, 0, 2)


_dense.defvjp(_dense_forward, _dense_backward)


def convolve_2d(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    strides: tuple[int, int],
    padding: Sequence[tuple[int, int]],
    *,
    form: Form,
    **options: Any,
) -> Float[Array, "batch _ _ outputs"]:
    """`jax.lax.conv_general_dilated` in the place of which `nn.Conv` takes it.

    Raises:
      ValueError: groups or dilation, for which the form for CPUs is not written.
    """
    dilation = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    if options.get("feature_group_count", 1) != 1 or any(step != 1 for step in dilation):
        raise ValueError(f"convolve_2d has neither groups nor dilation, and was given {options}")
    many = jax.device_count("cpu") > 1 or x.dtype != jnp.float32
    if form in (Form.PLAIN, Form.PORTABLE) or not on_cpu(form) or (many and form is not Form.LOOPED):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _convolve_2d(x, kernel, tuple(strides), tuple(padding))


def _plain_2d(x, kernel, strides, padding):
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


_convolve_2d = jax.custom_vjp(_plain_2d, nondiff_argnums=(2, 3))


def _convolve_2d_forward(x, kernel, strides, padding):
    return _convolve_2d(x, kernel, strides, padding), (x, kernel)


def _convolve_2d_backward(strides, padding, saved, cotangent):
    x, kernel = saved
    if strides == (1, 1):  # in the same form, for the gradients of gradients
        sides = zip(kernel.shape[:2], padding, strict=True)
        rests = tuple((taps - 1 - before, taps - 1 - after) for taps, (before, after) in sides)
        x_cotangent = _convolve_2d(cotangent, kernel[::-1, ::-1].swapaxes(2, 3), strides, rests)
    else:
        (x_cotangent,) = jax.vjp(lambda x: _plain_2d(x, kernel, strides, padding), x)[1](cotangent)
    return x_cotangent, _kernel_cotangent(x, cotangent, kernel, strides, padding)


def _kernel_cotangent(x, cotangent, kernel, strides, padding):
    """Products of what lies under each tap, a few clips at a time: XLA's own runs at a tenth of a product's speed."""
    rows, columns, inputs, outputs = kernel.shape
    batch, height, width, _ = cotangent.shape
    high, wide = strides[0] * (height - 1) + 1, strides[1] * (width - 1) + 1
    places = [(row, column) for row in range(rows) for column in range(columns)]
    fit = MOST_COLUMNS // (height * width * len(places) * inputs)
    clips = max(count for count in range(1, batch + 1) if batch % count == 0 and count <= max(fit, 1))

    def add(total, some):
        images, moved = some  # [inputs, clips, padded height, padded width], [clips, height, width, outputs]
        taps = [jax.lax.slice(images, (0, 0, i, j), (inputs, clips, i + high, j + wide), (1, 1, *strides)) for i, j in places]
        return total + jnp.concatenate([tap.reshape(inputs, -1) for tap in taps]) @ moved.reshape(-1, outputs), None

    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    images = padded.reshape(-1, clips, *padded.shape[1:]).transpose(0, 4, 1, 2, 3)
    start = jnp.zeros((len(places) * inputs, outputs), kernel.dtype)
    total, _ = jax.lax.scan(add, start, (images, cotangent.reshape(-1, clips, *cotangent.shape[1:])))
    return total.reshape(kernel.shape)


_convolve_2d.defvjp(_convolve_2d_forward, _convolve_2d_backward)


def convolve_2d_by_groups(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "taps taps group_inputs outputs"],
    groups: int,
    dtype: DTypeLike,
) -> Float[Array, "batch height width outputs"]:
    """Grouped 2-D convolution of the same size (odd number of taps) as one product of all taps for each group."""
    size, _, inputs, outputs = kernel.shape
    batch, height, width, _ = x.shape
    apart = x.reshape(batch, height, width, groups, inputs).transpose(3, 0, 1, 2, 4)
    margin = (size // 2, size // 2)
    padded = jnp.pad(apart, ((0, 0), (0, 0), margin, margin, (0, 0)))
    taps = [padded[:, :, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    columns = jnp.concatenate(taps, axis=-1).reshape(groups, -1, size * size * inputs)
    weights = kernel.reshape(size * size * inputs, groups, -1).transpose(1, 0, 2)
    y = contract("gni,gio->gno", columns, weights, dtype).reshape(groups, batch, height, width, -1)
    return y.transpose(1, 2, 3, 0, 4).reshape(batch, height, width, outputs)
