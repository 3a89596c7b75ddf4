"""The exact search against numpy's argsort in float64, on any number of devices."""

import jax
import numpy as np
import pytest

from beats_jax.inference.search.nearest import METRICS, TILE, device_blocks, nearest_rows
from beats_jax.parallel.mesh import make_mesh

NOTHING = np.zeros((1, 0, 24), np.float32)


def mesh_of(devices):
    return make_mesh(devices=jax.devices()[:devices])


def search(rows, examples, k, metric="cosine", others=NOTHING, devices=1, parts=3):
    mesh = mesh_of(devices)
    return nearest_rows(device_blocks(np.array_split(rows, parts), mesh), examples, others, k, metric, mesh)


def similarity(rows, vectors, metric):
    """float64 [rows, vectors]."""
    rows, vectors = rows.astype(np.float64), vectors.astype(np.float64)
    if metric == "euclidean":
        return -np.linalg.norm(rows[:, None] - vectors[None], axis=2)
    products = rows @ vectors.T
    lengths = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)[None]
    return products / lengths if metric == "cosine" else products


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).standard_normal((2 * TILE + 77, 24)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_the_best_rows_are_those_of_argsort(rows, metric, kind):
    draw = np.random.default_rng(1)
    rows, examples, others = (
        rows.astype(kind),
        draw.standard_normal((2, 3, 24)),
        draw.standard_normal((2, 2, 24)).astype(np.float32),
    )
    found = search(rows, examples, 40, metric, others)
    for query in range(2):
        likes = similarity(rows, examples[query], metric)
        scores = likes.max(axis=1) - similarity(rows, others[query], metric).max(axis=1)
        best = np.argsort(-scores)[:40]
        assert found.rows[query].tolist() == best.tolist()
        np.testing.assert_allclose(found.scores[query], scores[best], rtol=1e-5, atol=1e-5)
        assert found.examples[query].tolist() == likes.argmax(axis=1)[best].tolist()
    assert found.unusable == 0


def test_one_device_and_eight_find_the_same_and_equal_rows_go_by_number(rows):
    doubled = rows.copy()
    doubled[[5, 300, TILE, TILE + 1, 2 * TILE + 70]] = rows[300]
    alone, shared = (search(doubled, rows[None, 300:301], 50, devices=devices) for devices in (1, 8))
    assert alone.rows[0, :5].tolist() == [5, 300, TILE, TILE + 1, 2 * TILE + 70]
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_without_a_score_are_left_out_and_counted(rows):
    few = rows[:20].copy()
    few[3], few[4, 2], few[5] = np.nan, np.inf, 0
    found = search(few, rows[None, 7:8], 100)
    assert found.unusable == 3
    assert sorted(found.rows[0].tolist()) == [row for row in range(20) if row not in (3, 4, 5)]
    assert search(few, rows[None, 7:8], 100, "dot").unusable == 2  # zeros have an inner product


def test_how_the_rows_are_cut_into_parts_changes_nothing(rows):
    one, many = (search(rows, rows[None, :2], 30, parts=parts) for parts in (1, 11))
    for first, second in zip(one, many, strict=True):
        np.testing.assert_array_equal(first, second)


def test_more_results_than_a_tile_holds(rows):
    found = search(rows, rows[None, :1], 2 * TILE)
    best = np.argsort(-similarity(rows, rows[:1], "cosine")[:, 0], kind="stable")[: 2 * TILE]
    assert (found.rows[0] == best).mean() > 0.999  # neighbours closer than float32 may change places
    assert len(set(found.rows[0].tolist())) == 2 * TILE
