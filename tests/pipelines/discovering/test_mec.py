"""Meta Embedded Clustering with an encoder that is a formula, and once with a trained one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.grouping.group import group
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.pipelines.discovering.mec import Learning, MecSettings, darksound_v1, learnt_labels, mec, one_pass

PLAIN = GroupingSettings(scale="none", reduce="none")


class Pulling:
    """An encoder that moves each row towards the mean of its cluster; the model's name is how often it has learnt."""

    def __init__(self, seed: int = 0, spread: float = 4.0) -> None:
        random = np.random.default_rng(seed)
        self.truth = np.repeat(np.arange(4), 30)
        self.vectors = random.normal(size=(4, 6))[self.truth] * spread + random.normal(size=(120, 6))
        self.learnt: list[Learning] = []
        self.models: dict[str, np.ndarray] = {"start": self.vectors}

    def embed(self, model: str) -> np.ndarray:
        return self.models[model]

    def learn(self, given: Learning) -> str:
        self.learnt.append(given)
        vectors = self.models[given.model].copy()
        for cluster in range(given.labels.max() + 1):
            rows = given.labels == cluster
            vectors[rows] += 0.7 * (vectors[rows].mean(axis=0) - vectors[rows])
        name = f"after {given.iteration}"
        self.models[name] = vectors
        return name


def test_clusters_settle_and_the_iterations_end(tmp_path: Path) -> None:
    encoder = Pulling()
    best, found = mec(encoder.embed, encoder.learn, "start", tmp_path, MecSettings(iterations=9, grouping=PLAIN))
    assert 2 <= len(found) < 10
    assert found[-1].same is not None
    assert found[-1].same >= 0.98
    assert best is found[-1]
    assert [each.model for each in found[:2]] == ["start", "after 0"]
    assert adjusted_rand_score(encoder.truth, best.groups.labels) >= adjusted_rand_score(encoder.truth, found[0].groups.labels)
    assert best.groups.coverage >= found[0].groups.coverage
    assert all(given.labels.shape == (120,) for given in encoder.learnt)


def test_a_killed_run_goes_on_with_the_next_iteration(tmp_path: Path) -> None:
    settings = MecSettings(iterations=3, settled=1.0, grouping=PLAIN)
    whole = Pulling(spread=1.5)
    _, expected = mec(whole.embed, whole.learn, "start", tmp_path / "whole", settings)
    assert len(expected) >= 3, "the case must have iterations to resume"
    killed = Pulling(spread=1.5)

    def learn(given: Learning) -> str:
        if given.iteration == 1:
            raise KeyboardInterrupt
        return killed.learn(given)

    with pytest.raises(KeyboardInterrupt):
        mec(killed.embed, learn, "start", tmp_path / "killed", settings)
    resumed = Pulling(spread=1.5)
    resumed.models = killed.models
    _, found = mec(resumed.embed, resumed.learn, "start", tmp_path / "killed", settings)
    assert resumed.learnt[0].iteration == 1, "iteration 0 is not learnt again"
    assert [each.row() for each in found] == [each.row() for each in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.groups.labels, other.groups.labels)
        np.testing.assert_array_equal(one.groups.membership, other.groups.membership)
    _, again = mec(_refuse, _refuse, "start", tmp_path / "whole", settings)
    assert [each.row() for each in again] == [each.row() for each in expected]


def test_more_iterations_go_on_where_fewer_ended(tmp_path: Path) -> None:
    encoder = Pulling(spread=1.5)
    shorter = MecSettings(iterations=1, settled=1.0, grouping=PLAIN)
    mec(encoder.embed, encoder.learn, "start", tmp_path, shorter)
    _, found = mec(encoder.embed, encoder.learn, "start", tmp_path, MecSettings(iterations=2, settled=1.0, grouping=PLAIN))
    assert [given.iteration for given in encoder.learnt] == [0, 1]
    assert len(found) == 3
    assert len(mec(_refuse, _refuse, "start", tmp_path, shorter)[1]) == 2


def _refuse(given: object) -> NoReturn:
    raise AssertionError(f"nothing is left to compute: {given}")


