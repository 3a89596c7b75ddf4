"""Makes hoplite/ with perch-hoplite 1.0.2 itself: a whole database, and its index as a commit killed half-way leaves it.

pip install --no-deps perch-hoplite==1.0.2; pip install "absl-py<2" "etils[epath]" "ml_collections<0.2" numpy tqdm usearch
python tests/golden/make_hoplite.py
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
from ml_collections import config_dict
from perch_hoplite.db import datatypes, sqlite_usearch_impl

FOLDER = Path(__file__).with_name("hoplite")
DIMENSION, FIRST = 8, 7  # vectors; windows of the first commit


def fill(folder: Path, *, killed: bool) -> dict[str, list]:
    """A database of two commits, the second cut between its two writes where `killed`; returns what stands in it."""
    config = sqlite_usearch_impl.get_default_usearch_config(DIMENSION)
    database = sqlite_usearch_impl.SQLiteUSearchDB.create(str(folder), usearch_cfg=config)
    owls = database.insert_deployment("site A", "owls", 47.5, 8.25)
    plain = database.insert_deployment("owls", "owls")
    when = datetime.datetime(2026, 4, 12, 5, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    day = database.insert_recording("site A/day 1.wav", when, owls, serial="24F3", temperature_c=11.5)
    recordings = {
        day: "/data/owls/site A/day 1.wav",
        database.insert_recording("räv.flac", None, plain, serial="24F3"): "/data/owls/räv.flac",
        database.insert_recording("alone.wav"): "alone.wav",
    }
    sources = {"audio_globs": ({"dataset_name": "owls", "base_path": "/data/owls", "file_glob": "**/*.wav"},)}
    database.insert_metadata("audio_sources", config_dict.ConfigDict(sources))
    draw, rows = np.random.default_rng(0), []
    for number in range(12):
        if number == FIRST:
            database.remove_window(2)
            rows.pop(1)
            database.commit()
        recording = list(recordings)[number % 3]
        offsets, vector = [2.5 * number, 2.5 * number + 5], draw.standard_normal(DIMENSION).astype(np.float32)
        window = database.insert_window(recording, offsets, vector)
        rows.append([window, recordings[recording], *offsets, *vector.astype(np.float16).astype(float).tolist()])
    notes = []
    for kind in datatypes.LabelType:
        recording = list(recordings)[kind]
        database.insert_annotation(recording, [1.0, 2.5 + kind], f"Strix aluco {kind.value}", kind, "a test")
        notes.append([recordings[recording], 1.0, 2.5 + kind, f"Strix aluco {kind.value}", kind.name.lower(), "a test"])
    if killed:
        database.ui.save = lambda: os._exit(0)
    database.commit()
    database.db.close()
    return {"windows": rows, "annotations": notes, "first": FIRST - 1}


def dump(folder: Path) -> list[str]:
    """SQLite's contents as statements."""
    return list(sqlite3.connect(folder / "hoplite.sqlite").iterdump())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        whole, broken = Path(place) / "whole", Path(place) / "broken"
        child = os.fork()
        if child == 0:
            fill(broken, killed=True)
        os.waitpid(child, 0)
        expected = fill(whole, killed=False)
        assert dump(whole) == dump(broken)
        FOLDER.mkdir(exist_ok=True)
        for name in ("hoplite.sqlite", "usearch.index"):
            shutil.copy(whole / name, FOLDER / name)
        shutil.copy(broken / "usearch.index", FOLDER / "killed.index")
        (FOLDER / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")
