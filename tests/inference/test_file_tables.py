"""Tables of embeddings and probabilities: rows, times, and what could not be read."""

import numpy as np
import pytest
import soundfile
from flax.traverse_util import unflatten_dict
from tiny_beats import TINY_BEATS

from beats_jax.audio.io import read, write_wav
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.inference.job import batch_samples
from beats_jax.inference.model import Model
from beats_jax.inference.stream import Recordings
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle

RATE = 16_000


@pytest.fixture(scope="module")
def model():
    from dataclasses import replace

    draw, config = np.random.default_rng(1), replace(TINY_BEATS, predictor_class=2)
    params = unflatten_dict(
        {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(config).items()}, sep="/"
    )
    return Model(Bundle(params, config, AudioConfig(), ("/m/09x0r", "wren"), True, "a test"))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, seconds in (("a", 1.3), ("b", 0.4), ("c", 1.0)):
        write_wav(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(round(seconds * RATE)).astype(np.float32), RATE)
    sound = soundfile.read(tmp_path / "c.wav", dtype="float32")[0]
    sound[-10] = np.nan
    soundfile.write(tmp_path / "c.wav", sound, RATE, subtype="FLOAT")
    (tmp_path / "d.wav").write_bytes(b"no sound")
    (tmp_path / ".hidden.wav").write_bytes(b"x")
    return tmp_path


def test_a_row_for_every_window(model, folder):
    table = model.predict_files(folder, window_seconds=0.5)
    assert table.columns.tolist() == ["file", "start", "end", "/m/09x0r", "wren"]
    names = [name.rsplit("/", 1)[1] for name in table.file]
    assert names == ["a.wav"] * 3 + ["b.wav"] + ["c.wav"] * 2 + ["d.wav"]
    np.testing.assert_allclose(table.start, [0, 0.5, 0.8, 0, 0, 0.5, 0])
    np.testing.assert_allclose(table.end, [0.5, 1.0, 1.3, 0.4, 0.5, np.nan, np.nan])
    whole = read(folder / "a.wav", sample_rate=RATE)
    by_hand = model.predict(np.stack([whole[:8000], whole[8000:16_000], whole[-8000:]]))
    np.testing.assert_allclose(table[["/m/09x0r", "wren"]].to_numpy()[:3], by_hand, atol=1e-5)
    assert table["wren"].isna().tolist() == [False] * 5 + [True] * 2
    assert "NaN" in table.attrs["errors"][str(folder / "c.wav")]
    assert str(folder / "d.wav") in table.attrs["errors"]
    assert any("hidden" in note for note in table.attrs["notes"])
    overlapping = model.embed_files(folder / "a.wav", window_seconds=0.5, hop_seconds=0.25)
    np.testing.assert_allclose(overlapping.start, [0, 0.25, 0.5, 0.75, 0.8])
    np.testing.assert_allclose(overlapping.embedding[0], model.embed(whole[None, :8000])[0], atol=2e-5)


def test_a_row_for_every_file(model, folder):
    table = model.embed_files([folder / "a.wav", folder / "c.wav"])
    assert [value.shape for value in table.embedding] == [(32,), (32,)]
    np.testing.assert_allclose([table.start[0], table.end[0]], [0, 1.3])
    assert np.isnan(table.embedding[1]).all()
    np.testing.assert_allclose(table.embedding[0], model.embed(read(folder / "a.wav", sample_rate=RATE)[None])[0], atol=2e-5)


def test_the_likeliest_labels_have_readable_names(model, folder):
    top = model.top(folder / "b.wav", 5)
    assert {name for name, _ in top} == {"Speech", "wren"}
    assert top[0][1] >= top[1][1]
    with pytest.raises(UserError, match=r"d\.wav"):
        model.top(folder / "d.wav")


@pytest.mark.parametrize(("files", "words"), [([], "empty"), ([3], "holds a int"), ("none/", "no such file")])
def test_wrong_files_are_named(model, tmp_path, files, words):
    with pytest.raises(UserError, match=words):
        model.top(tmp_path / files) if isinstance(files, str) else model.embed_files(files)


def test_an_empty_folder_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="holds no recordings"):
        model.embed_files(tmp_path)


def test_the_length_of_batches_is_that_of_the_longest_file_and_no_more_than_a_window(folder):
    recordings = Recordings.of_files([folder / f"{name}.wav" for name in "abcd"])
    assert batch_samples(recordings, Grid(10.0), RATE) == round(1.3 * RATE)
    assert batch_samples(recordings, Grid(0.5), RATE) == 8000
    assert batch_samples(Recordings.of_files([folder / "d.wav"]), Grid(0.5), RATE) == 8000
