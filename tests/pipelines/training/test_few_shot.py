"""Runs on new classes from end to end: measured by episodes, resumed to the same bits, opened by the other verbs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import beats_jax
from beats_jax.evaluate import main as evaluate
from beats_jax.train import main as train
from beats_jax.training.preemption import StopSignals
from beats_jax.weights.bundle import TENSORS_FILE, load_bundle
from beats_jax.weights.few_shot_head import load_head

DATA = {
    "split_by": "classes",
    "train_split": 0.4,
    "val_split": 0.3,
    "test_split": 0.3,
    "window_seconds": 0.5,
    "synthetic": {"num_classes": 8, "clips_per_class": 4, "seconds": 0.5},
}
EPISODES = {"n_way": 2, "n_shot": 1, "n_query": 1, "episodes_per_step": 2, "episodes_per_epoch": 4}
EVALUATION = {"n_way": 2, "n_shot": 1, "n_query": 1, "episodes": 30}


@pytest.fixture(scope="module")
def arguments(tiny_settings: Callable[..., Any], write_config: Callable[..., str]) -> Callable[..., list[str]]:
    """The command of a run in a folder, with an objective."""

    def command(workdir: Path, objective: dict[str, Any], **training: Any) -> list[str]:
        settings = tiny_settings(
            data=DATA,
            objective={**objective, "augment": {"time_masks": 0}},
            training={"max_epochs": 2.0, "evaluate_every_epochs": 1.0, "checkpoint_every_steps": 1, **training},
            evaluation=EVALUATION,
        )
        return ["--config", write_config(settings), "--workdir", str(workdir)]

    return command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, arguments: Callable[..., list[str]]) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "matching"
    assert train(arguments(workdir, {"name": "episodic", "method": "matching", **EPISODES})) == 0
    return workdir


def rows_of(workdir: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "timing"} for row in rows]


@pytest.mark.slow
def test_a_run_is_measured_on_classes_that_it_never_met(finished: Path) -> None:
    found = json.loads((finished / "metrics.json").read_text())
    assert (found["n_way"], found["n_shot"], found["n"], found["steps"]) == (2, 1, 30, 4)
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    assert {"simpleshot_accuracy", "validation_accuracy", "train_loss"} <= set(found)
    assert "new classes" in (finished / "report.html").read_text()


@pytest.mark.slow
def test_what_it_leaves_is_an_encoder_with_its_head(finished: Path) -> None:
    model, head = beats_jax.load(finished), load_head(finished)
    assert model.labels == ()
    assert model.embed(np.zeros((1, 8000), np.float32)).shape == (1, 32)
    assert head is not None
    assert (head.method, head.pooling, head.window_seconds) == ("matching", "mean", 0.5)
    assert head.params["read_out"]["kernel"].shape == (64, 128)


@pytest.mark.slow
def test_evaluate_run_says_what_measures_it(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["--run", str(finished), "--output", str(tmp_path / "output")]) == 2
    assert f"evaluate --episodes {finished}" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_was_stopped_has_the_same_episodes_and_bits(
    finished: Path, tmp_path: Path, arguments: Callable[..., list[str]]
) -> None:
    command = arguments(tmp_path / "run", {"name": "episodic", "method": "matching", **EPISODES})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignals, "should_stop", lambda self, step: step == 3)
        assert train(command) == 143
    assert train(command) == 0
    assert rows_of(tmp_path / "run") == rows_of(finished)
    for name in (TENSORS_FILE, "few_shot.safetensors"):
        assert (tmp_path / "run" / "model" / name).read_bytes() == (finished / "model" / name).read_bytes()


@pytest.mark.slow
def test_a_classifier_is_measured_by_simpleshot(tmp_path: Path, arguments: Callable[..., list[str]]) -> None:
    assert train(arguments(tmp_path / "run", {"name": "supervised"}, max_epochs=1.0)) == 0
    bundle, found = load_bundle(tmp_path / "run" / "model"), json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(bundle.labels) == 3  # of 8, those that trained
    assert 0 <= found["accuracy"] <= 1
    assert load_head(tmp_path / "run") is None


@pytest.mark.parametrize(
    ("objective", "training", "data", "message"),
    [
        ({"name": "episodic"}, {}, {"split_by": "rows"}, "set data.split_by='classes'"),
        ({"name": "episodic"}, {"mode": "probe"}, {}, "takes full"),
        ({"name": "episodic"}, {}, {"balanced": True}, "unset data.balanced"),
        ({"name": "eat"}, {"monitor": "loss"}, {}, "learns without"),
        ({"name": "episodic", **EPISODES, "n_way": 6}, {}, {}, "n_way is 6, and there are 3 classes"),
        ({"name": "episodic", **EPISODES, "n_shot": 4}, {}, {}, "too small for 4 support and 1 query rows"),
        ({"name": "episodic", **EPISODES, "episodes_per_step": 1}, {}, {}, "does not divide over 8 devices"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    objective: dict[str, Any],
    training: dict[str, Any],
    data: dict[str, Any],
    message: str,
    tmp_path: Path,
    tiny_settings: Callable[..., Any],
    write_config: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = {**DATA, **data}
    if objective["name"] == "eat":
        objective = {**objective, "augment": {"time_masks": 0}}
    settings = tiny_settings(
        data=data, objective={"augment": {"time_masks": 0}, **objective}, training=training, evaluation=EVALUATION
    )
    model = ["--config.model.family=eat", "--config.model.embed_dim=16", "--config.model.depth=1", "--config.model.num_heads=2"]
    more = model if objective["name"] == "eat" else []
    assert train(["--config", write_config(settings), "--workdir", str(tmp_path / "run"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()
