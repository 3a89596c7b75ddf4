"""`train --config generative:vae` from recordings to a report, and settings it refuses."""

import json

import numpy as np
import pytest

from beats_jax.audio.io import read, write_wav
from beats_jax.pipelines.generating.generator import load_generator
from beats_jax.train import main

RATE = 2000
SMALL = (
    "objective.width=4",
    "objective.latent=4",
    "objective.drawn=16",
    "objective.image.bands=32",
    "objective.image.frames=32",
    "data.window_seconds=1.0",
    "data.batch_size=8",
    "training.max_steps=3",
    "training.log_every_steps=2",
)


def recordings(folder, per_class=64, classes=("down", "up")):
    """Sweeps in noise, a folder for each class."""
    random, time = np.random.default_rng(0), np.arange(RATE) / RATE
    for name in classes:
        (folder / name).mkdir(parents=True)
        slope = 80 if name == "up" else -80
        for number in range(per_class):
            sweep = np.sin(2 * np.pi * ((200 + 10 * random.random()) * time + slope * time**2))
            write_wav(folder / name / f"{number}.wav", 0.2 * sweep + 0.01 * random.normal(size=RATE), RATE)


def train(folder, kind="vae", *more):
    settings = [f"--config.{one}" for one in (*SMALL, *more)]
    return main(["--config", f"generative:{kind},2000", f"--config.data.root={folder}", "--workdir", f"{folder}_run", *settings])


@pytest.mark.slow
def test_a_run_leaves_a_generator_sounds_figures_and_a_page(tmp_path, capsys):
    recordings(tmp_path / "calls")
    (tmp_path / "calls" / "up" / "broken.wav").write_bytes(b"no sound")
    assert train(tmp_path / "calls") == 0
    assert "mel bands" not in capsys.readouterr().out
    run = tmp_path / "calls_run"
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert {"tell_apart", "tell_apart_low", "tell_apart_floor", "frechet", "spectral_convergence"} <= metrics.keys()
    page = (run / "report.html").read_text(encoding="utf-8")
    for words in ("Real and drawn", "Quality", "Between two codes", "Sounds", "<audio", "broken.wav"):
        assert words in page
    assert load_generator(run).sample(["up"], seed=0).shape == (1, 32, 32)
    sounds = sorted(path.name for path in (run / "sounds").iterdir())
    assert sounds[:3] == ["000_down.wav", "000_down_4x.wav", "000_down_8x.wav"]
    assert len(read(run / "sounds" / "000_down_8x.wav", sample_rate=8 * RATE)) == RATE
    assert train(tmp_path / "calls") == 0
    assert "finished" in capsys.readouterr().out


def test_settings_that_a_generator_does_not_heed_are_refused(tmp_path, capsys):
    recordings(tmp_path / "calls", per_class=8, classes=("up",))
    assert train(tmp_path / "calls", "vae", "model.embed_dim=64") == 2
    assert "has its own network" in capsys.readouterr().err
    assert train(tmp_path / "calls", "vea") == 2
    assert "give a kind" in capsys.readouterr().err
    assert train(tmp_path / "calls", "gan", "data.multi_label=True") == 2
    assert "draws images of one class" in capsys.readouterr().err
