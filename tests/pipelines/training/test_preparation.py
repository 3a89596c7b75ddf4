"""Splits without rows are refused before anything is trained; a pocket of good data passes."""

import pytest

from beats_jax.config import TrainingConfig, experiment_from_mapping
from beats_jax.datasets.manifest import Manifest
from beats_jax.errors import UserError
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.pipelines.training.preparation import require_splits


@pytest.mark.parametrize(
    ("splits", "training", "message"),
    [
        (["val", "test"], {}, "no rows to train on"),
        (["train", "train"], {}, "no row is left to measure"),
        (["train", "test"], {"select": "best"}, r"training\.select is 'best', which needs validation rows"),
        (["train", "test"], {"patience": 5}, r"training\.patience is 5, which needs validation rows"),
        (["train", "val"], {"select": "best", "patience": 5}, ""),
        (["train", "test"], {}, ""),
    ],
)
def test_splits_that_are_needed(splits: list[str], training: dict, message: str) -> None:
    manifest = Manifest.from_columns(["a", "b"], [["x"], ["y"]], splits=splits)
    if not message:
        return require_splits(manifest, TrainingConfig(**training))
    with pytest.raises(UserError, match=message):
        require_splits(manifest, TrainingConfig(**training))


def test_nothing_to_measure_is_said_before_training(tmp_path, tiny_settings, capsys) -> None:
    shares = {"train_split": 1.0, "val_split": 0.0, "test_split": 0.0, "synthetic": {"clips_per_class": 2}}
    experiment = experiment_from_mapping(tiny_settings(data=shares))
    with pytest.raises(UserError, match=r"data\.val_split or data\.test_split must leave some"):
        run_experiment(experiment, tmp_path, strict=False, command="")
    assert "step" not in capsys.readouterr().out
