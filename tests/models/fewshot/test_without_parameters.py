"""SimpleShot and LaplacianShot where the answer is known, and against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.models.fewshot import laplacian, nearest

# Compiled as a whole: operation by operation takes ten times as long
laplacian_scores = jax.jit(laplacian.laplacian_scores, static_argnames=("pull", "neighbours"))
prototypical_scores, simpleshot_scores = jax.jit(nearest.prototypical_scores), jax.jit(nearest.simpleshot_scores)


@pytest.fixture(scope="module")
def clouds():
    """Three ways, five shots and ten queries of each in 16 dimensions, far from zero and of unlike lengths."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 1, 16))
    points = (means + 0.5 * rng.normal(size=(3, 15, 16))) * rng.uniform(0.5, 2, (3, 15, 1)) + 5
    support, query = points[:, :5], points[:, 5:].reshape(30, 16)
    return jnp.asarray(support, jnp.float32), jnp.asarray(query, jnp.float32), np.repeat(np.arange(3), 10)


def test_simpleshot_is_the_distance_on_the_sphere(clouds):
    support, query, _ = clouds
    centre = np.asarray(support, np.float64).mean(axis=(0, 1))
    own, other = (x - centre for x in (np.asarray(support, np.float64), np.asarray(query, np.float64)))
    own, other = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (own, other))
    expected = -((other[:, None] - own.mean(axis=1)[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(simpleshot_scores(support, query), expected, atol=1e-5)
    given = simpleshot_scores(support, query, jnp.asarray(centre, jnp.float32))
    np.testing.assert_allclose(given, expected, atol=1e-5)
    moved = simpleshot_scores(4 * support + 7, 4 * query + 7)
    np.testing.assert_allclose(moved, expected, atol=1e-4)  # neither place nor scale matters


def test_laplacian_pulls_a_query_to_its_neighbours():
    """A query between two class means, with neighbours that clearly are of the first: alone it is of the second."""
    support = jnp.asarray([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    near_first = [[1.0, 0.85, 1.0], [1.0, 0.8, 1.0], [1.0, 0.75, 1.0]]
    of_second = [[0.84, 1.0, -1.0], [0.8, 1.0, -1.0], [0.76, 1.0, -1.0]]
    query, centre = jnp.asarray([[1.0, 3.0, 1.0], *near_first, *of_second]), jnp.zeros(3)
    assert laplacian_scores(support, query, centre, pull=0.0)[0].argmax() == 1
    pulled = laplacian_scores(support, query, centre)
    np.testing.assert_array_equal(pulled.argmax(axis=1), [0, 0, 0, 0, 1, 1, 1])


def test_laplacian_gives_probabilities_and_follows_the_order_of_the_queries(clouds):
    support, query, labels = clouds
    scores = laplacian_scores(support, query)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-5)
    assert (np.asarray(scores).argmax(axis=1) == labels).mean() > 0.8
    order = np.random.default_rng(1).permutation(30)
    np.testing.assert_allclose(laplacian_scores(support, query[order]), scores[order], atol=1e-4)
    assert laplacian_scores(support, query[:1]).shape == (1, 3)  # a single query has no neighbour


def test_a_batch_of_episodes_is_each_alone(clouds):
    support, query, _ = clouds
    supports, queries = jnp.stack([support, 2 * support]), jnp.stack([query, query + 1])
    for rule in (prototypical_scores, simpleshot_scores, laplacian_scores):
        many = jax.jit(jax.vmap(rule))(supports, queries)
        for one in range(2):
            np.testing.assert_allclose(many[one], rule(supports[one], queries[one]), rtol=1e-4, atol=1e-4)


def test_distances_of_long_vectors_near_each_other_are_exact():
    left = jnp.asarray([[1000.0, 1000.0], [1000.0, 1000.1]])
    np.testing.assert_allclose(nearest.squared_distances(left, left), [[0, 0.01], [0.01, 0]], rtol=2e-3, atol=0)


def test_identical_support_and_zeros_have_finite_scores_and_gradients():
    support, query = jnp.zeros((2, 3, 4)), jnp.zeros((5, 4))
    for rule in (prototypical_scores, simpleshot_scores, laplacian_scores):
        total, gradient = jax.jit(jax.value_and_grad(lambda s, rule=rule: jnp.sum(rule(s, query))))(support)
        assert np.isfinite(total)
        assert np.isfinite(gradient).all()
