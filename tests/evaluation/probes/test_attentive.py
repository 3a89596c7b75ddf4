"""The attentive probe: its formula by hand, padding, and a class that only one token of many shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.evaluation.probes.attentive import AttentiveProbe, attentive_fit, attentive_init, attentive_logits
from beats_jax.evaluation.probes.nested import study
from beats_jax.evaluation.probes.rounds import single_rounds

DRAW = np.random.default_rng(0)


def needles(clips=96, tokens=16, width=8):
    """Three classes: one token in `tokens` shows the class beside a mark that says where to look; the rest is loud noise."""
    labels = np.arange(clips) % 3
    values = 2 * DRAW.standard_normal((1, clips, tokens, width)).astype(np.float32)
    place = DRAW.integers(0, tokens // 2, clips)
    values[0, np.arange(clips), place, :4] = 0
    values[0, np.arange(clips), place, labels] = 5
    values[0, np.arange(clips), place, 4] = 10
    mask = np.arange(tokens)[None] < DRAW.integers(tokens // 2, tokens, clips)[:, None]
    return values, mask, labels, np.eye(3, dtype=np.float32)[labels]


def test_the_formula():
    params = attentive_init(jax.random.key(0), 2, 5, 3)
    params = {name: leaf + jnp.asarray(DRAW.standard_normal(leaf.shape), jnp.float32) for name, leaf in params.items()}
    tokens, mask = DRAW.standard_normal((2, 4, 6, 5)).astype(np.float32), np.arange(6)[None] < np.array([[6], [1], [3], [4]])
    found = attentive_logits(params, jnp.where(mask[None, :, :, None], tokens, 0), mask)
    share = np.exp(params["layers"]) / np.exp(params["layers"]).sum()
    for clip in range(4):
        mixed = (share[:, None, None] * tokens[:, clip])[:, mask[clip]].sum(axis=0)
        gathered = []
        for query in np.asarray(params["queries"]):
            weights = np.exp(mixed @ query)
            gathered.append(weights @ mixed / weights.sum())
        expected = np.concatenate(gathered) @ params["kernel"] / len(gathered) + params["bias"]
        np.testing.assert_allclose(found[clip], expected, atol=1e-4)


def test_it_finds_what_pooling_hides_and_never_learns_from_what_is_held_out():
    tokens, mask, labels, targets = needles()
    training = (np.arange(96) < 72).astype(np.float32)
    fit = jax.jit(attentive_fit, static_argnames=("multi_label", "seed"))
    logits = fit(tokens, mask, targets, training, jnp.float32(0.03), False, 0)
    assert np.mean(np.asarray(logits).argmax(1)[72:] == labels[72:]) > 0.8
    spoilt = np.where(training[None, :, None, None] > 0, tokens, 7.0)
    spoilt = np.where(mask[None, :, :, None], spoilt, np.float32(1e4))  # nor from padding
    others = np.where(training[:, None] > 0, targets, targets[:, ::-1])
    again = fit(spoilt.astype(np.float32), mask, others, training, jnp.float32(0.03), False, 0)
    np.testing.assert_allclose(again[:72], logits[:72], atol=2e-3)


@pytest.mark.slow
def test_it_goes_through_the_folds_as_other_probes_do():
    tokens, mask, labels, targets = needles(clips=24, tokens=6, width=5)
    folds = np.arange(24) // 3 % 3
    probe = AttentiveProbe(tokens, mask, targets, False, settings=(3.0, 0.03))
    rounds = single_rounds(folds)
    scores = probe.scores(rounds)
    assert scores.score.shape == scores.loss.shape == (1, 2, 3, 1)
    found = study({"attentive": probe}, folds, 3)
    assert np.isfinite(found.logits).all()
    for number in range(3):
        choice = found.final._replace(setting=1)
        right = probe.answers(choice, rounds, number).argmax(1) == labels[rounds.held[number][rounds.part[number] >= 0]]
        assert scores.score[0, 1, number, 0] == pytest.approx(right.mean())
    with pytest.raises(UserError, match="clip 3 has no token"):
        AttentiveProbe(tokens, mask & (np.arange(24) != 3)[:, None], targets, False)
