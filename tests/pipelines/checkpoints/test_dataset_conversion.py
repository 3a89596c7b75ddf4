"""Recordings as a TFDS data set by the verb, and a model trained on it and measured on it."""

import csv
import json

import pytest

from beats_jax.config import DataConfig
from beats_jax.convert import main as convert
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.tfds.writer import import_tfds
from beats_jax.evaluate import main as evaluate
from beats_jax.pipelines.measuring.evaluate import data_of
from beats_jax.train import main as train

REASON = "tensorflow-datasets is not installed: pip install 'beats-jax[tfds]'"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three classes of ten short clips, as WAV files and a table."""
    from beats_jax.audio.synth import write_dataset
    from beats_jax.config import SyntheticConfig

    root = tmp_path_factory.mktemp("recordings") / "clips"
    return write_dataset(root, SyntheticConfig(num_classes=3, clips_per_class=10, seconds=0.5)) / "labels.csv"


@pytest.fixture
def data_set(recordings, tmp_path):
    """The recordings as tmp_path/clips/1.0.0."""
    pytest.importorskip("tensorflow_datasets", reason=REASON)
    assert convert([str(recordings), str(tmp_path / "clips"), "--to", "tfds", "--config.data.check=header"]) == 0
    return tmp_path / "clips" / "1.0.0"


def test_the_verb_writes_what_others_read(data_set, tmp_path):
    assert len(import_tfds().data_source("clips", data_dir=tmp_path, split="train", download=False)) == 30
    data = data_of(data_set, DataConfig(tfds_name="other", classes=("trill",)))
    assert len(load_manifest(data, workdir=tmp_path)) == 30


@pytest.mark.slow
def test_trained_on_and_measured(data_set, tmp_path, tiny_settings, write_config):
    """That its batches equal those of the files is in tests/datasets/test_tfds.py; here they go through the whole main job."""
    data = {"source": "tfds", "root": str(tmp_path), "tfds_name": "clips", "window_seconds": 0.5}
    config = write_config(tiny_settings(data=data, training={"max_steps": 2, "ema_decay": 0.0}))
    assert train(["--config", config, "--workdir", str(tmp_path / "run")]) == 0
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    assert files
    assert all(name.startswith(f"tfds:{tmp_path}/clips/1.0.0/train#") for name in files)
    assert (tmp_path / "run" / "errors.csv").read_text() == "file,reason\n"
    assert evaluate(["--run", str(tmp_path / "run"), "--data", str(data_set), "--output", str(tmp_path / "measured")]) == 0
    assert json.loads((tmp_path / "measured" / "metrics.json").read_text())["n"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "--to", "tfds"], "--to tfds goes with INPUT, OUTPUT"),
        (["in", "out", "--to", "tfds", "--force"], "--to tfds goes with INPUT, OUTPUT"),
        (["in", "out", "--to", "tfrecord"], "invalid choice: 'tfrecord'"),
        (["nowhere", "out", "--to", "tfds"], "nowhere does not exist"),
        (["in", "out", "--to", "tfds", "--config.data.clases=()"], "did you mean 'classes'"),
        (["in", "out", "--config.data.fold=1"], "unrecognized arguments: --config.data.fold=1"),
    ],
)
def test_commands_that_are_refused(arguments, message, capsys):
    assert convert(arguments) == 2
    assert message in capsys.readouterr().err
