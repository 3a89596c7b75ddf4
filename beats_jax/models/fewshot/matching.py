"""Matching networks with full context embeddings (Vinyals et al. 2016) as darksound and easyfsl compute them.

Letters: see `models.fewshot`. The support is read in order by a bidirectional LSTM, each query by an LSTM that attends to the
support as many steps as it has items. The paper's cosine is here a product with the support vectors of length 1; the query keeps
its own length. The order of the support changes the scores: classes one after the other, as episodes hold them.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from beats_jax.models.fewshot import Queries, Scores, Support
from beats_jax.models.fewshot.nearest import unit
from beats_jax.models.layers import torch_bias

SMALLEST = 1e-6  # beside a probability before its logarithm

Items = Float[Array, "items width"]


class LSTMWeights(NamedTuple):
    """Gates in torch's order: input, forget, cell, output."""

    kernel: Float[Array, "inputs gates"]
    recurrent: Float[Array, "width gates"]
    bias: Float[Array, " gates"]


class LSTM(nn.Module):
    """Holds the weights of an LSTM, with torch's two biases, all uniform in ±1/sqrt(width) at first."""

    inputs: int
    width: int

    @nn.compact
    def __call__(self) -> LSTMWeights:
        initial, gates = torch_bias(self.width), 4 * self.width
        shapes = {"kernel": (self.inputs, gates), "recurrent": (self.width, gates), "bias": (gates,), "recurrent_bias": (gates,)}
        kernel, recurrent, bias, other = (self.param(name, initial, shape) for name, shape in shapes.items())
        return LSTMWeights(kernel, recurrent, bias + other)


def lstm_step(gates: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Hidden state and cell [..., D] from the summed inputs of the gates [..., 4 D] and the cell before."""
    admit, keep, candidate, show = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(admit) * jnp.tanh(candidate)
    return jax.nn.sigmoid(show) * jnp.tanh(cell), cell


def read_in_order(weights: LSTMWeights, items: Items, *, reverse: bool = False) -> Items:
    """The hidden state after each item; `reverse`: from the last item to the first, each in its item's place."""
    projected = items @ weights.kernel + weights.bias[None]

    def step(carry: tuple[jax.Array, jax.Array], inputs: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        hidden, cell = lstm_step(inputs + carry[0] @ weights.recurrent, carry[1])
        return (hidden, cell), hidden

    empty = jnp.zeros(weights.recurrent.shape[0], projected.dtype)
    return jax.lax.scan(step, (empty, empty), projected, reverse=reverse)[1]


def attend(weights: LSTMWeights, query: Queries, support: Items, steps: int) -> tuple[Queries, Queries]:
    """Queries in the context of the support, and the cell, after a number of read-out steps.

    Each step: attention softmax(h g^T) over the support g, its mean r, and one LSTM step on [query, r]; the query is added to the
    hidden state. The query's share of the gates is the same in all steps and computed once.
    """
    width = query.shape[-1]
    projected = query @ weights.kernel[:width] + weights.bias[None]

    def step(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        hidden, cell = carry
        read = jax.nn.softmax(hidden @ support.T, axis=-1) @ support
        gates = projected + read @ weights.kernel[width:] + hidden @ weights.recurrent
        hidden, cell = lstm_step(gates, cell)
        return (hidden + query, cell), None

    return jax.lax.scan(step, (query, jnp.zeros_like(query)), length=steps)[0]


def matching_scores(query: Queries, support: Items, labels: Float[Array, "items ways"]) -> Scores:
    """log(p + 1e-6), p = each class's share of softmax(query . support of length 1). labels: one-hot; all in context."""
    return jnp.log(jax.nn.softmax(query @ unit(support).T, axis=-1) @ labels + SMALLEST)


class FullContextEmbeddings(nn.Module):
    """The matching network of a backbone with vectors of `width`; 20 D^2 weights and more."""

    width: int

    def setup(self) -> None:
        self.forward = LSTM(self.width, self.width)
        self.backward = LSTM(self.width, self.width)
        self.read_out = LSTM(2 * self.width, self.width)

    def in_context(self, items: Items) -> Items:
        """Support items [S, D], in order, each with the hidden states of both directions added."""
        return items + read_in_order(self.forward(), items) + read_in_order(self.backward(), items, reverse=True)

    def query_in_context(self, query: Queries, support: Items) -> Queries:
        """Queries after S read-out steps; support: of `in_context`."""
        return attend(self.read_out(), query, support, support.shape[0])[0]

    def __call__(self, support: Support, query: Queries) -> Scores:
        """Scores whose softmax are probabilities of the classes; classes are read one after the other."""
        ways, shots, width = support.shape
        items = self.in_context(support.reshape(ways * shots, width))
        labels = jnp.repeat(jnp.eye(ways), shots, axis=0)
        return matching_scores(self.query_in_context(query, items), items, labels)
