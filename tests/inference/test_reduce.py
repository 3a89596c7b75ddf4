"""Windows to one answer a recording, against numpy over all tokens at once."""

from pathlib import Path

import numpy as np
import pytest

from beats_jax.audio.io import AudioError
from beats_jax.inference.reduce import EachWindow, MaxLogits, MeanLogits, Moments, Pooled, pool_window, reduce_rows
from beats_jax.inference.run import WindowValues

POOLINGS = ("mean", "max", "first", "last", "std", "cls")


def statistics(tokens: np.ndarray, special: np.ndarray) -> dict[str, np.ndarray]:
    """What a program gives of one window: tokens [T, L, D], special [S, L, D]."""
    return {
        "count": np.float32(len(tokens)),
        "mean": tokens.mean(axis=0),
        "m2": ((tokens - tokens.mean(axis=0)) ** 2).sum(axis=0),
        "max": tokens.max(axis=0),
        "first": tokens[0],
        "last": tokens[-1],
        "cls": special.mean(axis=0),
    }


def batch(windows: list[tuple[int, float, dict]], finished=(), errors=()) -> WindowValues:
    rows, starts, values = zip(*windows, strict=True) if windows else ((), (), ())
    stacked = {name: np.stack([value[name] for value in values]) for name in (values[0] if values else {})}
    return WindowValues(
        stacked, np.array(rows, np.int64), np.zeros(len(rows), np.int32), np.array(starts, float), np.ones(len(rows)),
        tuple(finished), tuple(errors),
    )  # fmt: skip


@pytest.mark.parametrize("offset", [0.0, 300.0])  # far from zero, where sums of squares would lose all digits
def test_pooling_is_that_of_all_tokens_of_all_windows(offset):
    rng = np.random.default_rng(0)
    tokens = [(offset + rng.normal(size=(count, 2, 3))).astype(np.float32) for count in (7, 40, 1, 12)]
    special = [rng.normal(size=(2, 2, 3)).astype(np.float32) for _ in tokens]
    reducer = Pooled(POOLINGS)
    batches = [batch([(4, float(i), statistics(t, s))]) for i, (t, s) in enumerate(zip(tokens, special, strict=True))]
    (row,) = reduce_rows([*batches, batch([], finished=[4])], reducer)
    every, all_special = np.concatenate(tokens).astype(np.float64), np.concatenate(special)
    expected = [every.mean(0), every.max(0), every[0], every[-1], every.std(0), all_special.mean(0)]
    np.testing.assert_allclose(row.value, np.stack(expected, axis=1), rtol=2e-5, atol=2e-5)
    assert (row.row, row.start, row.end, row.error) == (4, 0.0, 4.0, None)
    assert row.value.dtype == np.float32
    np.testing.assert_allclose(pool_window(statistics(tokens[1], special[1]), ("std",))[:, 0], tokens[1].std(0), rtol=1e-4)


def test_moments_and_windows_without_tokens():
    tokens = np.random.default_rng(1).normal(size=(9, 1, 4)).astype(np.float32)
    empty = {name: np.zeros_like(value) for name, value in statistics(tokens, tokens).items()}
    windows = [(0, 0.0, empty), (0, 1.0, statistics(tokens, tokens)), (0, 2.0, empty)]
    (row,) = reduce_rows([batch(windows, finished=[0])], Moments())
    assert row.value["count"] == 9
    np.testing.assert_allclose(row.value["mean"], tokens.mean(0), rtol=1e-6)
    np.testing.assert_allclose(row.value["m2"], 9 * tokens.var(0), rtol=1e-5)


def test_logits_of_windows():
    logits = np.array([[1.0, -2.0], [0.0, 5.0], [4.0, 1.0]], np.float32)
    windows = [(0, 0.0, {"logits": logits[0]}), (1, 3.0, {"logits": logits[1]}), (0, 10.0, {"logits": logits[2]})]
    found = {row.row: row.value for row in reduce_rows([batch(windows, finished=[1, 0])], MeanLogits())}
    np.testing.assert_allclose(found[0].logits, [2.5, -0.5])
    assert found[0].peaks.tolist() == [10.0, 10.0]
    np.testing.assert_allclose(found[1].logits, [0.0, 5.0])
    largest = {row.row: row.value for row in reduce_rows([batch(windows, finished=[1, 0])], MaxLogits())}
    np.testing.assert_allclose(largest[0].logits, [4.0, 1.0])


@pytest.mark.parametrize(("policy", "kept"), [("nan", None), ("rest", 1)])
def test_one_rule_for_a_recording_that_cannot_be_read_to_its_end(policy, kept):
    error = AudioError(Path("a.wav"), "torn")
    windows = [(0, 0.0, {"logits": np.ones(2)}), (1, 0.0, {"logits": np.ones(2)})]
    rows = {row.row: row for row in reduce_rows([batch(windows, [0, 1, 2], [(0, error), (2, error)])], EachWindow(), policy)}
    assert (rows[0].value if kept is None else len(rows[0].value)) == kept
    assert rows[0].error is error
    assert (len(rows[1].value), rows[1].error) == (1, None)
    assert (rows[2].value, rows[2].error) == (None, error)
    with pytest.raises(AudioError, match="torn"):
        list(reduce_rows([batch(windows, [0], [(0, error)])], EachWindow(), "raise"))


def test_memory_is_released_with_each_row():
    reducer = Pooled(("mean",))
    values = statistics(np.ones((2, 1, 1), np.float32), np.ones((1, 1, 1), np.float32))
    for number in range(50):
        list(reduce_rows([batch([(number, 0.0, values)], finished=[number])], reducer))
    assert not reducer._states
