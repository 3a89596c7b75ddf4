"""The loop: the same numbers however it is interrupted, wherever it runs; and what it says when it must stop."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_problem import AUGMENT, TinyBatch, assert_same_bits, batches, make_objective

from beats_jax.config import SupervisedConfig, TrainingConfig
from beats_jax.errors import Preempted, UserError
from beats_jax.objectives.state.state import with_parameters
from beats_jax.parallel.mesh import make_mesh, put_batch, state_shardings
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.loop import FitResult, FitSettings, Hooks, compile_update, fit, fit_settings
from beats_jax.training.progress import NonFinite
from beats_jax.training.writers import History, Writers

TRAINING = TrainingConfig(learning_rate=0.01, ema_decay=0.9)
SETTINGS = FitSettings(total_steps=8, log_every=2, evaluate_every=3, checkpoint_every=2, monitor="loss", seed=5)


def evaluate(weights, step):
    """Some number that depends on the weights."""
    return {"loss": float(jnp.abs(weights["predictor"]["kernel"]).sum())}


def run(workdir, settings=SETTINGS, *, objective=None, mesh=None, source=batches, evaluate=evaluate, hooks=None):
    objective = objective or OBJECTIVE
    with Checkpoints(workdir / "checkpoints") as checkpoints, Writers([History(workdir / "history.jsonl")]) as writers:
        options = {"mesh": mesh or make_mesh(), "checkpoints": checkpoints, "writers": writers, "settings": settings}
        return fit(objective, source, evaluate=evaluate, hooks=hooks, **options)


OBJECTIVE = make_objective(TRAINING, total_steps=8, dropout=0.2)


class Run(NamedTuple):
    """A run that nobody touched."""

    workdir: Path
    result: FitResult
    rows: list[dict]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    return Run(workdir, run(workdir), rows_of(workdir))


@pytest.fixture
def copied(tmp_path, uninterrupted):
    """A copy of that run's directory."""
    shutil.copytree(uninterrupted.workdir, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rows_of(workdir):
    rows = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "timing"} for row in rows]


class Crash(Exception):
    pass


@pytest.mark.parametrize("last_batch", [1, 5, 6])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, uninterrupted, last_batch):
    def breaking(start_step):
        for step, batch in enumerate(batches(start_step), start=start_step + 1):
            if step > last_batch:
                raise Crash
            yield batch

    with pytest.raises(Crash):
        run(tmp_path, source=breaking)
    starts = []
    result = run(tmp_path, source=lambda start: starts.append(start) or batches(start))
    _, expected, rows = uninterrupted
    assert starts == [last_batch // 2 * 2]
    assert_same_bits(result.state, expected.state)
    assert rows_of(tmp_path) == rows
    assert (result.best, result.best_step, result.steps) == (expected.best, expected.best_step, 8)


def test_rows_and_checkpoints_come_when_they_are_due(uninterrupted):
    _, result, rows = uninterrupted
    assert [(row["step"], row["split"]) for row in rows] == [
        (2, "train"),
        (3, "validation"),
        (4, "train"),
        (6, "train"),
        (6, "validation"),
        (8, "train"),
        (8, "validation"),
    ]
    assert set(rows[0]) == {"step", "split", "loss", "accuracy", "gradient_norm"}
    assert result.last == {"loss": rows[-1]["loss"]}


def test_a_finished_run_is_not_run_again(copied, uninterrupted):
    again = run(copied, evaluate=lambda weights, step: pytest.fail("evaluated again"))
    assert_same_bits(again.state, uninterrupted.result.state)
    assert again.best_step == uninterrupted.result.best_step
    longer = run(copied, FitSettings(total_steps=10, evaluate_every=3, monitor="loss", seed=5))
    assert longer.steps == 10


# orbax leaves coroutines behind when a read fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1] + bytes([data[-1] ^ 1])], ids=["empty", "bit"])
def test_torn_newest_checkpoint_costs_only_the_steps_since_the_one_before(copied, uninterrupted, damage):
    for file in (copied / "checkpoints" / "8" / "state").rglob("d/*"):
        file.write_bytes(damage(file.read_bytes()))
    result = run(copied)
    assert_same_bits(result.state, uninterrupted.result.state)
    assert rows_of(copied) == uninterrupted.rows
    assert (copied / "checkpoints" / "8.torn").is_dir()


def test_mesh_may_change_between_save_and_restore(copied, uninterrupted):
    shutil.rmtree(copied / "checkpoints" / "8")
    result = run(copied, mesh=make_mesh(2, 4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        result.state.params,
        uninterrupted.result.state.params,
    )
    kernel = result.state.params["layers_0"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (4, 16)


def test_one_device_eight_and_two_by_four_learn_the_same(tmp_path):
    """With augmentation, mixup and dropout, over 20 steps."""
    objective = make_objective(TRAINING, config=SupervisedConfig(augment=AUGMENT), dropout=0.2)
    losses = {}
    for name, mesh in {
        "one": make_mesh(1, 1, jax.devices()[:1]),
        "eight": make_mesh(8, 1),
        "two by four": make_mesh(2, 4),
    }.items():
        run(tmp_path / name, FitSettings(total_steps=20, log_every=1), objective=objective, mesh=mesh, evaluate=None)
        losses[name] = [row["loss"] for row in rows_of(tmp_path / name)]
    assert len(losses["one"]) == 20
    np.testing.assert_allclose(losses["eight"], losses["one"], rtol=1e-5)
    np.testing.assert_allclose(losses["two by four"], losses["one"], rtol=1e-5)


def test_state_is_donated_and_the_batch_stays_split():
    mesh = make_mesh(2, 4)
    arrays = put_batch(mesh, next(batches(0)).arrays)
    shardings = state_shardings(mesh, jax.eval_shape(OBJECTIVE.init, jax.random.key(0), arrays))
    state = jax.jit(OBJECTIVE.init, out_shardings=shardings)(jax.random.key(0), arrays)
    update = compile_update(OBJECTIVE, mesh, state)
    with jax.set_mesh(mesh):
        text = update.lower(state, arrays).compile().as_text()
        after, _ = update(state, arrays)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema)))
    assert not after.params["predictor"]["kernel"].is_deleted()
    assert "all-gather" in text  # the parameters
    assert "input_output_alias={" in text  # the new state takes the memory of the old one
    # Every device transforms its own row only: XLA by itself would gather the batch first.
    transforms = re.findall(r"= c64\[(\d+),16,9\]\S* fft\(", text)
    assert transforms
    assert set(transforms) == {"1"}


