"""A tiny trained BEATs, and generated recordings in every layout that the door takes."""

import csv

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from tiny_beats import TINY_BEATS

from beats_jax.audio.io import write_wav
from beats_jax.audio.synth import synthesize
from beats_jax.config import AudioConfig
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

KINDS = ("harmonic", "trill")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a random BEATs without a head."""
    draw = np.random.default_rng(0)
    params = {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(TINY_BEATS).items()}
    bundle = Bundle(unflatten_dict(params, sep="/"), TINY_BEATS, AudioConfig(), (), False, "a test")
    return save_bundle(tmp_path_factory.mktemp("tiny") / "model", bundle)


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory):
    """A folder for each of two calls, ten clips of half a second in each."""
    root = tmp_path_factory.mktemp("recordings")
    for kind in KINDS:
        (root / kind).mkdir()
        for seed in range(10):
            clip = synthesize(seed, labels=(kind,), seconds=0.5, sample_rate=16_000, snr_db=15.0)
            write_wav(root / kind / f"{kind}_{seed}.wav", clip.waveform, clip.sample_rate)
    return root


@pytest.fixture(scope="session")
def table(class_folders):
    """A table of the same clips."""
    path = class_folders.parent / "dataset.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "category"])
        rows.writerows([f"{class_folders.name}/{clip.parent.name}/{clip.name}", clip.parent.name]
                       for clip in sorted(class_folders.rglob("*.wav")))  # fmt: skip
    return path
