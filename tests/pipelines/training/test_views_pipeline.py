"""EAT, contrastive and joint runs by the verb, on a `data/` folder with roles: what is left opens, a stopped run goes on."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import beats_jax
from beats_jax.audio.filterbank import EAT
from beats_jax.audio.io import write_wav
from beats_jax.command_line import read_experiment
from beats_jax.config import to_mapping
from beats_jax.errors import UserError
from beats_jax.pipelines.training.experiment import run_experiment

pytestmark = pytest.mark.slow  # whole runs, each compiled anew

RATE = 16_000
BASE = {"name": "contrastive", "bank_size": 16, "projection_dim": 8, "augment": {"gain_db": 6.0, "roll": True}}
JOINT = {"name": "joint", "base": BASE, "supervised_weight": 0.5}
EAT_MODEL = {"family": "eat", "embed_dim": 16, "depth": 1, "num_heads": 2, "max_length": 8}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Eight unlabelled recordings, eight with labels, some to gather and some to avoid; tones by kind."""
    root = tmp_path_factory.mktemp("data")
    draw, time = np.random.default_rng(0), np.arange(2 * RATE) / RATE
    lines = ["filename,labels"]
    for folder, count in (("unlabeled", 8), ("labeled/audio", 8), ("positive", 3), ("negative", 2)):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            tone = np.sin(2 * np.pi * (500 + 1500 * (i % 2)) * time)
            sound = 0.3 * tone + 0.05 * draw.standard_normal(len(time))
            write_wav(root / folder / f"{i}.wav", sound.astype(np.float32), RATE)
            if folder.startswith("labeled"):
                lines.append(f'{i}.wav,"tone,{"high" if i % 2 else "low"}"')
    (root / "labeled/labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def settings(tiny_settings, tree):
    """A function from an objective to the settings of a tiny run."""

    def make(objective, **changes):
        base = tiny_settings()
        data = {
            "source": "bioacoustics", "root": str(tree), "multi_label": True, "window_seconds": 0.7, "batch_size": 8,
            "train_split": 0.5, "val_split": 0.5, "test_split": 0.0,
            "labeled_batch_size": 8, "positive_batch_size": 8, "negative_batch_size": 8,
        }  # fmt: skip
        training = {"max_steps": 4, "max_epochs": 1.0, "learning_rate": 1e-3, "log_every_steps": 1, "monitor": "loss"}
        training |= {"evaluate_every_epochs": 2.0, "checkpoint_every_steps": 2}
        return {**base, "data": data, "training": training, "objective": objective, **changes}

    return make


def run(config, workdir, *overrides):
    return run_experiment(read_experiment(config, overrides), workdir, strict=False, command="test")


def rows_of(workdir):
    rows = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "timing"} for row in rows]


@pytest.fixture(scope="module")
def joint(settings, write_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "joint"
    assert run(write_config(settings(JOINT)), workdir) == 0
    return workdir


def test_a_joint_run_ends_in_a_classifier(joint, tree):
    metrics = json.loads((joint / "metrics.json").read_text())
    assert {"train_base_loss", "train_supervised_loss", "train_label_contrast_loss", "validation_mAP"} <= set(metrics)
    assert metrics["train_bank_filled"] > 0
    model = beats_jax.load(joint)
    assert model.labels == ("high", "low", "tone")
    probabilities = model.predict(np.zeros((1, RATE), np.float32) + 0.01)
    assert probabilities.shape == (1, 3)


def test_a_stopped_joint_run_goes_on_to_the_same_numbers(joint, settings, write_config, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(joint, again)
    for name in ("metrics.json", "report.html"):
        (again / name).unlink()
    shutil.rmtree(again / "model")
    shutil.rmtree(again / "checkpoints" / "4")
    assert run(write_config(settings(JOINT)), again) == 0
    assert rows_of(again) == rows_of(joint)
    tensors = [(place / "model" / "model.safetensors").read_bytes() for place in (again, joint)]
    assert tensors[0] == tensors[1]


@pytest.mark.parametrize("exports", ["student", "teacher"])
def test_eat_ends_in_an_encoder(settings, write_config, tmp_path, exports):
    objective = {"name": "eat", "clones": 2, "decoder_layers": 1, "decoder_groups": 4, "exports": exports}
    audio = {"filterbank": to_mapping(replace(EAT, target_frames=64))}
    config = write_config(settings(objective, model=EAT_MODEL, audio=audio))
    assert run(config, tmp_path / exports, "--config.training.max_steps=1") == 0
    model = beats_jax.load(tmp_path / exports)
    assert (model.config.family, model.labels) == ("eat", ())
    assert np.isfinite(model.embed(np.zeros((1, RATE), np.float32) + 0.01)).all()
    metrics = json.loads((tmp_path / exports / "metrics.json").read_text())
    assert {"train_frame_loss", "train_utterance_loss", "validation_target_spread", "train_teacher_decay"} <= set(metrics)


def test_mistakes_are_named(settings, write_config, tmp_path, tree):
    def refused(message, objective, *overrides, **changes):
        with pytest.raises(UserError, match=message):
            run(write_config(settings(objective, **changes)), tmp_path / f"{len(list(tmp_path.iterdir()))}", *overrides)

    refused(r"batch_size 8 is larger than objective\.bank_size 4", {**BASE, "bank_size": 4})
    refused("trains models of the family 'eat', not 'beats'", {"name": "eat"})
    refused(r"objective\.base\.name is 'supervised'", {"name": "joint", "base": {"name": "supervised"}})
    refused("takes full only", BASE, "--config.training.mode=probe")
    refused(r"data\.positive_batch_size 2 does not divide over 8 devices", BASE, "--config.data.positive_batch_size=0")
    refused("needs labelled recordings", JOINT, f"--config.data.root={tree / 'unlabeled'}")
    refused(
        "keeps its own average", {"name": "eat"}, "--config.training.ema_decay=0.9", model=EAT_MODEL,
        audio={"filterbank": to_mapping(EAT)},
    )  # fmt: skip
