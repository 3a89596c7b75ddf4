"""Losses that gather embeddings of what belongs together and spread all others, one value an anchor; and those of a predecessor.

`gathering_losses` is what our objectives use: InfoNCE (van den Oord et al. 2018) with one positive an anchor, the supervised
contrastive loss with several (Khosla et al. 2020, eq. 2). The functions named `published_` repeat marianbasti/bioacoustics
`beats/train.py`, so that the numbers of old runs can be made again; what is wrong with them is said there and mended here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize


def normalise(x: jax.Array) -> jax.Array:
    """Rows of length 1, float32 [..., D]; a row of zeros stays one, with a finite gradient."""
    x = x.astype(jnp.float32)
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jnp.where(squares > SMALLEST_NORM**2, jax.lax.rsqrt(jnp.maximum(squares, SMALLEST_NORM**2)), 0.0)


def similarities(anchors: jax.Array, candidates: jax.Array, temperature: float) -> jax.Array:
    """Cosines over temperature, float32 [A, C], of anchors [A, D] and candidates [C, D], both normalised."""
    return jnp.einsum("ad,cd->ac", anchors, candidates, precision=jax.lax.Precision.HIGHEST) / temperature


def gathering_losses(scores: jax.Array, positives: jax.Array, allowed: jax.Array) -> jax.Array:
    """- mean over the positives p of log softmax(scores)_p, the softmax over the allowed candidates.

    Args:
      scores: float32 [A, C], see `similarities`.
      positives: bool [A, C], candidates that belong to the anchor; only allowed ones count.
      allowed: bool [A, C], False = the candidate does not exist for this anchor (itself, a bad file, an empty place of a bank).
    Returns:
      float32 [A]; 0 for an anchor without a positive.
    """
    positives = positives & allowed
    lowest = jnp.finfo(jnp.float32).min
    log_sums = jax.nn.logsumexp(jnp.where(allowed, scores, lowest), axis=1, keepdims=True)
    count = jnp.sum(positives, axis=1)
    sums = jnp.sum(jnp.where(positives, scores - log_sums, 0.0), axis=1)
    return -sums / jnp.maximum(count, 1)


def share_a_label(labels: jax.Array) -> jax.Array:
    """bool [B, B]: whether two rows of multi-hot `labels` [B, C] have a label in common; a row without labels with none."""
    return jnp.einsum("ac,bc->ab", labels, labels) > 0


def published_contrastive(
    features: jax.Array,
    bank: jax.Array | None = None,
    negatives: jax.Array | None = None,
    *,
    temperature: float = 0.1,
    as_published: bool = True,
) -> jax.Array:
    """The self-supervised loss of the predecessor: every clip against itself, without a second view.

    Three things are wrong with it, which is why no objective of ours uses it. The loss with the bank is computed and then
    overwritten by the one without, so a bank changes nothing; the positive of a clip is the very same embedding, so nothing is
    invariant afterwards; and the term of tokens compares the number of a token with the number of a clip.

    Args:
      features: [B, D], or [B, T, D] of which the mean over T is taken and half the term of tokens added (needs B <= T).
      bank: [K, D] as it is stored; negatives: [N, D], normalised here.
      as_published: False = the bank counts: mean of the loss without it and the one over clips and bank.
    Returns:
      float32 [].
    """
    whole = normalise(features if features.ndim == 2 else jnp.mean(features, axis=1))
    among_clips = similarities(whole, whole, temperature)
    loss = _own_number(among_clips)
    if negatives is not None:
        against = similarities(whole, normalise(negatives), temperature)
        loss = _own_number(jnp.concatenate([among_clips, against], axis=1))
    if bank is not None and not as_published:
        with_bank = jnp.concatenate([among_clips, similarities(whole, bank, temperature)], axis=1)
        loss = (loss + _own_number(with_bank)) / 2
    if features.ndim == 3:
        tokens = jnp.einsum("bd,btd->bt", whole, normalise(features), precision=jax.lax.Precision.HIGHEST)
        loss = loss + 0.5 * _own_number(tokens / temperature)
    return loss


def published_supervised_contrastive(features: jax.Array, positives: jax.Array, *, temperature: float = 0.1) -> jax.Array:
    """The supervised loss of the predecessor: log-sum-exp over all, the anchor itself too, minus that over its positives.

    Ours leaves the anchor out and averages over the positives (`gathering_losses`).

    Args:
      features: [B, D].
      positives: bool [B, B], rows that share a label; the diagonal is ignored.
    Returns:
      float32 []: sum over the anchors that have a positive, over B.
    """
    unit = normalise(features)
    scores = similarities(unit, unit, temperature)
    positives = positives & ~jnp.eye(len(scores), dtype=bool)
    near = jax.nn.logsumexp(jnp.where(positives, scores, jnp.finfo(jnp.float32).min), axis=1)
    losses = jax.nn.logsumexp(scores, axis=1) - near
    return jnp.sum(jnp.where(jnp.any(positives, axis=1), losses, 0.0)) / len(scores)


def published_bank_update(bank: jax.Array, pointer: int, features: jax.Array) -> tuple[jax.Array, int]:
    """The predecessor's bank [K, D] and pointer after a batch [B, D]: a batch that reaches the end starts over at 0 first.

    So between 1 and B of the last rows are never filled; `memory_bank.push` wraps around instead.
    """
    if pointer + len(features) >= len(bank):
        pointer = 0
    return bank.at[pointer : pointer + len(features)].set(normalise(features)), pointer + len(features)


def _own_number(scores: jax.Array) -> jax.Array:
    """Mean cross-entropy where row i should choose column i."""
    rows = jnp.arange(len(scores))
    return -jnp.mean(jax.nn.log_softmax(scores, axis=1)[rows, rows])
