"""Checkpoints: bit-exact, onto other meshes, with torn, missing and impossible ones."""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_problem import assert_same_bits

from beats_jax.errors import UserError
from beats_jax.parallel.mesh import make_mesh, state_shardings
from beats_jax.training.checkpoint import Checkpoints, sha256_of_checkpoint

# orbax leaves coroutines behind when a read fails
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def make_state(mesh, seed=0, rows=16):
    random = np.random.default_rng(seed)
    tree = {"kernel": random.normal(size=(rows, 32)).astype(np.float32), "step": np.int32(seed), "key": jax.random.key(seed)}
    return jax.tree.map(jax.device_put, tree, state_shardings(mesh, tree))


def save(checkpoints, step, state, best_step=None):
    record = {"progress": {"best": 0.1 + 0.2}}
    checkpoints.save(step, state, position={"next_step": step}, record=record, best_step=best_step)


@pytest.fixture
def filled(tmp_path):
    """A directory with the steps 1, 2 and 3; the last one was split over four devices."""
    meshes = make_mesh(), make_mesh(), make_mesh(1, 4, jax.devices()[:4])
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step, mesh in enumerate(meshes, 1):
            save(checkpoints, step, make_state(mesh, step), best_step=1)
    return tmp_path / "checkpoints"


def test_newest_two_and_the_best_are_kept(filled):
    with Checkpoints(filled) as checkpoints:
        for step in (4, 5, 6):
            save(checkpoints, step, make_state(make_mesh(), step), best_step=1)
        checkpoints.wait()
        assert sorted(os.listdir(filled)) == ["1", "5", "6"]
        save(checkpoints, 7, make_state(make_mesh(), 7), best_step=7)
        checkpoints.wait()
        assert sorted(os.listdir(filled)) == ["6", "7"]


@pytest.mark.parametrize("mesh", [(1, 1, 1), (8, 8, 1), (8, 2, 4), (4, 1, 4)], ids=str)
def test_restores_bit_for_bit_onto_other_meshes(filled, mesh):
    count, data, fsdp = mesh
    other = make_mesh(data, fsdp, jax.devices()[:count])
    with Checkpoints(filled) as checkpoints:
        restored = checkpoints.restore_latest(make_state(other))
        assert checkpoints.best_step == 1
        assert_same_bits(checkpoints.restore(1, make_state(other)).state, make_state(other, 1))
    assert (restored.step, restored.position) == (3, {"next_step": 3})
    assert restored.record == {"progress": {"best": 0.30000000000000004}, "best_step": 1}
    assert_same_bits(restored.state, make_state(other, 3))
    assert restored.state["kernel"].addressable_shards[0].data.shape == (16, 32 // fsdp)


def test_an_empty_directory_has_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore_latest(make_state(make_mesh())) is None
        assert checkpoints.latest_step is None


def _truncate(place):
    for file in (place / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:50])


TEARS = {
    "arrays gone": lambda place: shutil.rmtree(place / "state" / "d"),
    "files cut": _truncate,
    "no record": lambda place: shutil.rmtree(place / "record"),
    "half a record": lambda place: (place / "record" / "metadata").write_text('{"progr'),
    "empty": lambda place: [shutil.rmtree(item) if item.is_dir() else item.unlink() for item in place.iterdir()],
}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_checkpoint_is_passed_over_and_can_be_written_again(filled, tear):
    TEARS[tear](filled / "3")
    lines = []
    with Checkpoints(filled, say=lines.append) as checkpoints:
        restored = checkpoints.restore_latest(make_state(make_mesh()))
        assert restored.step == 2
        assert_same_bits(restored.state, make_state(make_mesh(), 2))
        assert len(lines) == 1
        assert lines[0].startswith(f"{filled / '3'}: cannot be read")
        assert "\n" not in lines[0]
        save(checkpoints, 3, make_state(make_mesh(), 30))
    with Checkpoints(filled) as checkpoints:
        assert_same_bits(checkpoints.restore_latest(make_state(make_mesh())).state, make_state(make_mesh(), 30))


