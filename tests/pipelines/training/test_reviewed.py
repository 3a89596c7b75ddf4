"""Reviewed clips in a run: they train, and what is measured stays as it is without them."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config import DataConfig, Experiment
from beats_jax.datasets.tables.reviews import Review, review_lines
from beats_jax.pipelines.training.preparation import prepare_data

RATE = 16_000


@pytest.fixture
def data(tmp_path):
    """A table of 20 clips of two classes, and two reviewed clips of a longer recording."""
    draw = np.random.default_rng(0)
    rows = [("filename", "label")]
    for number in range(20):
        write_wav(tmp_path / f"{number}.wav", draw.normal(0, 0.1, RATE).astype(np.float32), RATE)
        rows.append((f"{number}.wav", ("owl", "crow")[number % 2]))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    write_wav(tmp_path / "night.wav", draw.normal(0, 0.1, 10 * RATE).astype(np.float32), RATE)
    time = "2026-01-01T00:00:00+00:00"
    reviews = [
        Review(str(tmp_path / "night.wav"), 0, 3, "owl", 0.9, "yes", "", "me", time),
        Review(str(tmp_path / "night.wav"), 5, 8, "owl", 0.8, "no", "", "me", time),
        Review(str(tmp_path / "gone.wav"), 5, 8, "owl", 0.8, "yes", "", "me", time),
    ]
    (tmp_path / "review.csv").write_bytes(review_lines(reviews, header=True))
    return DataConfig(source="csv", metadata_file=str(tmp_path / "labels.csv"), window_seconds=1.0)


def rows(prepared):
    manifest = prepared.report.manifest
    return {
        (file.rpartition("/")[2], start): split
        for file, start, split in zip(
            manifest.files.tolist(), np.nan_to_num(manifest.starts).tolist(), manifest.splits.tolist(), strict=True
        )
    }


def test_reviewed_clips_train_and_the_others_keep_their_splits(data, tmp_path):
    before = rows(prepare_data(Experiment(data=data), tmp_path / "run", strict=False))
    with_them = Experiment(data=replace(data, reviewed=(str(tmp_path / "review.csv"),)))
    prepared = prepare_data(with_them, tmp_path / "run2", strict=False)
    after = rows(prepared)
    assert after == {**before, ("night.wav", 0): "train", ("night.wav", 5): "train"}
    assert prepared.vocabulary.names == ("background", "crow", "owl")
    assert [file for file, _ in prepared.errors.rows()] == [str(tmp_path / "gone.wav")]
    again = prepare_data(with_them, tmp_path / "run2", strict=False)  # a resumed run
    assert rows(again) == after
