"""Clusters of regions that a small network learns by the training loop, and vectors without weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import beats_jax
from beats_jax.audio.io import write_wav
from beats_jax.audio.synth import synthesize
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.pipelines.discovering.mec import Learning, MecSettings, mec
from beats_jax.pipelines.discovering.mec_encoder import EncoderSettings, Regions, embedder, learner

KINDS = ("pulses", "harmonic")


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Regions:
    """Twelve calls of each of two kinds; the last file is broken."""
    folder = tmp_path_factory.mktemp("calls")
    files = []
    for number in range(24):
        clip = synthesize(number, labels=[KINDS[number % 2]], seconds=1.0, sample_rate=16_000, snr_db=30, background="wind")
        files.append(folder / f"{number:02d}.wav")
        write_wav(files[-1], clip.waveform, 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return Regions.of_files([*files, folder / "broken.wav"])


def test_names_without_weights_have_vectors_and_broken_regions_have_none(regions: Regions) -> None:
    found = embedder(regions, EncoderSettings(batch_size=4))("modulation")
    assert found.shape == (25, 289 + 256)
    assert np.isfinite(found[:24]).all()
    assert np.isnan(found[24]).all()
    with pytest.raises(UserError, match="modulation has one vector"):
        beats_jax.inference.sources.open_source("modulation", (3,), ("mean",), logits=False, dtype="auto", window=None, hop=None)


def test_too_few_rows_to_learn_are_refused(regions: Regions, tmp_path: Path) -> None:
    labels = np.where(np.arange(25) < 9, 0, -1).astype(np.int32)
    with pytest.raises(UserError, match="1 clusters have 6 rows to learn"):
        learner(regions)(Learning(labels, "filterbank", 0, tmp_path))


@pytest.mark.slow
def test_an_encoder_learns_from_clusters_and_embeds(regions: Regions, tmp_path: Path) -> None:
    settings = EncoderSettings(
        window_seconds=0.655, steps=2, batch_size=4, threads=1, model={"family": "cnn", "widths": (4, 4)}, n_way=2
    )
    grouping = GroupingSettings(method="kmeans", clusters=2, dimensions=4)
    way = MecSettings(iterations=2, settled=1.0, surest=1.0, grouping=grouping)
    _, found = mec(embedder(regions, settings), learner(regions, settings), "modulation", tmp_path, way)
    assert len({tuple(one.groups.labels[:24]) for one in found}) >= 1
    assert all(one.groups.labels[24] == -1 for one in found), "the broken region is in no cluster"
    assert (tmp_path / "iteration-00" / "run" / "model").is_dir()
    assert beats_jax.load(str(tmp_path / "iteration-00" / "run")).num_features == 4
    kinds = found[0].groups.labels[:24].reshape(12, 2)
    assert (kinds == kinds[0]).all(), "two kinds of calls are two clusters"
