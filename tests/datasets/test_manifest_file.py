"""The rows of a run come back from its files exactly; a file that has changed is refused."""

import csv
import gzip

import numpy as np
import pytest

from beats_jax.datasets.manifest import LabelColumn, Manifest, text_column
from beats_jax.datasets.manifest_file import FACTS_FILE, TABLE_FILE, read_manifest, write_manifest
from beats_jax.errors import UserError

AWKWARD = ["a,b", 'say "owl"', "two\nlines", "carriage\rreturn", "", " ", "=1+1", "naïve 🦉", "[]", "{run}"]


def some_rows(folder):
    """Rows whose texts and times are hard to write, and a label that no row has."""
    files = [*(f"rec/{text}.wav" for text in AWKWARD), f"{folder}/data/generated.wav"]
    rows = len(files)
    manifest = Manifest.from_columns(
        files,
        [[AWKWARD[k % 8], "frog"][: k % 3] for k in range(rows)],
        starts=[np.nan if k % 2 else k / 3 for k in range(rows)],
        ends=[0.1 + 0.2 * k if k % 3 else np.nan for k in range(rows)],
        splits=[("train", "val", "test", "")[k % 4] for k in range(rows)],
        groups=[*AWKWARD, "g"],
        metadata={"fold": [str(k) for k in range(rows)], "start": [*AWKWARD, "s"], "labels": [*AWKWARD, "s"]},
    )
    names = (*manifest.labels.names, "zebra of no row")
    labels = LabelColumn(names, manifest.labels.ids, manifest.labels.offsets)
    manifest = Manifest(
        manifest.files, labels, manifest.starts, manifest.ends, manifest.splits, manifest.groups, manifest.metadata
    )
    return manifest.with_metadata(seconds=np.random.default_rng(0).uniform(0, 9, rows))


def assert_same(one, other):
    """Every column bit for bit."""
    assert one.files.tolist() == other.files.tolist()
    assert one.labels.names == other.labels.names
    for name in ("starts", "ends"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.labels.ids, other.labels.ids)
    np.testing.assert_array_equal(one.labels.offsets, other.labels.offsets)
    assert (one.splits.tolist(), one.groups.tolist()) == (other.splits.tolist(), other.groups.tolist())
    assert list(one.metadata) == list(other.metadata)
    for name, column in one.metadata.items():
        assert column.dtype == other.metadata[name].dtype
        assert column.tolist() == other.metadata[name].tolist()


def test_no_cell_is_a_formula(tmp_path):
    write_manifest(tmp_path, some_rows(tmp_path))
    with gzip.open(tmp_path / TABLE_FILE, "rt", encoding="utf-8", newline="") as text:
        cells = {cell for row in csv.reader(text) for cell in row}
    assert "'=1+1" in cells
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in cells)


def test_rows_come_back_exactly_also_where_the_run_has_moved(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    manifest = some_rows(run)
    assert read_manifest(run) is None
    write_manifest(run, manifest)
    found = read_manifest(run)
    assert found is not None
    assert_same(manifest, found)
    run.rename(tmp_path / "moved")
    moved = read_manifest(tmp_path / "moved")
    assert moved is not None
    assert moved.files[-1] == f"{tmp_path / 'moved'}/data/generated.wav"
    assert moved.files[:-1].tolist() == manifest.files[:-1].tolist()


def test_any_program_reads_the_table(tmp_path):
    write_manifest(tmp_path, Manifest.from_columns(["a.wav"], [["owl"]], splits=["test"], ends=[2.5]))
    with gzip.open(tmp_path / TABLE_FILE, "rt", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"file": "a.wav", "start": "", "end": "2.5", "labels": '["owl"]', "split": "test", "group": ""}


def test_no_rows_are_rows(tmp_path):
    manifest = Manifest.from_columns([], [], metadata={"fold": []}).with_metadata(seconds=np.zeros(0))
    write_manifest(tmp_path, manifest)
    found = read_manifest(tmp_path)
    assert found is not None
    assert_same(manifest, found)
    assert found.files.dtype == text_column([]).dtype


@pytest.mark.parametrize("name", [TABLE_FILE, FACTS_FILE])
def test_a_changed_byte_anywhere_is_found(tmp_path, name):
    """Every byte of both files; a byte between the tokens of the JSON may change nothing at all."""
    manifest = Manifest.from_columns(["a.wav", "b.wav"], [["owl"], ["frog"]], splits=["train", "test"])
    write_manifest(tmp_path, manifest)
    whole = (tmp_path / name).read_bytes()
    refused = 0
    for place in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = read_manifest(tmp_path)
        except UserError:
            refused += 1
        else:
            assert name == FACTS_FILE
            assert found is not None
            assert_same(manifest, found)
    assert refused == len(whole) if name == TABLE_FILE else refused > len(whole) / 2


def test_a_table_that_is_missing_or_of_another_format_is_named(tmp_path):
    write_manifest(tmp_path, Manifest.from_columns(["a.wav"], [["owl"]]))
    facts = tmp_path / FACTS_FILE
    facts.write_text(facts.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="format 2; this version of beats_jax reads format 1"):
        read_manifest(tmp_path)
    facts.write_text(facts.read_text().replace('"format": 2', '"format": 1'))
    (tmp_path / TABLE_FILE).unlink()
    with pytest.raises(UserError, match="it is missing; restore it from a copy"):
        read_manifest(tmp_path)