def test_a_step_that_reads_from_the_host_is_refused(tmp_path):
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        run(tmp_path, hooks=Hooks(start=lambda state: state.replace(step=np.int32(0))))


def test_nan_stops_with_step_metric_files_and_the_good_checkpoint(tmp_path):
    def poisoned(start_step):
        for step, batch in enumerate(batches(start_step), start=start_step + 1):
            if step == 6:
                batch.arrays["waveforms"][3] = np.nan
            yield batch

    hooks = Hooks(describe_rows=lambda rows: "files " + "|".join(str(row) for row in rows))
    with pytest.raises(NonFinite) as caught:
        run(tmp_path, source=poisoned, hooks=hooks)
    message = str(caught.value)
    assert message.startswith("step 6: gradient_norm is nan, loss is nan; rows of the batch: files 40|41|")
    assert f"last good checkpoint: {tmp_path / 'checkpoints' / '4'};" in message
    assert "\n" not in message


def test_patience_stops_early_and_stays_stopped(tmp_path):
    settings = FitSettings(total_steps=8, evaluate_every=1, monitor="accuracy", patience=2)
    values = iter([0.5, 0.4, 0.3])
    result = run(tmp_path, settings, evaluate=lambda weights, step: {"accuracy": next(values)})
    assert (result.stopped_early, result.steps, result.best_step, result.best) == (True, 3, 1, 0.5)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["1", "2", "3"]
    again = run(tmp_path, settings, evaluate=lambda weights, step: pytest.fail("evaluated again"))
    assert (again.stopped_early, again.steps) == (True, 3)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        best = checkpoints.restore(again.best_step, again.state)
    assert int(best.state.step) == 1


def test_hooks_receive_errors_start_and_schedules(tmp_path):
    seen = []

    def faulty(start_step):
        for step, batch in enumerate(batches(start_step)):
            yield TinyBatch(batch.arrays, errors=("bad.wav: truncated",) if step == 1 else ())

    kernel = np.full((16, 4), 0.25, np.float32)
    hooks = Hooks(
        start=lambda state: with_parameters(state, {"predictor": {"kernel": kernel}}),
        on_errors=seen.append,
        schedules={"learning_rate": lambda t: 0.1 * t},
    )
    weights_at = {}
    settings = FitSettings(total_steps=3, log_every=3, evaluate_every=1, monitor="loss")

    def look(weights, step):
        weights_at[step] = np.asarray(weights["predictor"]["kernel"])
        return {"loss": 0.0}

    run(tmp_path, settings, source=faulty, evaluate=look, hooks=hooks)
    assert seen == [("bad.wav: truncated",)]
    np.testing.assert_allclose(weights_at[1], kernel, atol=0.02)
    assert [row["learning_rate"] for row in rows_of(tmp_path) if row["split"] == "train"] == [pytest.approx(0.2)]


