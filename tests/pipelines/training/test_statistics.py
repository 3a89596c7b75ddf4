"""Statistics of the training rows against numpy on Kaldi's own filterbanks of the files."""

import json

import kaldi_native_fbank
import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config import experiment_from_mapping
from beats_jax.errors import UserError
from beats_jax.pipelines.training.preparation import prepare_data
from beats_jax.pipelines.training.statistics import with_statistics

RATE = 16_000


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name, seconds, loudness in (("owl", 0.7, 0.3), ("owl", 1.0, 0.01), ("frog", 0.4, 0.1), ("frog", 1.0, 0.2)):
        place = tmp_path / "data" / name
        place.mkdir(parents=True, exist_ok=True)
        sound = loudness * random.normal(size=round(RATE * seconds)).astype(np.float32)
        write_wav(place / f"{seconds}_{loudness}.wav", np.clip(sound, -1, 1), RATE)
    return tmp_path / "data"


def settings(folder, **filterbank):
    return experiment_from_mapping({
        "data": {"root": str(folder), "window_seconds": 1.0, "statistics": "training", "batch_size": 4, "train_split": 1.0,
                 "val_split": 0.0, "test_split": 0.0},
        "audio": {"filterbank": {"target_frames": 128, **filterbank}},
    })  # fmt: skip


def kaldi(path, scale):
    import soundfile

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.mel_opts.num_bins = 0.0, 128
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(RATE, (soundfile.read(path)[0] * scale).tolist())
    computer.input_finished()
    return np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)])


@pytest.mark.parametrize("scale", [1.0, 32768.0])
def test_every_value_of_every_real_frame_counts_alike(folder, tmp_path, scale):
    experiment = settings(folder, waveform_scale=scale)
    data = prepare_data(experiment, tmp_path, strict=True)
    values = np.concatenate([kaldi(path, scale) for path in folder.rglob("*.wav")])
    found = with_statistics(experiment, data, tmp_path).audio.filterbank
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std()], rtol=2e-4)
    assert json.loads((tmp_path / "statistics.json").read_text())["frames"] == len(values)
    (tmp_path / "statistics.json").write_text('{"mean": 1.0, "std": 2.0}')  # a resumed run reads what it has found before
    assert with_statistics(experiment, data, tmp_path).audio.filterbank.mean == 1.0


def test_rows_below_the_floor_of_the_filterbank_have_no_statistics(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        faint = 1e-12 * np.random.default_rng(0).normal(size=RATE)
        write_wav(tmp_path / "data" / name / "0.wav", faint.astype(np.float32), RATE, "FLOAT")
    experiment = settings(tmp_path / "data")
    with pytest.raises(UserError, match="every filterbank value of the training rows is the same"):
        with_statistics(experiment, prepare_data(experiment, tmp_path, strict=True), tmp_path)
