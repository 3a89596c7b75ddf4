"""Recipes are found by name from anywhere; what is not there is answered with what is."""

import re
from pathlib import Path

import pytest

from beats_jax.command_line import config_folder, config_names, config_path, read_experiment
from beats_jax.errors import UserError

ROOT = Path(__file__).parent.parent


def test_every_recipe_is_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert config_names() == names
    assert len(names) >= 11
    for name in names:
        for form in (name, f"{name}.py", f"configs/{name}.py", str(ROOT / "configs" / f"{name}.py")):
            assert config_path(form).samefile(ROOT / "configs" / f"{name}.py"), form
        assert read_experiment(name, []).name == name
    assert read_experiment("pretrain_beats:iter2_small", []).name == "iter2_small"


def test_a_file_that_is_there_goes_before_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quickstart.py").write_text(
        "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'name': 'mine'})\n"
    )
    assert read_experiment("quickstart.py", []).name == "mine"
    assert read_experiment("quickstart", []).name == "quickstart"


def test_an_unknown_config_names_the_nearest_and_all_others():
    with pytest.raises(UserError) as caught:
        config_path("quikstart")
    message = str(caught.value)
    assert "'quikstart' does not exist; did you mean 'quickstart'?" in message
    assert re.findall(r"\w+", re.search(r"known: ([^;]*);", message)[1]) == config_names()
    with pytest.raises(UserError, match=r"'elsewhere/quickstart\.py' does not exist"):
        config_path("elsewhere/quickstart.py")


def test_an_installed_package_holds_the_recipes_itself(monkeypatch, tmp_path):
    """setup.py puts configs/ into the package; the wheel itself is looked into by `test_the_wheel_holds_every_recipe`."""
    (tmp_path / "beats_jax" / "configs").mkdir(parents=True)
    monkeypatch.setattr("beats_jax.command_line.PACKAGE", tmp_path / "beats_jax")
    assert config_folder() == tmp_path / "beats_jax" / "configs"


@pytest.mark.slow
def test_the_wheel_holds_every_recipe(tmp_path):
    """Built from a copy, because setuptools writes into the folder it builds in."""
    import shutil
    import subprocess
    import sys
    import zipfile

    source = tmp_path / "source"
    for name in ("beats_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {Path(name).stem for name in wheel.namelist() if name.startswith("beats_jax/configs/")}
    assert packed == {path.stem for path in (ROOT / "configs").glob("*.py")}
