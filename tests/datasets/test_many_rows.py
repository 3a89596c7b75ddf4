"""A table of many rows of few files: found, checked, split and recorded within bounds that a copy of every cell would break."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import numpy as np

from beats_jax.audio.io import write_wav
from beats_jax.config import DataConfig, Experiment
from beats_jax.datasets.distinct import distinct
from beats_jax.datasets.manifest import LabelColumn, Manifest, text_column
from beats_jax.datasets.manifest_file import TABLE_FILE, read_manifest, write_manifest
from beats_jax.datasets.splits import leakage
from beats_jax.pipelines.training.preparation import prepare_data

ROWS = 20_000
BYTES_A_ROW = (
    1_100  # held at once, of 20,000 rows with all that does not grow: 880; 1,440 while each cell was an object of its own
)


def test_rows_cost_little(tmp_path: Path) -> None:
    for number in range(4):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, 60 * 4_000)
        write_wav(tmp_path / f"{number}.wav", noise, 4_000)
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("filename", "start", "end", "label"))
        starts = [f"{row // 4 * 0.01:.2f}" for row in range(ROWS)]
        table.writerows((f"{row % 4}.wav", start, float(start) + 0.2, "ab"[row % 2]) for row, start in enumerate(starts))
    data = DataConfig(source="csv", metadata_file=str(tmp_path / "labels.csv"))
    tracemalloc.start()
    found = prepare_data(Experiment(data=data), tmp_path / "run", strict=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.manifest) == ROWS
    assert peak / ROWS < BYTES_A_ROW


def test_distinct_is_unique_of_numpy() -> None:
    texts = text_column(["b", "", "ä", "b", "a", "Z", "\U0001f99c", "\uffff", ""])
    names, places = distinct(texts)
    for found, expected in zip((names, places), np.unique(texts, return_inverse=True), strict=True):
        assert found.tolist() == expected.tolist()
    assert [len(part) for part in distinct(texts[:0])] == [0, 0]


def test_manifest_file_is_the_csv_of_the_standard_library(tmp_path: Path) -> None:
    rows = [('a "b",c.wav', "=1+1"), ("line\rbreak\n.wav", "-5"), ("ü.wav", "")]
    manifest = Manifest.from_columns(
        [file for file, _ in rows], [["x", "y"]] * 3, groups=[g for _, g in rows], starts=[0, 0.1, 1e-9]
    )
    write_manifest(tmp_path, manifest)
    again = read_manifest(tmp_path)
    assert again is not None
    assert again.files.tolist() == manifest.files.tolist()
    assert again.groups.tolist() == ["=1+1", "-5", ""]
    with gzip.open(tmp_path / TABLE_FILE, "rt", newline="") as file:
        cells = list(csv.reader(file))
    assert cells[0][:4] == ["file", "start", "end", "labels"]
    assert [row[1] for row in cells[1:]] == ["0.0", "0.1", "1e-09"]
    assert json.loads(cells[1][3]) == ["x", "y"]
    assert [row[5] for row in cells[1:]] == ["'=1+1", "-5", ""]


def test_content_of_several_files_leaks_and_that_of_one_is_told_once() -> None:
    manifest = Manifest(
        text_column(["a", "a", "b", "c"]),
        LabelColumn.from_lists([["x"]] * 4),
        np.zeros(4),
        np.ones(4),
        text_column(["train", "test", "train", "test"]),
        text_column([""] * 4),
        {"content": text_column(["1", "1", "2", "2"])},
    )
    assert [(leak.kind, leak.what) for leak in leakage(manifest)] == [("file", "a"), ("content", "b")]