def test_a_transfer_inside_a_step_is_refused(tmp_path):
    """`put_batch` is the only one: an array of the host in the state would be sent again at every step."""
    hooks = Hooks(start=lambda state: state.replace(step=np.zeros((), np.int32)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        run(tmp_path, hooks=hooks)


def test_batches_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(UserError, match="batch_size 12 does not divide over 8 devices"):
        run(tmp_path, source=lambda start: batches(start, batch_size=12))


def test_settings_in_steps():
    training = TrainingConfig(max_epochs=2.5, evaluate_every_epochs=0.5, checkpoint_every_steps=7, patience=3, seed=9)
    settings = fit_settings(training, 10, {"name": "x"})
    assert (settings.total_steps, settings.evaluate_every, settings.checkpoint_every) == (25, 5, 7)
    assert (settings.log_every, settings.patience, settings.seed, settings.experiment) == (10, 3, 9, {"name": "x"})
    assert fit_settings(TrainingConfig(max_steps=4), 10, {}).total_steps == 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_a_second_one_is_not_caught(tmp_path, uninterrupted, number):
    before = signal.getsignal(number)

    def signalled(start_step):
        for step, batch in enumerate(batches(start_step), start=start_step + 1):
            if step == 3:
                os.kill(os.getpid(), number)
                assert signal.getsignal(number) is before
            yield batch

    with pytest.raises(
        Preempted, match=rf"stopped by {number.name} after step 3; saved in .*checkpoints: give the same command"
    ) as caught:
        run(tmp_path, source=signalled)
    assert caught.value.status == 128 + number
    assert signal.getsignal(number) is before
    result = run(tmp_path)
    assert_same_bits(result.state, uninterrupted.result.state)
    assert rows_of(tmp_path) == uninterrupted.rows


def test_killed_process_goes_on_to_the_same_weights(tmp_path):
    """SIGKILL while a batch is being made, then on to the end: equal to a run that nobody touched."""

    def start(workdir, pause):
        command = [sys.executable, str(Path(__file__).with_name("run_tiny.py")), str(tmp_path / workdir), str(pause)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XLA_FLAGS": ""}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def kill_at(line, number):
        with start("killed", 0.05) as process:
            for printed in process.stdout or ():
                if printed.strip() == line:
                    process.send_signal(number)
        return process.returncode

    whole = start("whole", 0)  # runs beside the first of the others
    assert kill_at("batch 6", signal.SIGKILL) == -signal.SIGKILL
    text, expected = start("killed", 0).communicate()[0], whole.communicate()[0]
    assert re.findall("digest .*", text) == re.findall("digest .*", expected) != []
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


class Notes(History):
    """History that keeps the sentences for the terminal."""

    def __init__(self, path):
        super().__init__(path)
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_the_terminal_is_told_what_starts_before_the_first_step(tmp_path):
    """In order: what is trained (from the very state), that it is compiled, what that took, and the first step."""
    notes = Notes(tmp_path / "history.jsonl")
    hooks = Hooks(describe_start=lambda state: [f"{sum(leaf.size for leaf in jax.tree.leaves(state.params))} parameters"])
    settings = FitSettings(total_steps=3, log_every=10, seed=5)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints, Writers([notes]) as writers:
        options = {"mesh": make_mesh(), "checkpoints": checkpoints, "writers": writers, "settings": settings}
        result = fit(OBJECTIVE, batches, hooks=hooks, **options)
    size = sum(leaf.size for leaf in jax.tree.leaves(result.state.params))
    assert notes.notes[:2] == [f"{size} parameters", "compiling the training step ..."]
    assert re.fullmatch(r"compiled in \S+ s; it works in \d+ MB besides \(activations and the like\)", notes.notes[2])
    assert re.fullmatch(r"step 1 is done after \S+ s", notes.notes[3])
    assert len(notes.notes) == 4
