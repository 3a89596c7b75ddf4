"""Rows on disk: whole shards, another job refused, a killed job goes on with no row lost or doubled."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from flax.traverse_util import unflatten_dict
from tiny_beats import TINY_BEATS

from beats_jax.audio.io import write_wav
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.inference.model import Model
from beats_jax.inference.store import Store, finished_sizes, forget, read_rows, shards
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle

SCHEMA = pa.schema({"file": pa.string(), "value": pa.list_(pa.float32(), 2)})
RATE = 16_000


def rows(name: str, count: int) -> pa.Table:
    values = [np.full(2, k, np.float32) for k in range(count)]
    return pa.Table.from_arrays([pa.array([name] * count), pa.array(values, SCHEMA.field("value").type)], schema=SCHEMA)


def stored(folder) -> list[str]:
    return [name for table in read_rows(folder) for name in table.column("file").to_pylist()]


def test_rows_come_back_and_done_is_what_is_on_disk(tmp_path):
    with Store(tmp_path / "out", {"model": 1}, SCHEMA, rows_per_shard=5) as store:
        store.append(rows("a", 3), "a")
        assert store.done() == set()
        store.append(rows("b", 3), "b")
        assert store.done() == {"a", "b"}
        store.append(rows("silent", 0), "silent")
    assert stored(tmp_path / "out") == ["a"] * 3 + ["b"] * 3
    again = Store(tmp_path / "out", {"model": 1}, SCHEMA)
    with pytest.raises(UserError, match="in use by another process"):
        Store(tmp_path / "out", {"model": 1}, SCHEMA)
    assert again.done() == {"a", "b", "silent"}
    assert len(shards(tmp_path / "out")) == 2
    (first, *_) = read_rows(tmp_path / "out")
    assert first.schema.field("value").type == pa.list_(pa.float32(), 2)


def test_what_an_error_interrupts_is_not_written(tmp_path):
    def interrupted():
        with Store(tmp_path / "out", {}, SCHEMA) as store:
            store.append(rows("a", 1), "a")
            raise RuntimeError("of the device")

    with pytest.raises(RuntimeError, match="of the device"):
        interrupted()
    assert Store(tmp_path / "out", {}, SCHEMA).done() == set()


def test_another_job_and_other_folders_are_refused_by_name(tmp_path):
    Store(tmp_path / "out", {"grid": {"window_seconds": 5.0}, "model": "x"}, SCHEMA).close()
    with pytest.raises(UserError, match=r'grid was \{"window_seconds": 5\.0\}, now \{"window_seconds": 3\.0\}'):
        Store(tmp_path / "out", {"grid": {"window_seconds": 3.0}, "model": "x"}, SCHEMA)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"job\.json is missing"):
        Store(tmp_path / "other", {}, SCHEMA)
    with pytest.raises(UserError, match=r"job\.json is missing"):
        list(read_rows(tmp_path / "other"))


def test_a_damaged_shard_is_named(tmp_path):
    with Store(tmp_path / "out", {}, SCHEMA) as store:
        store.append(rows("a", 1), "a")
    (shard,) = shards(tmp_path / "out")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"part-000-000000\.parquet is damaged"):
        Store(tmp_path / "out", {}, SCHEMA).done()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A tiny model folder and ten recordings."""
    root, draw = tmp_path_factory.mktemp("store"), np.random.default_rng(0)
    params = {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(TINY_BEATS).items()}
    Model(Bundle(unflatten_dict(params, sep="/"), TINY_BEATS, AudioConfig(), (), False, "test")).save(root / "model")
    (root / "sounds").mkdir()
    for number in range(10):
        sound = 0.1 * draw.standard_normal(RATE * (1 + number % 3))
        write_wav(root / "sounds" / f"{number}.wav", sound.astype(np.float32), RATE)
    return root


SCRIPT = """
import sys
import beats_jax, beats_jax.inference.store as store
store.ROWS_PER_SHARD = 1
store.Store.__init__.__kwdefaults__["rows_per_shard"] = 1
beats_jax.load(sys.argv[1]).embed_files(sys.argv[2], window_seconds=0.5, output=sys.argv[3])
"""


def test_recordings_of_which_nothing_can_be_read_are_no_rows_and_are_tried_again(recordings, tmp_path):
    import beats_jax

    model = beats_jax.load(recordings / "model")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    table = model.embed_files([broken], output=tmp_path / "out")
    assert (len(table), list(table.attrs["errors"])) == (0, [str(broken)])
    write_wav(broken, np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32), RATE)
    table = model.embed_files([broken], output=tmp_path / "out")
    assert table.file.tolist() == [str(broken)]
    assert np.isfinite(table.embedding[0]).all()


def test_a_killed_job_goes_on_without_a_row_lost_or_doubled(recordings, tmp_path):
    import beats_jax

    model = beats_jax.load(recordings / "model")
    expected = model.embed_files(recordings / "sounds", window_seconds=0.5)
    command = [sys.executable, "-c", SCRIPT, str(recordings / "model"), str(recordings / "sounds"), str(tmp_path / "out")]
    with subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}) as process:
        while len(shards(tmp_path / "out")) < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = len(stored(tmp_path / "out"))
    found = model.embed_files(recordings / "sounds", window_seconds=0.5, output=tmp_path / "out")
    assert 0 < before < len(expected) == len(found)
    found = found.sort_values(["file", "start"], ignore_index=True)
    assert found[["file", "start", "end"]].equals(expected[["file", "start", "end"]])
    np.testing.assert_allclose(np.stack(found.embedding), np.stack(expected.embedding), atol=1e-5)
    assert json.loads((tmp_path / "out" / "_job.json").read_text())["rows"] == "window"
    with pytest.raises(UserError, match="grid was"):
        model.embed_files(recordings / "sounds", window_seconds=1.0, output=tmp_path / "out")


def test_a_recording_that_is_forgotten_leaves_no_row_and_the_others_stay(tmp_path):
    with Store(tmp_path / "out", {}, SCHEMA) as store:
        for name, number in (("a", 2), ("b", 3), ("c", 1)):
            store.append(rows(name, number), name, 10 * number)
    with Store(tmp_path / "out", {}, SCHEMA, process=1) as store:
        store.append(rows("d", 2), "d")
    assert finished_sizes(tmp_path / "out") == {"a": 20, "b": 30, "c": 10, "d": -1}
    forget(tmp_path / "out", {"b", "d", "nobody"})
    assert finished_sizes(tmp_path / "out") == {"a": 20, "c": 10}
    files = [file for table in read_rows(tmp_path / "out") for file in table["file"].to_pylist()]
    assert files == ["a", "a", "c"]
