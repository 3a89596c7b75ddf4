"""configs/fewshot.py: upstream's files become settings, in the words of their keys; nothing is swallowed."""

from pathlib import Path

import pytest

from beats_jax.command_line import config_folder, read_experiment
from beats_jax.config import EpisodicConfig, Experiment, ResNetConfig, SupervisedConfig
from beats_jax.errors import UserError

FIRST = """
RANDOM_SEED: 1979                # Fixed random seed
PARAMS_MODEL:
  DEVICE: "cpu"
  N_WORKERS: 0
  N_WAY: 20
  N_SHOT: 5
  N_QUERY: 1
  N_TASKS: 100
  N_EPOCHS: 20
  EARLY_STOP_THRESH: 10
  SCHEDULER_FACTOR: 0.1
  SCHEDULER_PATIENCE: 5
  LEARNING_RATE: 0.000028
  TRAINING: "episodic"  # classical or episodic
  VALIDATION: True
  PRETRAINED: False
  HPSS: True
  REMOVE_BG: False
  MODEL: 'matching'
"""
SECOND = """
RANDOM_SEED: 2023
PARAMS_EXTRACT:
  FUNC: !FUNC bambird.extract_rois_full_sig
  SAMPLE_RATE: 44100
PARAMS_MODEL: {BACKBONE: resnet18, NETWORK: prototypical, PRETRAINED: False, FINETUNE: True, N_WAY: 5, N_SHOT: 1, N_QUERY: 1,
  N_TASKS: 500, N_EPOCHS: 100, LEARNING_RATE: 0.0001, SAVE: False, OUTPUT_DIR: "embeddings"}
"""


def experiment_of(folder: Path, text: str, *overrides: str) -> Experiment:
    file = folder / "config.yaml"
    file.write_text(text)
    return read_experiment(f"{config_folder() / 'fewshot.py'}:{file}", overrides)


def test_the_file_of_the_first_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = experiment_of(tmp_path, FIRST, "--config.data.root=darksound")
    objective, training = found.objective, found.training
    assert isinstance(objective, EpisodicConfig)
    assert (objective.method, objective.n_way, objective.n_shot, objective.n_query) == ("matching", 20, 5, 1)
    assert (objective.episodes_per_step, objective.episodes_per_epoch) == (1, 100)
    assert (found.evaluation.n_way, found.evaluation.n_shot, found.evaluation.n_query) == (20, 5, 1)
    assert (training.max_epochs, training.learning_rate, training.patience, training.select) == (20.0, 2.8e-5, 10, "best")
    assert (training.optimizer, training.decay_factor, training.weight_decay, training.seed) == ("adam", 1.0, 0.0, 1979)
    assert (found.data.source, found.data.split_by, found.data.root, found.data.num_workers) == (
        "darksound",
        "classes",
        "darksound",
        0,
    )
    assert isinstance(found.model, ResNetConfig)
    assert (found.model.colours, found.model.checkpoint) == (3, "none")
    bank = found.audio.filterbank
    assert (bank.kind, bank.sample_rate, bank.num_mel_bins, bank.target_frames) == ("darksound_v1", 48_000, 224, 224)
    said = capsys.readouterr().out
    assert all(f"{key} has no effect" in said for key in ("DEVICE", "SCHEDULER_FACTOR", "SCHEDULER_PATIENCE"))


def test_the_file_of_the_second_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = experiment_of(tmp_path, SECOND)
    assert isinstance(found.objective, EpisodicConfig)
    assert (found.objective.method, found.objective.n_shot, found.objective.episodes_per_epoch) == ("prototypical", 1, 500)
    assert found.audio.filterbank.kind == "darksound_v2"
    assert (found.training.select, found.training.patience, found.data.val_split) == ("last", 0, 0.0)
    said = capsys.readouterr().out
    assert all(f"{key} has no effect" in said for key in ("PARAMS_EXTRACT", "FINETUNE", "SAVE", "OUTPUT_DIR"))


def test_classical_training_is_a_classifier(tmp_path: Path) -> None:
    found = experiment_of(tmp_path, "TRAINING: classical\nPRETRAINED: False\nHPSS: False\nN_WAY: 20\nN_SHOT: 5\nN_QUERY: 1\n")
    assert isinstance(found.objective, SupervisedConfig)
    assert (found.data.batch_size, found.data.split_by, found.audio.filterbank.kind) == (120, "classes", "kaldi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N_WAYS: 5\nPRETRAINED: False\n", "unknown key 'N_WAYS'; did you mean 'N_WAY'"),
        ("MODEL: relation\nNETWORK: relation\n", "MODEL and NETWORK"),
        ("PRETRAINED: True\n", "PRETRAINED True needs resnet18-f37072fd.pth"),
        ("BACKBONE: densenet\n", "BACKBONE is 'densenet'; allowed: resnet18"),
        ("BACKBONE: cnn\nPRETRAINED: False\n", "HPSS True gives images"),
        ("REMOVE_BG: True\n", "REMOVE_BG True"),
        ('HPSS: "False"\n', "HPSS is 'False'; write True or False"),
        ("VALIDATION: 1\n", "VALIDATION is 1; write True or False"),
        ("PRETRAINED: False\nMODEL: protypical\n", "did you mean 'prototypical'"),
        ("TRAINING: episodical\nPRETRAINED: False\n", "did you mean 'episodic'"),
        ("PRETRAINED: False\nN_WAY: many\n", "n_way is 'many'"),
        ("- N_WAY\n", "holds no keys"),
        ("N_WAY: [\n", "cannot be read"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=message):
        experiment_of(tmp_path, text)


def test_images_and_colours_belong_together() -> None:
    with pytest.raises(UserError, match=r"model\.colours=3, and by it alone"):
        Experiment(model=ResNetConfig(colours=3))
