"""What a program costs: operations counted in what JAX traced, bytes that devices exchange in what XLA compiled."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from jax.extend.core import jaxprs_in_params

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {
    "f64": 8,
    "s64": 8,
    "u64": 8,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "s8": 1,
    "u8": 1,
    "pred": 1,
}
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
_ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")


def count_flops(jaxpr: Any) -> float:
    """Floating point operations of all matrix products, convolutions and Fourier transforms, loops included (two a product).

    Of the whole program, over all devices. What is computed again for the gradient counts again.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        total += _own_flops(equation)
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        inner = [count_flops(part) for part in jaxprs_in_params(equation.params)]
        total += repeats * (max(inner, default=0.0) if equation.primitive.name == "cond" else sum(inner))
    return total


def exchanged_bytes(program: str) -> dict[str, tuple[int, int]]:
    """Collective → (how often, bytes of their results on one device), of XLA's text of a compiled program."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for shapes, name in _COLLECTIVE.findall(program):
        found[name][0] += 1
        found[name][1] += sum(_size(kind, sides) for kind, sides in _ARRAY.findall(shapes))
    return {name: (count, size) for name, (count, size) in sorted(found.items())}


def link_seconds(exchanged: Mapping[str, tuple[int, int]], devices: int, link: float) -> float:
    """The least time that the exchange takes on rings of `devices` with `link` bytes per second each way."""
    share = (devices - 1) / devices
    # A ring sends each byte of the result once for a gather, twice for a sum; a scatter's result is one part of what it reads
    factors = {"all-reduce": 2 * share, "all-gather": share, "reduce-scatter": devices * share}
    return sum(factors.get(name, 1.0) * size for name, (_, size) in exchanged.items()) / link


def _own_flops(equation: Any) -> float:
    kind, outputs = equation.primitive.name, [variable.aval for variable in equation.outvars]
    if kind == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(outputs[0].shape) * math.prod(left[axis] for axis in contracted)
    if kind == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
        features = kernel[numbers.rhs_spec[0]]
        return 2.0 * math.prod(outputs[0].shape) * math.prod(kernel) / features / equation.params["batch_group_count"]
    if kind == "fft":
        length = math.prod(equation.params["fft_lengths"])
        return 2.5 * math.prod(equation.invars[0].aval.shape) * math.log2(max(length, 2))
    return 0.0


def _size(kind: str, sides: str) -> int:
    return BYTES.get(kind, 4) * math.prod(int(side) for side in sides.split(",") if side)
