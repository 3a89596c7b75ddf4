"""EAT, contrastive and joint runs: a killed one ends like one that nobody touched, eight devices learn what one does."""

import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_problem import assert_same_bits
from tiny_views import batches, make_objective

from beats_jax.parallel.mesh import make_mesh
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.loop import FitSettings, fit
from beats_jax.training.writers import Writer, Writers

pytestmark = pytest.mark.slow  # whole runs, each compiled anew

NAMES = ["eat", pytest.param("contrastive", marks=pytest.mark.slow), "joint"]  # the joint one holds a contrastive one


class Crash(Exception):
    """A run that ends in the middle."""


class Losses(list, Writer):
    """A writer that keeps the loss of every step."""

    def write(self, step, split, values, timing):
        self.append(values["loss"])

    def resume(self, step):
        del self[step:]


def run(objective, workdir, devices, steps=10, last_batch=None):
    losses = Losses()

    def source(start):
        for step, batch in enumerate(batches(start), start=start + 1):
            if last_batch is not None and step > last_batch:
                raise Crash
            yield batch

    settings = FitSettings(total_steps=steps, log_every=1, checkpoint_every=3)
    mesh = make_mesh(devices=jax.devices()[:devices])
    with Checkpoints(Path(workdir)) as checkpoints, Writers([losses]) as writers:
        return fit(objective, source, mesh=mesh, checkpoints=checkpoints, writers=writers, settings=settings), losses


@pytest.fixture(scope="module", params=NAMES)
def untouched(request):
    objective = make_objective(request.param, steps=10)
    with tempfile.TemporaryDirectory() as workdir:
        result, losses = run(objective, workdir, 8)
    return objective, result.state, losses


def test_eight_devices_learn_what_one_does(untouched, tmp_path):
    objective, _, losses = untouched
    _, alone = run(objective, tmp_path, 1)
    assert len(alone) == 10
    np.testing.assert_allclose(losses, alone, rtol=1e-5)


def test_a_killed_run_ends_like_one_that_nobody_touched(untouched, tmp_path):
    objective, state, _ = untouched
    assert_bank_is_part_of(state)
    with pytest.raises(Crash):
        run(objective, tmp_path, 8, last_batch=5)
    resumed, _ = run(objective, tmp_path, 8)
    assert_same_bits(resumed.state, state)
    assert type(resumed.state) is type(state)


def assert_bank_is_part_of(state):
    """Ten batches of 8, of which 6 are not gathered, went into the 20 places of the bank, where there is one."""
    if hasattr(state, "bank"):
        assert np.asarray(state.bank.pointer) == 60 % 20
        assert np.all(np.linalg.norm(state.bank.features, axis=1) > 0.99)
