"""When a run will end, told once and in clock time; and a compilation that can be interrupted."""

import re
import threading
import time
from datetime import datetime

import jax
import jax.numpy as jnp
import pytest

from beats_jax.parallel.mesh import make_mesh
from beats_jax.training.compilation import THREAD, compile_step
from beats_jax.training.pace import Pace, duration, end_line
from beats_jax.training.preemption import StopSignals


def test_the_end_is_told_once_and_evaluations_do_not_count():
    """Steps of 2 s; the report of step k comes when k - 1 is done. Between steps 3 and 4 an evaluation of 100 s."""
    pace = Pace(1000)
    said = {step: pace.report(step, 2.0 * step) for step in (1, 2, 3)}
    pace.pause(100.0)
    said |= {step: pace.report(step, 100.0 + 2.0 * step) for step in range(4, 40)}
    assert said.pop(2) == "step 1 is done after 2 s"
    line = said.pop(5)  # 6 s after step 1
    assert line.startswith("2 s a step: the 996 steps left end about ")
    assert "(in 33 min)" in line
    assert set(said.values()) == {""}


def test_a_resumed_run_counts_its_own_steps():
    pace = Pace(1000)
    lines = [pace.report(step, 10.0 * step) for step in range(500, 504)]
    assert lines[:2] == ["", "step 500 is done after 10 s"]
    assert lines[2].startswith("10 s a step: the 499 steps left")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8, "8 s"), (120, "2 min"), (5340, "89 min"), (7 * 3600 + 300, "7 h 5 min"), (100 * 3600, "4 days 4 h")],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_the_clock_of_the_end():
    now = datetime(2026, 11, 28, 18, 0)
    assert "end about 18:42 (in 42 min)" in end_line(0.42, 6000, now)
    assert "end about 2026-11-29 18:00 (in 24 h 0 min)" in end_line(86.4, 1000, now)


def update_of(size=8):
    def update(state, batch):
        return state + batch["x"].sum(), {"loss": (state.sum(), jnp.float32(1))}

    return jax.jit(update), jnp.zeros(size), {"x": jnp.ones((4, 2))}


def test_the_compiled_step_is_the_one_that_is_called(caplog):
    """The call after it compiles nothing, one of another shape does; the log is of this thread alone."""

    def compilations():
        return sum("Finished XLA compilation of jit(update)" in message for message in caplog.messages)

    update, state, batch = update_of()
    mesh = make_mesh()
    with jax.set_mesh(mesh), jax.log_compiles(True), caplog.at_level("WARNING"):
        done = compile_step(update, mesh, state, batch, StopSignals())
        assert re.match(r"compiled in \S+ s", done or "")
        update(state, batch)
        assert compilations() == 0
        update(jnp.zeros(9), batch)
        assert compilations() == 1


class Slow:
    """Stands for a jitted update whose compilation takes its time."""

    def __init__(self, release):
        self.release = release

    def lower(self, state, batch):
        return self

    def compile(self):
        self.release.wait(60)


def test_a_signal_is_answered_while_xla_compiles():
    release, stop = threading.Event(), StopSignals()
    threading.Timer(0.3, lambda: setattr(stop, "received", 2)).start()
    begun = time.monotonic()
    assert compile_step(Slow(release), make_mesh(), None, None, stop) is None
    assert time.monotonic() - begun < 5
    (left,) = [thread for thread in threading.enumerate() if thread.name == THREAD]
    release.set()
    left.join(10)
    assert not left.is_alive()


def test_a_fault_of_the_compilation_is_raised():
    def update(state, batch):
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        compile_step(jax.jit(update), make_mesh(), jnp.zeros(1), {}, StopSignals())
