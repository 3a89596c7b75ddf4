"""Which of several equal formulations of a layer is traced. The results agree to rounding; only speed and memory differ.

Measured on CPU: attention of a batch of four or more clips is 2.1 to 2.3 times faster clip by clip, a single clip is best
direct. From some 800 tokens on (AST has 1214) a head at a time is fastest, because its scores stay in the cache: 1.5 to 1.9 times
forwards, 1.0 to 1.4 in the gradient; at 513 tokens and below it gains nothing. The gradient of a grouped convolution is 13 times
slower than that of one dense convolution per group. GPU and TPU take the batched and grouped forms. In an exported program, which
runs on several platforms and for any batch, `portable` puts both forms in; the one of the platform at hand is compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from beats_jax.config.rules import require_one_of

CLIPWISE_FROM_BATCH = 4
HEADWISE_FROM_TOKENS = 800


@dataclass(frozen=True)
class Forms:
    """Formulation of each layer that has more than one; `auto` chooses by platform and shape while tracing.

    Attributes:
      attention: auto | direct (whole batch at once) | clips (one clip after another) | portable.
      conv_position: auto | grouped (one grouped convolution) | split (one dense convolution per group) | portable.
      platform: of the devices that will compute, as `jax.Device.platform`; empty = `default_platform` while tracing.
      clips_from, heads_from: batch size and tokens from which `auto` takes the loops on a CPU.
    """

    attention: str = "auto"
    conv_position: str = "auto"
    platform: str = ""
    clips_from: int = CLIPWISE_FROM_BATCH
    heads_from: int = HEADWISE_FROM_TOKENS

    def __post_init__(self) -> None:
        require_one_of("forms.attention", self.attention, ("auto", "direct", "clips", "portable"))
        require_one_of("forms.conv_position", self.conv_position, ("auto", "grouped", "split", "portable"))

    def attention_for(self, batch_size: Any, tokens: int = 0) -> str:
        """`direct`, `clips`, `heads` or `portable` for a batch of this size.

        Args:
          batch_size: int, or a symbolic dimension where `jax.export` traces.
          tokens: of an attention without bias and dropout, whose heads may go one after another; 0 = they may not.

        Over several devices `auto` stays direct: a loop over a sharded axis would gather it.
        """
        if self.attention != "auto":
            return self.attention
        one_cpu = self.on_cpu and jax.device_count("cpu") == 1
        if one_cpu and tokens >= self.heads_from:
            return "heads"
        return "clips" if one_cpu and batch_size >= self.clips_from else "direct"

    def conv_position_here(self) -> str:
        """`grouped` or `split` on the platform that will compute, or `portable`."""
        if self.conv_position != "auto":
            return self.conv_position
        return "split" if self.on_cpu else "grouped"

    @property
    def on_cpu(self) -> bool:
        """Whether CPUs will compute."""
        return (self.platform or default_platform()) == "cpu"


def default_platform() -> str:
    """Where what is being traced will run: on `jax.default_device` where one is set, else on the default backend."""
    chosen: Any = jax.config.jax_default_device  # type: ignore[attr-defined]  a device, a platform's name or None
    if chosen is None:
        return jax.default_backend()
    return chosen if isinstance(chosen, str) else chosen.platform


AUTO = Forms()
PORTABLE = Forms("portable", "portable")  # clips and split on CPUs, direct and grouped elsewhere
