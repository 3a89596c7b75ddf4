"""The manifest's columns, selections and the label vocabulary."""

import json
import subprocess
import sys

import numpy as np
import pytest

from beats_jax.datasets.manifest import LabelColumn, LabelVocabulary, Manifest
from beats_jax.errors import UserError

LISTS = [["owl"], [], ["wren", "owl"], ["robin", "robin"], ["wren"]]


def test_labels_come_back_as_given_without_repeats() -> None:
    column = LabelColumn.from_lists(LISTS)
    assert [column[i] for i in range(5)] == [("owl",), (), ("owl", "wren"), ("robin",), ("wren",)]
    assert column.counts() == {"owl": 2, "robin": 1, "wren": 2}
    with pytest.raises(IndexError):
        column[5]


@pytest.mark.parametrize("seed", range(5))
def test_take_of_labels_equals_indexing_lists(seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 5, 12)
    taken = LabelColumn.from_lists(LISTS).take(rows)
    whole = LabelColumn.from_lists(LISTS)
    assert [taken[i] for i in range(12)] == [whole[int(row)] for row in rows]


def test_take_keeps_rows_together() -> None:
    manifest = Manifest.from_columns(
        ["a.wav", "b.wav", "c.wav"],
        [["x"], ["y"], ["x"]],
        starts=[0, 1, 2],
        groups=["p", "q", "p"],
        metadata={"fold": ["1", "2", "3"]},
    )
    part = manifest.take(np.array([True, False, True]))
    assert part.files.tolist() == ["a.wav", "c.wav"]
    assert part.starts.tolist() == [0, 2]
    assert part.groups.tolist() == ["p", "p"]
    assert part.metadata["fold"].tolist() == ["1", "3"]
    assert part.labels[1] == ("x",)
    assert len(manifest.split("train")) == 0


def test_columns_of_other_length_are_refused() -> None:
    with pytest.raises(ValueError, match="starts has 1 rows"):
        Manifest.from_columns(["a", "b"], [["x"], ["y"]], starts=[0.0])


def test_vocabulary_encodes() -> None:
    manifest = Manifest.from_columns(["a"] * 5, LISTS)
    vocabulary = LabelVocabulary.from_manifest(manifest.take([0, 2, 4]))
    assert vocabulary.names == ("owl", "wren")
    assert vocabulary.encode(["wren"], multi_label=False).item() == 1
    assert vocabulary.encode(["wren"], multi_label=False).dtype == np.int32
    assert vocabulary.encode([], multi_label=True).tolist() == [0, 0]
    assert vocabulary.encode(["wren", "owl"], multi_label=True).dtype == np.float32
    assert json.loads(LabelVocabulary(("é", "b,c")).to_json()) == {"names": ["é", "b,c"]}


@pytest.mark.parametrize(
    ("labels", "message"), [(["wrenn"], "did you mean 'wren'"), (["owl", "wren"], "2 labels"), ([], "0 labels")]
)
def test_vocabulary_refuses(labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LabelVocabulary(("owl", "wren")).encode(labels, multi_label=False)


def test_importing_the_room_loads_neither_jax_nor_pandas() -> None:
    modules = "beats_jax.datasets.loader, beats_jax.datasets.validation, beats_jax.datasets.sources.table, sys"
    code = f"import {modules}; print([m for m in ('jax', 'grain', 'pandas', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bounds_are_numbers_where_they_are_known() -> None:
    nan = float("nan")
    manifest = Manifest.from_columns(["a", "b", "c"], [["x"]] * 3, starts=[nan, 1.0, 2.0], ends=[nan, 3.0, 9.0])
    np.testing.assert_array_equal(manifest.bounds(), [[0, 1, 2], [nan, 3, 9]])
    np.testing.assert_array_equal(manifest.with_metadata(seconds=np.full(3, 5.0)).bounds(), [[0, 1, 2], [5, 3, 5]])
