"""Training on a recording with a Raven table, from the command to the figures."""

import csv
import gzip
import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config import Experiment
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.tables.registry import Events, write_events
from beats_jax.pipelines.checkpoints.convert import write_dataset
from beats_jax.pipelines.measuring.evaluate import data_of
from beats_jax.train import main as train

RATE, SECONDS = 16_000, 24
SETTINGS = {
    "data": {"source": "raven", "batch_size": 8, "num_workers": 0},
    "training": {"max_steps": 12},
    "evaluation": {"bootstrap_resamples": 0, "worst_errors": 0},
}


def write_recording(folder):
    """A recording of 24 s with a tone in every second second. Returns the folder of its Raven table."""
    sound = np.random.default_rng(0).normal(0, 0.01, RATE * SECONDS).astype(np.float32)
    starts = np.arange(0.0, SECONDS, 2.0)
    tone = 0.3 * np.sin(2 * np.pi * 3000 / RATE * np.arange(RATE)).astype(np.float32)
    for start in starts:
        sound[int(start) * RATE : int(start + 1) * RATE] += tone
    path = folder / "S4A03895_20190522_000000.wav"
    write_wav(path, sound, RATE)
    events = Events.from_columns(["/media/card/" + path.name] * len(starts), starts, starts + 1, ["tone"] * len(starts))
    write_events(events, folder / "tables", ["raven"], {"/media/card/" + path.name: float(SECONDS)})
    return folder / "tables"


@pytest.mark.slow
def test_a_raven_table_trains_and_its_one_recording_is_split_by_blocks(tmp_path, tiny_settings, write_config, capfd):
    tables = write_recording(tmp_path)
    workdir = tmp_path / "run"
    arguments = ["--config", write_config(tiny_settings(**SETTINGS)), "--workdir", str(workdir)]
    places = [f"--config.data.metadata_file={tables}", f"--config.data.root={tmp_path}", "--config.data.background_share=0.5"]
    assert train([*arguments, *places]) == 0
    assert "there is one recording: its blocks of 4 s" in capfd.readouterr().out

    history = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history if row["split"] == "train"] == list(range(1, 13))
    with gzip.open(workdir / "manifest.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    splits = defaultdict(set)
    for row in rows:
        start = float(row["start"])
        splits[start // 4].add(row["split"])
        assert json.loads(row["labels"]) == ["tone" if start % 2 == 0 else "background"]
    assert sum(float(row["start"]) % 2 == 1 for row in rows) == 6  # half as many as tones
    assert len(splits) == 6
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["n"] == sum(row["split"] == "test" for row in rows)
    assert 0 <= metrics["accuracy"] <= 1


def test_a_table_of_events_can_be_measured_and_converted(tmp_path):
    """As `evaluate --data TABLE` and `convert TABLE OUTPUT --to tfds` read it; the recording lies beside its table."""
    pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed: pip install 'beats-jax[tfds]'")
    single = min((write_recording(tmp_path)).rglob("*.selections.txt"), key=lambda path: len(path.name))
    table = single.rename(tmp_path / single.name)
    experiment = Experiment()
    experiment = replace(experiment, data=replace(experiment.data, window_seconds=1.0, check="header"))
    data = data_of(table, experiment.data)
    assert (data.source, data.root, data.metadata_file) == ("raven", "", str(table))
    labels = load_manifest(data, workdir=tmp_path).labels.counts()
    assert labels["tone"] == labels["background"] == SECONDS / 2
    assert "train 16, val 4, test 4" in write_dataset(table, tmp_path / "tones", experiment)[-1]
