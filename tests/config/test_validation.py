"""Loose settings become typed ones strictly, and the page that lists them is current."""

import json
import math
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from beats_jax.config import BEATsConfig, Experiment, experiment_from_mapping, models, objectives, schema, to_mapping
from beats_jax.config.models import MODEL_FAMILIES
from beats_jax.config.objectives import OBJECTIVE_CONFIGS
from beats_jax.config.rules import Bounds
from beats_jax.errors import UserError
from beats_jax.models.registry import FAMILIES
from beats_jax.objectives.registry import OBJECTIVES

ROOT = Path(__file__).parent.parent.parent


def test_settings_survive_json():
    experiment = experiment_from_mapping(
        {"data": {"classes": ["a", "é"]}, "model": {"encoder_layers": 3}, "training": {"freeze": ["x"]}}
    )
    assert experiment_from_mapping(json.loads(json.dumps(to_mapping(experiment)))) == experiment
    assert isinstance(experiment.model, BEATsConfig)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modle": {}}, "did you mean 'model'"),
        ({"model": {"family": "beat"}}, "did you mean 'beats'"),
        ({"objective": {"name": "supervized"}}, "did you mean 'supervised'"),
        ({"model": {"encoder_layer": 2}}, "did you mean 'encoder_layers'"),
        ({"training": {"max_steps": 2.5}}, "must be of type int"),
        ({"training": {"max_steps": True}}, "must be of type int"),
        ({"data": {"classes": "owl"}}, "must be a list"),
        ({"data": {"classes": [1]}}, "must be of type str"),
        ({"data": 3}, "must be a group"),
        ({"model": {"deep_norm": True, "layer_norm_first": True}}, "exclude each other"),
        ({"model": {"encoder_attention_heads": 7}}, "not a multiple"),
        ({"audio": {"channel": "left"}}, "channel number"),
        ({"audio": {"filterbank": {"window": "hann"}}}, "allowed: povey, hanning"),
        ({"audio": {"filterbank": {"std": 0.0}}}, r"filterbank\.std is 0\.0; it must be above 0"),
        ({"data": {"batch_size": 0}}, r"data\.batch_size is 0; it must be at least 1"),
        ({"data": {"trim_below_dbfs": 3}}, r"data\.trim_below_dbfs is 3\.0; it must be at most 0"),
        ({"model": {"encoder_layers": 1001}}, r"model\.encoder_layers is 1001; it must be between 1 and 1000"),
        ({"model": {"num_buckets": 3}}, r"model\.num_buckets is 3 .* at least 4"),
        ({"objective": {"label_smoothing": 1}}, r"objective\.label_smoothing is 1\.0; it must be at least 0 and below 1"),
        ({"objective": {"augment": {"time_masks": -1}}}, r"objective\.augment\.time_masks is -1; it must be at least 0"),
        ({"training": {"decay_factor": 0}}, r"training\.decay_factor is 0\.0; it must be above 0 and at most 1"),
        ({"evaluation": {"threshold_goal": "recal"}}, "did you mean 'recall'"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        experiment_from_mapping(settings)


def test_bounds_hold_at_their_ends_and_for_what_is_no_number():
    half_open, closed = Bounds(ge=0, lt=1), Bounds(gt=0, le=1)
    assert [half_open.hold(value) for value in (-1, 0, 0.999, 1)] == [False, True, True, False]
    assert [closed.hold(value) for value in (-1, 0, 0.001, 1)] == [False, False, True, True]
    assert not any(bounds.hold(value) for bounds in (Bounds(), half_open, closed) for value in (math.nan, math.inf, -math.inf))


def test_every_setting_is_read_somewhere():
    """A setting that no code reads is a promise not kept."""
    package = ROOT / "beats_jax"
    declared = tuple(package / "config" / f"{name}.py" for name in ("schema", "models", "objective", "objectives", "generative"))
    code = "\n".join(p.read_text(encoding="utf-8") for p in package.rglob("*.py") if p not in declared)
    code += "".join(p.read_text(encoding="utf-8").partition("@property")[2] for p in declared)
    everything = [c for module in (schema, models, objectives) for c in vars(module).values()]
    classes = {c for c in everything if isinstance(c, type) and is_dataclass(c)}
    names = {f.name for c in classes for f in fields(c)}
    unread = sorted(name for name in names if f".{name}" not in code)
    assert not unread, f"no code reads these settings: {', '.join(unread)}"


@pytest.mark.parametrize(("settings", "built"), [(MODEL_FAMILIES, FAMILIES), (OBJECTIVE_CONFIGS, OBJECTIVES)])
def test_every_kind_of_settings_is_built_by_a_registry_and_described(settings, built):
    assert settings.keys() == built.keys()
    described = runpy.run_path(str(ROOT / "docs" / "settings_page.py"))["GROUPS"]
    missing = {cls.__name__ for cls in settings.values()} - described.keys()
    assert not missing, f"GROUPS of docs/settings_page.py lacks {', '.join(sorted(missing))}"


def test_the_settings_page_is_current():
    page = runpy.run_path(str(ROOT / "docs" / "settings_page.py"))["settings_page"]()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page, (
        "run: python docs/settings_page.py > docs/settings.md"
    )
    assert Experiment().name in page
