"""The episodic objective: closed forms of its losses, what cannot be read, parts of a step, statistics, learning."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_problem import CLASSES, FRAME, SAMPLE_RATE, SAMPLES, filterbank

from beats_jax.config import AugmentConfig, BEATsConfig, EpisodicConfig
from beats_jax.errors import UserError
from beats_jax.models.fewshot.heads import FewShotHead
from beats_jax.objectives.episodic import Episodic
from beats_jax.objectives.inputs import Frontend

WAYS, SHOTS, QUERIES = 3, 2, 2
CLIPS = WAYS * (SHOTS + QUERIES)
BINS = FRAME // 2 + 1


class Output(NamedTuple):
    features: jax.Array


class TinyEncoder(nn.Module):
    """A dense layer on every band of every frame: 16 frames of one token each."""

    @nn.compact
    def __call__(self, fbank: jax.Array, token_mask: jax.Array, *, deterministic: bool = True) -> Output:
        return Output(nn.Dense(8)(jnp.log1p(fbank)))


def make_objective(method: str = "prototypical", episodes: int = 2, rate: float = 0.0, **changes: Any) -> Episodic:
    sizes: dict[str, Any] = {"n_way": WAYS, "n_shot": SHOTS, "n_query": QUERIES, "episodes_per_step": episodes}
    fields: dict[str, Any] = {
        "model": TinyEncoder(),
        "model_config": BEATsConfig(input_patch_size=1),
        "head": FewShotHead(method),
        "frontend": Frontend(filterbank, lambda frame_mask: frame_mask, AugmentConfig(), SAMPLE_RATE),
        "optimizer": optax.adam(rate),
        "config": EpisodicConfig(method=method, **sizes),
    }
    return Episodic(**{**fields, **changes})


def make_batch(seed: int, episodes: int = 2) -> dict[str, jax.Array]:
    """Episodes of noisy tones, one pitch a class, in the order of `datasets.episode_batches`."""
    random, labels = np.random.default_rng(seed), []
    for _ in range(episodes):
        ways = random.permutation(CLASSES)[:WAYS]
        labels += [np.repeat(ways, SHOTS), np.repeat(ways, QUERIES)]
    pitch = np.concatenate(labels)
    phase = 2 * np.pi * (pitch[:, None] + 1) / FRAME * np.arange(SAMPLES)[None]
    waveforms = np.sin(phase + random.uniform(high=6, size=(len(pitch), 1))) + random.normal(size=phase.shape)
    return {
        "waveforms": jnp.asarray(waveforms, jnp.float32),
        "lengths": jnp.full(len(pitch), SAMPLES),
        "positions": jnp.arange(len(pitch), dtype=jnp.int32),
        "rows": jnp.arange(len(pitch), dtype=jnp.int32),
        "example_mask": jnp.ones(len(pitch), bool),
    }


def mean(metrics: dict[str, Any], name: str) -> float:
    return float(metrics[name][0] / metrics[name][1])


def losses_by_hand(vectors: np.ndarray, read: np.ndarray) -> list[float]:
    """Cross-entropy of minus the squared distance to the mean of the readable support, of every readable query."""
    found = []
    for own, there in zip(vectors.reshape(-1, CLIPS, vectors.shape[-1]), read.reshape(-1, CLIPS), strict=True):
        support, queries = np.arange(WAYS * SHOTS).reshape(WAYS, SHOTS), np.arange(WAYS * SHOTS, CLIPS)
        if not all(there[rows].any() for rows in support):
            continue
        prototypes = [own[[row for row in rows if there[row]]].mean(axis=0) for rows in support]
        for number, row in enumerate(queries):
            scores = np.array([-np.square(own[row] - prototype).sum() for prototype in prototypes])
            if there[row]:
                found.append(float(np.log(np.exp(scores - scores.max()).sum()) - (scores - scores.max())[number // QUERIES]))
    return found


@pytest.mark.slow
def test_prototypical_loss_is_that_of_what_can_be_read() -> None:
    objective, whole = make_objective(), make_batch(0)
    state = jax.jit(objective.init)(jax.random.key(0), whole)
    gradients, predict = jax.jit(objective.gradients), jax.jit(objective.predict)
    for unread in ([], [0], [7, 8], [0, 1], [0, 14, 23]):
        read = np.ones(2 * CLIPS, bool)
        read[unread] = False
        sound = np.where(read[:, None], np.asarray(whole["waveforms"]), 0.0)
        batch = {**whole, "example_mask": jnp.asarray(read), "waveforms": jnp.asarray(sound)}
        _, metrics, statistics = gradients(state, batch)
        expected = losses_by_hand(np.asarray(predict(state.params, batch)["items"], np.float64), read)
        assert float(metrics["loss"][1]) == len(expected)
        assert mean(metrics, "loss") == pytest.approx(np.mean(expected), rel=1e-5)
        assert statistics is None


@pytest.mark.slow
def test_relation_loss_and_statistics() -> None:
    objective, batch = make_objective("relation"), make_batch(1)
    state = jax.jit(objective.init)(jax.random.key(0), batch)
    _, metrics, statistics = jax.jit(objective.gradients)(state, batch)
    maps = jax.jit(objective.predict)(state.params, batch)["items"]
    assert maps.shape == (2 * CLIPS, SAMPLES // FRAME, 1, 8)
    parts = maps.reshape(2, CLIPS, *maps.shape[1:])
    support = parts[:, : WAYS * SHOTS].reshape(2, WAYS, SHOTS, *maps.shape[1:])
    apply = jax.jit(partial(objective.head.module(8).apply, train=True, mutable=["batch_stats"]))
    expected, seen = [], []
    for own, other in zip(support, parts[:, WAYS * SHOTS :], strict=True):
        scores, moved = apply({"params": state.params["head"]}, own, other)
        expected.append(np.square(np.asarray(scores) - np.repeat(np.eye(WAYS), QUERIES, axis=0)))
        seen.append(np.asarray(moved["batch_stats"]["bn1"]["mean"]))
    assert mean(metrics, "loss") == pytest.approx(np.mean(expected), rel=1e-5)
    np.testing.assert_allclose(statistics["head"]["bn1"]["mean"], np.mean(seen, axis=0), rtol=1e-5)
    after, _ = jax.jit(objective.update)(state, batch)
    np.testing.assert_array_equal(after.params["head"]["bn1"]["mean"], statistics["head"]["bn1"]["mean"])


def test_parts_of_a_step_are_episodes() -> None:
    batch = make_batch(2, episodes=4)
    whole, parted = make_objective(episodes=4), make_objective(episodes=4, accumulation_steps=2)
    state = jax.jit(whole.init)(jax.random.key(0), batch)
    expected, found = (jax.jit(objective.gradients)(state, batch) for objective in (whole, parted))
    assert mean(found[1], "loss") == pytest.approx(mean(expected[1], "loss"), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found[0], expected[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["prototypical", "matching", "relation"])
def test_new_episodes_of_known_pitches_are_learnt(method: str) -> None:
    objective = make_objective(method, rate=0.02)
    state, update = jax.jit(objective.init)(jax.random.key(1), make_batch(0)), jax.jit(objective.update)
    for step in range(60):
        state, metrics = update(state, make_batch(step + 1))
    assert mean(metrics, "accuracy") > 0.8


def test_a_batch_of_waveforms_alone_is_enough_and_mixing_is_refused() -> None:
    assert "labels" not in make_batch(0)
    with pytest.raises(UserError, match="of no class of an episode"):
        EpisodicConfig(augment=AugmentConfig(mixup_probability=0.5))
    with pytest.raises(UserError, match="which method 'relation' does not read"):
        replace(EpisodicConfig(pooling="max"), method="relation")