def test_a_folder_of_other_settings_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    encoder = Pulling()
    settings = MecSettings(iterations=0, grouping=PLAIN)
    mec(encoder.embed, encoder.learn, "start", tmp_path, settings, identity={"regions": 120})
    other = MecSettings(iterations=0, surest=0.5, grouping=PLAIN)
    with pytest.raises(UserError, match=r"other settings: .*surest"):
        mec(encoder.embed, encoder.learn, "start", tmp_path, other, {"regions": 120})
    with pytest.raises(UserError, match="regions"):
        mec(encoder.embed, encoder.learn, "start", tmp_path, settings, {"regions": 121})
    (tmp_path / "iteration-00" / "clusters.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"clusters\.npz cannot be read"):
        mec(encoder.embed, encoder.learn, "start", tmp_path, settings, {"regions": 120})


def test_nothing_to_learn_ends_at_once(tmp_path: Path) -> None:
    encoder = Pulling()
    encoder.models["start"] = np.full((120, 6), np.nan)
    best, found = mec(encoder.embed, encoder.learn, "start", tmp_path / "nan", MecSettings(grouping=PLAIN))
    assert (len(found), best.groups.count, encoder.learnt) == (1, 0, [])
    encoder.models["start"] = np.ones((120, 6))
    best, found = mec(encoder.embed, encoder.learn, "start", tmp_path / "alike", MecSettings(grouping=PLAIN))
    assert (len(found), best.groups.count) == (1, 1), "one cluster has nothing to be told from"
    assert json.loads((tmp_path / "alike" / "iteration-00" / "iteration.json").read_text())["dbcv"] is None


def test_the_surest_rows_of_each_cluster_are_learnt() -> None:
    found = group(Pulling().vectors, PLAIN)
    labels = learnt_labels(found, 0.5)
    for cluster in range(found.count):
        own, kept = found.labels == cluster, labels == cluster
        assert kept.sum() == round(own.sum() * 0.5)
        assert found.membership[kept].min() >= found.membership[own & ~kept].max()
    np.testing.assert_array_equal(learnt_labels(found, 1.0), found.labels)


def test_the_first_vectors_stay_beside_the_learnt_ones(tmp_path: Path) -> None:
    """An encoder that forgets everything cannot lose what the first one told apart."""
    encoder = Pulling()

    def forget(given: Learning) -> str:
        encoder.models["forgetful"] = np.ones((120, 6))
        return "forgetful"

    for anchored in (True, False):
        settings = MecSettings(iterations=1, anchored=anchored, grouping=PLAIN)
        _, found = mec(encoder.embed, forget, "start", tmp_path / str(anchored), settings)
        assert (found[1].groups.count > 1) == anchored


def test_upstreams_choice_is_the_highest_dbcv_of_the_usual_number(tmp_path: Path) -> None:
    encoder = Pulling(spread=1.5)
    settings = darksound_v1(iterations=3)
    assert (settings.grouping.smallest, settings.surest, settings.choose) == (6, 1.0, "dbcv")
    best, found = mec(encoder.embed, encoder.learn, "start", tmp_path, settings)
    counts = [each.groups.count for each in found]
    usual = max(set(counts), key=lambda count: (counts.count(count), -counts.index(count)))
    assert best.groups.count == usual
    assert best.dbcv == max((each.dbcv for each in found if each.groups.count == usual and each.dbcv is not None), default=None)


@pytest.mark.browser  # the environment of the page has UMAP
def test_the_second_version_takes_the_dimensions_whose_clusters_are_densest() -> None:
    truth = np.repeat(np.arange(3), 60)
    vectors = np.eye(20)[truth] * 12 + np.random.default_rng(0).normal(size=(180, 20))
    best, tried = one_pass(vectors, dimensions=(2, 4), knee="kth")
    assert [each.settings.dimensions for each in tried] == [2, 4]
    assert best.dbcv == max(each.dbcv for each in tried if each.dbcv is not None)
    kept = best.groups.labels >= 0
    assert kept.mean() > 0.8
    assert adjusted_rand_score(truth[kept], best.groups.labels[kept]) == 1.0
