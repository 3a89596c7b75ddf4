"""Answers to episodes against scikit-learn, one episode at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.datasets.episodes import EpisodeRule, EpisodeSampler
from beats_jax.errors import UserError
from beats_jax.evaluation.episodes import methods
from beats_jax.evaluation.episodes.methods import METHODS, answers

NAMES = ("crow", "owl", "wren", "kite")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 20)
    values = (rng.normal(size=(4, 12))[labels] + 0.9 * rng.normal(size=(80, 12))) * rng.uniform(0.1, 5, 12) + 3
    return labels, values.astype(np.float32)


@pytest.fixture(scope="module")
def episodes(table):
    return EpisodeSampler(table[0], NAMES, EpisodeRule(3, 4, 6, seed=1)).batch(0, 7)


def by_scikit_learn(method, values, episodes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    makers = {
        "prototypical": NearestCentroid,
        "nearest-mean": lambda: make_pipeline(StandardScaler(), NearestCentroid()),
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)),
    }
    found = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        ways = np.repeat(np.arange(len(support)), support.shape[1])
        model = makers[method]().fit(values[support].reshape(-1, values.shape[1]), ways)
        found.append(model.predict(values[query].reshape(-1, values.shape[1])).reshape(query.shape))
    return np.array(found)


@pytest.mark.parametrize("method", ["prototypical", "nearest-mean", "logistic"])
def test_answers_are_those_of_scikit_learn(table, episodes, method, monkeypatch):
    monkeypatch.setattr(methods, "AT_A_TIME", 3 * 30 * 12)  # three episodes at once: the last batch is not full
    expected = by_scikit_learn(method, table[1], episodes)
    found = answers(METHODS[method], table[1], episodes)
    assert (found == expected).mean() > 0.99  # a query between two classes may fall either way
    assert 0.5 < (found == np.arange(3)[None, :, None]).mean() < 1


def test_parameters_come_before_support_and_query(table, episodes):
    def rule(params, support, query):
        return METHODS["prototypical"](support * params["scale"][None, None], query * params["scale"][None])

    plain = answers(METHODS["prototypical"], table[1], episodes)
    np.testing.assert_array_equal(answers(rule, table[1], episodes, {"scale": jnp.ones(12)}), plain)
    assert (answers(rule, table[1], episodes, {"scale": jnp.eye(12)[0]}) != plain).any()


def test_scores_that_are_not_numbers_are_refused(table, episodes):
    with pytest.raises(UserError, match="some scores are not numbers"):
        answers(METHODS["prototypical"], 1e25 * table[1], episodes)
