"""The loop's memory: best, patience, running sums, and what happens to numbers that are none."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.training.progress import Meter, NonFinite, Progress, stack_metrics


@pytest.mark.parametrize(("monitor", "values", "best"), [("f1_macro", [0.2, 0.5, 0.4], 2), ("loss", [2.0, 1.0, 1.5], 2)])
def test_best_is_largest_and_for_losses_smallest(monitor, values, best):
    progress = Progress()
    for step, value in enumerate(values, start=1):
        progress.step = step
        progress.observe({monitor: value}, monitor, patience=0)
    assert (progress.best_step, progress.best, progress.waited) == (best, values[best - 1], 1)


def test_patience_counts_evaluations_through_a_restart():
    progress = Progress()
    stops = []
    for value in [0.5, 0.5, 0.6, float("nan"), 0.1]:
        progress = Progress(**json.loads(json.dumps(progress.record())))
        progress.observe({"accuracy": value}, "accuracy", patience=2)
        stops.append(progress.stopped_early)
    assert stops == [False, False, False, False, True]
    assert progress.best == 0.6


def test_a_monitor_that_is_not_measured_is_named():
    with pytest.raises(UserError, match=r"monitor is 'acuracy'.*it gives: accuracy, loss"):
        Progress().observe({"loss": 1.0, "accuracy": 0.5}, "acuracy", 0)


def test_sums_are_averaged_by_count_and_one_step_late():
    progress, read = Progress(), []
    meter = Meter(progress, str, read.append)
    meter.add(1, stack_metrics({"loss": (np.float32(6), np.float32(3)), "empty": (0.0, 0.0)}), np.arange(2))
    assert read == []
    meter.add(2, stack_metrics({"loss": (np.float32(4), np.float32(1))}), np.arange(2))
    assert read == [1]
    meter.flush()
    meter.flush()
    assert read == [1, 2]
    assert progress.take_window() == {"loss": 2.5}
    assert progress.take_window() == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_names_step_metric_and_rows(value):
    meter = Meter(Progress(), lambda rows: " ".join(f"file{row}.wav" for row in rows), lambda step: None)
    meter.add(7, stack_metrics({"loss": (value, 1.0)}), np.array([3, 5]))
    with pytest.raises(NonFinite, match=rf"step 7: loss is {value}; rows of the batch: file3.wav file5.wav"):
        meter.flush()


def test_metrics_of_a_step_are_one_array():
    metrics = jax.jit(
        lambda: stack_metrics({"loss": (jnp.float32(6), jnp.float32(3)), "a": (jnp.ones(()), jnp.zeros((), int))})
    )()
    assert [leaf.shape for leaf in jax.tree.leaves(metrics)] == [(2, 2)]
    assert metrics.fetch() == {"a": (1.0, 0.0), "loss": (6.0, 3.0)}
