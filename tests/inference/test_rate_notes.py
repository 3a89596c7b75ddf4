"""Models that run over files say where their front-end does not read what the files hold."""

import numpy as np
import pytest
import soundfile

from beats_jax.audio.filterbank import BEATS
from beats_jax.config import AudioConfig
from beats_jax.inference.files import file_rows, rate_notes


def recordings(folder, rates):
    noise = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    for number, rate in enumerate(rates):
        soundfile.write(folder / f"{number:03d}.wav", noise, rate)
    return sorted(folder.iterdir())


def test_headers_of_files_from_all_over_the_list_are_looked_at(tmp_path):
    files = recordings(tmp_path, [44_100] * 60 + [2000] * 40)
    (note,) = rate_notes([*files, tmp_path / "absent.wav"], AudioConfig())
    assert "files were recorded at 2000 Hz: nothing above 1000 Hz" in note
    assert rate_notes(files[:60], AudioConfig()) == ()


def test_ultrasound_is_named(tmp_path):
    (note,) = rate_notes(recordings(tmp_path, [256_000, 44_100]), AudioConfig())
    assert note.startswith("1 of 2 files were recorded at 256000 Hz")
    assert "--config ultrasound:256000" in note


def test_a_model_over_files_warns(tmp_path, monkeypatch):
    class Program:
        audio = AudioConfig(filterbank=BEATS)

    monkeypatch.setattr("beats_jax.inference.files.answer_rows", lambda *arguments, **options: [])
    files = recordings(tmp_path, [2000, 2000])
    with pytest.warns(UserWarning, match="2 of 2 files were recorded at 2000 Hz"):
        file_rows(Program(), files, None, None)
