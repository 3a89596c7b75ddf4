"""Every config file is valid settings, and says in its docstring how to run it."""

import ast
from pathlib import Path

import pytest

from beats_jax.command_line import read_experiment

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_valid_and_documented(path):
    experiment = read_experiment(str(path), [])
    assert experiment.name == path.stem
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"python -m beats_jax.train --config configs/{path.name}" in docstring
    assert f"`configs/{path.name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_esc50_runs_on_a_list_of_classes():
    experiment = read_experiment(
        str(ROOT / "configs" / "esc50.py"), ["--config.data.classes=('dog','rain')", "--config.data.fold=all"]
    )
    assert (experiment.data.classes, experiment.data.fold) == (("dog", "rain"), "all")
