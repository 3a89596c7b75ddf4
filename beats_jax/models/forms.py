"""Which of several equal formulations of a layer is traced. The results agree to rounding; only speed and memory differ.

Measured on CPU: attention of a batch of four or more clips is 2.1 to 2.3 times faster clip by clip, a single clip is best
direct. From some 800 tokens on (AST has 1214) a head at a time is fastest, because its scores stay in the cache: 1.5 to 1.9 times
forwards, 1.0 to 1.4 in the gradient; at 513 tokens and below it gains nothing. The gradient of a grouped convolution is 13 times
slower than that of one dense convolution per group. GPU and TPU take the batched and grouped forms. In an exported program, which
runs on several platforms and for any batch, `portable` puts both forms in; the one of the platform at hand is compiled.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from beats_jax.config.rules import require_one_of

CLIPWISE_FROM_BATCH = 4
HEADWISE_FROM_TOKENS = 800


@dataclass(frozen=True)
class Forms:
    """Formulation of each layer that has more than one; `auto` chooses by backend and shape while tracing."""

    attention: str = "auto"  # auto | direct (whole batch at once) | clips (one clip after another) | portable
    conv_position: str = "auto"  # auto | grouped (one grouped convolution) | split (one dense convolution per group) | portable

    def __post_init__(self) -> None:
        require_one_of("forms.attention", self.attention, ("auto", "direct", "clips", "portable"))
        require_one_of("forms.conv_position", self.conv_position, ("auto", "grouped", "split", "portable"))

    def attention_for(self, batch_size: int, tokens: int = 0) -> str:
        """`direct`, `clips`, `heads` or `portable` for a batch of this size.

        Args:
          tokens: of an attention without bias and dropout, whose heads may go one after another; 0 = they may not.

        Over several devices `auto` stays direct: a loop over a sharded axis would gather it.
        """
        if self.attention != "auto":
            return self.attention
        one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
        if one_cpu and tokens >= HEADWISE_FROM_TOKENS:
            return "heads"
        return "clips" if one_cpu and batch_size >= CLIPWISE_FROM_BATCH else "direct"

    def conv_position_here(self) -> str:
        """`grouped` or `split` on the current backend, or `portable`."""
        if self.conv_position != "auto":
            return self.conv_position
        return "split" if jax.default_backend() == "cpu" else "grouped"


AUTO = Forms()
PORTABLE = Forms("portable", "portable")  # clips and split on CPUs, direct and grouped elsewhere
