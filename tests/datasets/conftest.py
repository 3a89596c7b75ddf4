"""Small recordings whose samples tell where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coded_audio import CLASSES, RATE, coded_waveform

from beats_jax.audio.io import write_wav
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.validation import validate


@pytest.fixture
def write_tree() -> Callable[[Path, dict[str, float]], None]:
    """Writes {relative name: seconds} as WAV files of noise below a folder."""

    def write(root: Path, files: dict[str, float]) -> None:
        rng = np.random.default_rng(0)
        for name, seconds in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_wav(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32), RATE)

    return write


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """22 coded files of 0.4 to 1.45 s."""
    root = tmp_path_factory.mktemp("recordings")
    paths = [root / f"{number:02d}.wav" for number in range(22)]
    for number, path in enumerate(paths):
        write_wav(path, coded_waveform(number, 0.4 + number * 0.05), RATE, "FLOAT")
    return paths


@pytest.fixture(scope="session")
def data() -> DataConfig:
    return DataConfig(window_seconds=0.5, batch_size=8, num_workers=2)


@pytest.fixture(scope="session")
def manifest(recordings: list[Path], data: DataConfig) -> Manifest:
    """One row per recording, validated; classes in turn."""
    labels = [[CLASSES[number % 4]] for number in range(len(recordings))]
    return validate(Manifest.from_columns([str(path) for path in recordings], labels), data, AudioConfig()).manifest


@pytest.fixture(scope="session")
def vocabulary() -> LabelVocabulary:
    return LabelVocabulary(CLASSES)