def _change_arrays(place):
    """One bit in the middle of each file of array data."""
    for file in (place / "state").rglob("d/*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


def _change_json(item, old, new):
    def change(place):
        file = place / item / "metadata"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


def _state_of_the_step_before(place):
    shutil.rmtree(place / "state")
    shutil.copytree(place.with_name("2") / "state", place / "state")


def _whole_step_before(place):
    shutil.rmtree(place)
    shutil.copytree(place.with_name("2"), place)


CHANGES = {
    "a bit of the arrays": _change_arrays,
    "state of another step": _state_of_the_step_before,
    "all of another step": _whole_step_before,
    "another position": _change_json("position", "3", "4"),
    "no position": lambda place: (place / "position" / "metadata").write_text("null"),
    "an empty position": lambda place: (place / "position" / "metadata").write_text("{}"),
    "another record": _change_json("record", "0.30000000000000004", "0.3"),
    "a list for a record": lambda place: (place / "record" / "metadata").write_text("[1, 2]"),
    "a deep record": lambda place: (place / "record" / "metadata").write_text("[" * 100_000 + "]" * 100_000),
    "bytes for a record": lambda place: (place / "record" / "metadata").write_bytes(b"\xff\x00\xfe"),
    "no hash": _change_json("record", '"sha256"', '"sha255"'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_since_it_was_written_is_passed_over(filled, change):
    CHANGES[change](filled / "3")
    lines = []
    with Checkpoints(filled, say=lines.append) as checkpoints:
        restored = checkpoints.restore_latest(make_state(make_mesh()))
        assert (restored.step, restored.position) == (2, {"next_step": 2})
        assert_same_bits(restored.state, make_state(make_mesh(), 2))
    (line,) = lines
    assert line.startswith(f"{filled / '3'}: cannot be read")
    assert line.endswith("put aside as 3.torn, going back to the one before")
    assert "\n" not in line


def test_a_damaged_best_checkpoint_is_the_users_to_know(filled):
    _change_arrays(filled / "1")
    with (
        Checkpoints(filled) as checkpoints,
        pytest.raises(UserError, match=r"1: cannot be read .*train anew in another --workdir"),
    ):
        checkpoints.restore(1, make_state(make_mesh()))


def test_the_hash_is_the_same_on_every_mesh_and_sees_type_shape_and_place():
    """The hash of one array, put together here by hand."""
    tree = {"w": np.arange(64, dtype=np.float32).reshape(8, 8)}
    of_bytes = hashlib.sha256(tree["w"].tobytes()).hexdigest()
    text = json.dumps([[["['w']", "float32", [8, 8], of_bytes]], [7, {}, {}]], sort_keys=True)
    expected = hashlib.sha256(text.encode()).hexdigest()
    for mesh in (make_mesh(1, 1, jax.devices()[:1]), make_mesh(2, 4), make_mesh(8, 1)):
        state = jax.tree.map(jax.device_put, tree, state_shardings(mesh, tree))
        assert sha256_of_checkpoint(7, state, {}, {}) == expected
    others = [tree["w"].reshape(4, 16), tree["w"].view(np.int32), tree["w"][::-1], np.asfortranarray(tree["w"]).T]
    assert all(sha256_of_checkpoint(7, {"w": other}, {}, {}) != expected for other in others)
    assert sha256_of_checkpoint(8, tree, {}, {}) != expected
    assert sha256_of_checkpoint(7, {"w": np.asfortranarray(tree["w"])}, {}, {}) == expected


def test_when_all_are_torn_the_run_does_not_start_anew_in_silence(filled):
    for step in ("1", "2", "3"):
        shutil.rmtree(filled / step / "state")
    with Checkpoints(filled) as checkpoints, pytest.raises(UserError, match="away to start anew"):
        checkpoints.restore_latest(make_state(make_mesh()))
    assert (filled / "3").is_dir()


@pytest.mark.parametrize("change", ["shape", "surplus"])
def test_a_checkpoint_of_another_model_is_refused(filled, change):
    like = make_state(make_mesh(), rows=24 if change == "shape" else 16)
    if change == "surplus":
        like["other"] = jnp.zeros((2, 2))
    with Checkpoints(filled) as checkpoints, pytest.raises(UserError, match=r"3: written with another model or optimizer"):
        checkpoints.restore_latest(like)


def test_leftovers_of_killed_writes_are_removed(filled):
    leftover = filled / "4.orbax-checkpoint-tmp" / "state"
    leftover.mkdir(parents=True)
    with Checkpoints(filled) as checkpoints:
        assert not leftover.parent.exists()
        assert checkpoints.latest_step == 3


def test_saving_a_step_twice_is_our_mistake_and_raises(filled):
    with Checkpoints(filled) as checkpoints, pytest.raises(RuntimeError, match="step 2 was not saved"):
        save(checkpoints, 2, make_state(make_mesh()))


def test_a_file_in_the_way_is_the_users_to_move(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="cannot be a checkpoint directory"):
        Checkpoints(tmp_path / "checkpoints")


def _save_and_wait(checkpoints, step, state):
    save(checkpoints, step, state)
    checkpoints.wait()


def may_mount():
    """Whether this process has the right to mount file systems (CAP_SYS_ADMIN of Linux)."""
    status = Path("/proc/self/status")
    found = re.search(r"CapEff:\s*(\w+)", status.read_text()) if status.exists() else None
    return bool(found and int(found[1], 16) >> 21 & 1)


@contextmanager
def small_disk(place, kilobytes):
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def small_files(kilobytes):
    """A write beyond this size of a file fails, as on a full disk; needs no right."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("mounted", [False, True] if may_mount() else [False])
def test_a_full_disk_is_one_line_and_the_earlier_checkpoint_stays(tmp_path, mounted):
    with ExitStack() as stack:
        if mounted:
            stack.enter_context(small_disk(tmp_path / "disk", 1024))
        state = make_state(make_mesh(), 1, rows=5000)  # 640 kB, random: they do not compress
        checkpoints = Checkpoints(tmp_path / "disk" / "run")
        save(checkpoints, 1, state)
        checkpoints.wait()
        with nullcontext() if mounted else small_files(50), pytest.raises(UserError) as error:
            _save_and_wait(checkpoints, 2, state)
        assert re.search(r"run: the disk is full.*the checkpoint of step 1 is whole", str(error.value))
        checkpoints.close()
        assert os.listdir(tmp_path / "disk" / "run") == ["1"]
        with Checkpoints(tmp_path / "disk" / "run") as again:
            assert_same_bits(again.restore_latest(state).state, state)


FULL = """
import sys
import numpy as np
from beats_jax.command_line import run_verb
from beats_jax.training.checkpoint import Checkpoints

state = {f"w{i}": np.random.default_rng(i).normal(size=(100, 200)).astype(np.float32) for i in range(8)}

def verb(argv):
    with Checkpoints(argv[0]) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state, position={}, record={})
    return 0

sys.exit(run_verb(verb, sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("mounted", "kilobytes"), [(False, 60), *([(True, 200), (True, 1550)] if may_mount() else [])])
def test_around_a_full_disk_no_thread_says_more_than_the_one_line(tmp_path, mounted, kilobytes):
    run = tmp_path / "disk" / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "XLA_FLAGS": ""}
    with small_disk(run.parent, kilobytes) if mounted else small_files(kilobytes):
        command = [sys.executable, "-c", FULL, str(run)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {run}: the disk is full")
    assert done.stderr.count("\n") == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_directory_that_somebody_removes_is_one_line(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "run")

    def refuse(*args, **kwargs):
        raise FileNotFoundError(2, "No such file or directory", "array_metadatas/process_0")

    monkeypatch.setattr(checkpoints._manager, "wait_until_finished", refuse)
    with pytest.raises(UserError, match=r"run cannot be written: its folder is gone"):
        checkpoints.wait()
    monkeypatch.undo()
    checkpoints.close()
