"""What a run says before its first step, against counts made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.config import DataConfig, Experiment, TrainingConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.objectives.state.state import create
from beats_jax.pipelines.training.start_report import memory_line, parameter_line, start_report, window_line, window_warnings
from beats_jax.training import optimizer

PARAMS = {"encoder": {"kernel": jnp.zeros((1000, 500)), "bias": jnp.zeros(500)}, "predictor": {"kernel": jnp.zeros((500, 400))}}


def rows(seconds, starts=None, ends=None):
    """Training rows of files that last `seconds`."""
    files = np.array([f"{i}.wav" for i in range(len(seconds))])
    found = Manifest.from_columns(files, labels=[("a",)] * len(files), starts=starts, ends=ends)
    return found.with_metadata(seconds=np.asarray(seconds, float))


def state_of(freeze=(), average=False):
    steps = optimizer.build(TrainingConfig(freeze=freeze), 10)
    return create(PARAMS, jax.random.key(0), steps, average=average)


def test_parameters_that_learn_and_that_do_not():
    assert parameter_line(PARAMS, ()) == "0.701 million: 0.701 million learn, 0 are frozen"
    assert parameter_line(PARAMS, ("encoder/.*",)) == "0.701 million: 0.2 million learn, 0.5 million are frozen"


@pytest.mark.parametrize(
    ("freeze", "average", "learnt", "copies"),
    [((), False, 700_500, 0), (("encoder/.*",), False, 200_000, 0), ((), True, 700_500, 1)],
)
def test_memory_is_weights_gradients_two_moments_and_averages(freeze, average, learnt, copies):
    """float32: 4 bytes each; frozen parameters have neither gradients nor moments."""
    line = memory_line(state_of(freeze, average), freeze)
    whole = 4 * (700_500 + learnt + 2 * learnt + copies * 700_500)
    assert line.startswith(f"{whole / 1e6:.0f} MB on all devices together (weights 3 MB, gradients {4 * learnt / 1e6:.0f} MB, ")
    assert f"optimizer {8 * learnt / 1e6:.0f} MB" in line
    assert ("averages" in line) == average
    assert line.endswith("without activations")


def test_windows_stand_beside_the_durations_of_rows():
    found = rows([2.0, 60.0, 5.0], starts=[np.nan, 10.0, 1.0], ends=[np.nan, 20.0, np.nan])  # 2, 10 and 4 s
    assert window_line(DataConfig(window_seconds=10), found) == "10 s; 3 training rows of 2 to 10 s, median 4 s"


def test_a_window_of_padding_is_warned_of_with_the_remedy():
    (line,) = window_warnings(DataConfig(window_seconds=10.0), rows([2.0] * 20))
    assert line.startswith("80% of what the model reads is padding")
    assert "--config.data.window_seconds=2 saves" in line
    for window in (1.9, 2.0, 3.0):
        assert window_warnings(DataConfig(window_seconds=window), rows([2.0] * 20)) == []
    (line,) = window_warnings(DataConfig(window_seconds=10.0), rows([2.0] * 18 + [30.0] * 2))
    assert "--config.data.window_seconds=" in line


def test_sound_that_an_epoch_leaves_out_is_named():
    found = rows([600.0, 10.0])
    (line,) = window_warnings(DataConfig(window_seconds=10.0), found)
    assert line.startswith("an epoch reads 3% of the recorded time")
    assert line.endswith("--config.data.draw=time reads all of it")
    assert window_warnings(DataConfig(window_seconds=10.0, draw="time"), found) == []


def test_the_report_holds_every_part_in_order():
    experiment = Experiment(data=DataConfig(window_seconds=10.0, batch_size=4))
    lines = start_report(experiment, state_of(), (), rows([2.0] * 8), steps=20, epoch=2)
    assert [line.partition(":")[0] for line in lines] == ["parameters", "memory", "windows", "length", "warning"]
    assert lines[3] == "length: 20 steps of 4 windows, 10 epochs of 2 steps"
