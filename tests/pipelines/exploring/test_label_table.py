"""Labels of a page: nothing is lost, nothing is run, and `train` reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config import DataConfig
from beats_jax.datasets.sources import load_manifest
from beats_jax.errors import UserError
from beats_jax.pipelines.exploring.label_table import LabelTable, checked_text, latest_labels

WINDOW = ("/recordings/a.wav", 0.0, 10.0)


def test_the_last_label_of_a_reviewer_counts_and_reviewers_may_disagree(tmp_path: Path) -> None:
    table = LabelTable(tmp_path / "labels.csv")
    table.add([WINDOW, ("/recordings/b.wav", 0.1, 0.7)], "owl", "Ann")
    table.add([WINDOW], "frog", "Ann")
    table.add([WINDOW], "toad", "Bob")
    assert [(row.reviewer, row.label) for row in table.rows() if row.file == WINDOW[0]] == [("Ann", "frog"), ("Bob", "toad")]
    assert latest_labels(table.rows())[(WINDOW[0], "0.0", "10.0")] == "toad"
    assert table.remove([WINDOW], "Bob") == 2
    assert table.remove([WINDOW, ("/recordings/b.wav", 0.1, 0.7)], "Ann") == 0
    assert not table.path.exists()
    assert table.rows() == []


@pytest.mark.parametrize("source", ["csv", "annotations"])
def test_train_reads_the_labels(tmp_path: Path, source: str) -> None:
    for name in ("a", "b"):
        write_wav(tmp_path / f"{name}.wav", np.full(16_000 * 4, 0.1, np.float32), 16_000)
    table = LabelTable(tmp_path / "out" / "labels.csv")
    table.add([(str(tmp_path / "a.wav"), 0.0, 2.0), (str(tmp_path / "b.wav"), 0.0, 2.0)], "=HYPERLINK(1)", "Ann")
    table.add([(str(tmp_path / "a.wav"), 2.0, 4.0)], "frog, not toad", "-1+1")
    options: dict[str, Any] = {"window_seconds": 2.0, "background": ""} if source == "annotations" else {"audio_column": "file"}
    data = DataConfig(source=source, root=str(tmp_path), metadata_file=str(table.path), **options)
    manifest = load_manifest(data, workdir=tmp_path)
    rows = zip(
        manifest.files.tolist(),
        manifest.starts.tolist(),
        manifest.ends.tolist(),
        [manifest.labels[row] for row in range(len(manifest))],
        strict=True,
    )
    found = {(Path(file).name, start, end): names for file, start, end, names in rows}
    assert found == {
        ("a.wav", 0.0, 2.0): ("=HYPERLINK(1)",),
        ("b.wav", 0.0, 2.0): ("=HYPERLINK(1)",),
        ("a.wav", 2.0, 4.0): ("frog, not toad",),
    }


def test_a_spreadsheet_runs_nothing_of_it(tmp_path: Path) -> None:
    table = LabelTable(tmp_path / "labels.csv")
    table.add([("=1+1.wav", 0.0, 1.0)], "@SUM(1)", "+1-1")
    _, line = table.path.read_text().splitlines()
    assert [cell[0] for cell in line.split(",")[1:3] + line.split(",")[5:]] == ["'", "'", "'"]
    assert table.rows()[0][1:] == ("+1-1", "=1+1.wav", 0.0, 1.0, "@SUM(1)")


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "a\0b", "x" * 201, "\x1b[31m", "\ud800"])
def test_texts_that_are_no_labels_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        checked_text(text, "label")
    assert checked_text(" <b>búho</b> ../../etc ", "label") == "<b>búho</b> ../../etc"


def test_a_table_of_others_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("filename,label\na.wav,owl\n")
    with pytest.raises(UserError, match="no column 'time'"):
        LabelTable(path).add([WINDOW], "owl", "Ann")
    assert path.read_text() == "filename,label\na.wav,owl\n"
    path.write_text("time,reviewer,file,start,end,label\nnow,Ann,a.wav,zero,1,owl\n")
    with pytest.raises(UserError, match="line 2"):
        LabelTable(path).add([WINDOW], "owl", "Ann")


def _add_some(path: Path, reviewer: str) -> None:
    for number in range(15):
        LabelTable(path).add([(f"{reviewer}.wav", float(number), number + 1.0)], "owl", reviewer)


def test_two_pages_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with ThreadPoolExecutor(2) as pool:  # tabs are threads of one server
        for future in [pool.submit(_add_some, path, name) for name in ("Ann", "Bob")]:
            future.result()
    assert len(LabelTable(path).rows()) == 30
