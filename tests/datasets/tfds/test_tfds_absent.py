"""What is said where tensorflow-datasets is not installed; here its absence is made."""

import sys
from pathlib import Path

import pytest

from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.tfds.writer import write_tfds
from beats_jax.errors import UserError


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=r"pip install 'beats-jax\[tfds\]' \(TensorFlow is not needed\)"):
        load_manifest(DataConfig(source="tfds", root=str(tmp_path)), workdir=tmp_path)
    with pytest.raises(UserError, match="tensorflow_datasets is not installed"):
        write_tfds(Manifest.from_columns(["a.wav"], [["x"]]), DataConfig(), AudioConfig(), tmp_path, "owls")
