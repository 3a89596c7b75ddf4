"""`augment.synthetic` "auto" obeys a study's gate, and refuses what would make the figures of the run too good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.command_line import read_experiment
from beats_jax.config import Experiment, to_mapping
from beats_jax.datasets.manifest import LabelVocabulary, Manifest, text_column
from beats_jax.errors import UserError
from beats_jax.objectives.inputs import Synthetic, replace_rows
from beats_jax.pipelines.studying.gate import write_synthetic
from beats_jax.pipelines.training.synthetic import synthetic_of
from beats_jax.pipelines.training.workdir import write_json

CLASSES = ("noise", "owl")


def _experiment(study: Path) -> Experiment:
    found = read_experiment("low_frequency", [])
    augment = replace(found.objective.augment, synthetic="auto", study=str(study))
    return replace(found, objective=replace(found.objective, augment=augment))


def _data(owls: int) -> Any:
    """100 noises and some owls for training, two of each for the test; the content of a row is its number."""
    labels = [("noise",)] * 102 + [("owl",)] * (owls + 2)
    splits = ["train"] * 100 + ["test"] * 2 + ["train"] * owls + ["test"] * 2
    manifest = Manifest.from_columns([f"{i}.wav" for i in range(len(labels))], labels, splits=splits)
    contents = text_column([f"content {i}" for i in range(len(labels))])
    manifest = manifest.with_metadata(content=contents, file_hash=contents)
    return SimpleNamespace(manifest=manifest, vocabulary=LabelVocabulary(CLASSES))


def _study(folder: Path, **changes: Any) -> Path:
    """50 owls: gain by VAE x4; 1,000: none."""
    folder.mkdir(parents=True, exist_ok=True)
    experiment = read_experiment("low_frequency", [])
    gate = {
        "classes": list(CLASSES),
        "background": "noise",
        "filterbank": to_mapping(experiment.audio.filterbank),
        "seconds": 2.0,
        "sources": ["content 0"],
        "decisions": [
            {"examples": 50, "use": True, "arm": "vae", "ratio": 4.0, "file": "synthetic/50.npz"},
            {"examples": 1000, "use": False},
        ],
        **changes,
    }
    write_json(folder / "gate.json", gate)
    write_synthetic(folder / "synthetic/50.npz", np.full((6, 64, 64), 0.5, np.float32), np.ones(6, int))
    return folder


def test_few_real_examples_get_synthetic_ones_and_many_do_not(tmp_path: Path):
    study = _study(tmp_path / "study")
    found, why = synthetic_of(_experiment(study), _data(40), tmp_path)
    assert found is not None
    assert "vae" in why
    assert found.share == pytest.approx(160 / (160 + 140))  # four for each of 40 owls, beside all 140 real clips
    assert found.targets.tolist() == [[0.0, 1.0]] * 6
    assert found.fbank.shape == (6, 64, 64)
    for owls, folder in ((60, "more"), (2000, "most")):  # a gain at 50 need not hold at 60
        (tmp_path / folder).mkdir()
        found, why = synthetic_of(_experiment(study), _data(owls), tmp_path / folder)
        assert found is None
        assert "no gain" in why


def test_a_resumed_run_keeps_its_decision(tmp_path: Path):
    study = _study(tmp_path / "study")
    first, _ = synthetic_of(_experiment(study), _data(40), tmp_path)
    again, _ = synthetic_of(_experiment(study), _data(40), tmp_path)
    assert first is not None
    assert again is not None
    _study(tmp_path / "study", decisions=[{"examples": 50, "use": False}])
    with pytest.raises(UserError, match="gate has changed"):
        synthetic_of(_experiment(study), _data(40), tmp_path)


def test_what_would_flatter_or_mislead_is_refused(tmp_path: Path):
    data = _data(40)
    for changes, message in (
        ({"sources": ["content 0", "content 101"]}, "1 of 4 recordings that this run measures"),
        ({"classes": ["noise", "frog"]}, "noise, frog"),
        ({"filterbank": {"kind": "floor", "high_hz": 400.0}}, "high_hz is 500"),
    ):
        study = _study(tmp_path / message.replace(" ", "_"), **changes)
        with pytest.raises(UserError, match=message):
            synthetic_of(_experiment(study), data, study)
    with pytest.raises(UserError, match="missing"):
        synthetic_of(_experiment(tmp_path / "nothing"), data, tmp_path)
    with pytest.raises(UserError, match=r"needs objective\.augment\.study"):
        read_experiment("low_frequency", ["--config.objective.augment.synthetic=auto"])


def test_rows_are_replaced_whole_and_unreadable_ones_are_left():
    rows, share = 4000, 0.3
    keys = jax.random.split(jax.random.key(0), rows)
    synthetic = Synthetic(np.ones((3, 2, 2), np.float32), np.tile(np.array([0.0, 1.0], np.float32), (3, 1)), share)
    readable = jnp.arange(rows) % 2 == 0
    fbank, mask, targets = replace_rows(
        keys, synthetic, readable, jnp.zeros((rows, 2, 2)), jnp.zeros((rows, 2), bool), jnp.tile(jnp.array([1.0, 0.0]), (rows, 1))
    )
    changed: np.ndarray = (np.asarray(fbank) == 1).all(axis=(1, 2))
    assert changed[::2].mean() == pytest.approx(share, abs=0.04)
    assert not changed[1::2].any()
    np.testing.assert_array_equal(np.asarray(mask).all(axis=1), changed)
    np.testing.assert_array_equal(np.asarray(targets)[:, 1] == 1, changed)
