"""Decisions on clusters on disk: tabs that do not fight, torn lines, splits by sound, and the rows that `train` gets."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from beats_jax.config import DataConfig
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.tables.refinements import DROP, MERGE, MOVE, NAME, SPLIT, Refinement, read_refinements
from beats_jax.datasets.tables.registry import read_events
from beats_jax.errors import UserError
from beats_jax.inference.store import Store
from beats_jax.pipelines.discovering.vectors import vector_schema
from beats_jax.pipelines.refining.discovery import open_discovery
from beats_jax.pipelines.refining.refined_tables import write_refined_events, write_reviewed
from beats_jax.pipelines.refining.refinement_file import RefinementFile

ROWS = 24


@pytest.fixture
def folder(tmp_path):
    """An output of `discover` with two clusters of ten, the first of two kinds, six and four; recordings that are not opened."""
    output, audio = tmp_path / "found", tmp_path / "audio"
    audio.mkdir()
    files = [str(audio / f"{row % 3}.wav") for row in range(ROWS)]
    for file in set(files):
        open(file, "wb").close()
    names = ["c01"] * 10 + ["c02"] * 10 + ["unclustered"] * 4
    table = pd.DataFrame({"file": files, "start": np.arange(ROWS) * 1.0, "end": np.arange(ROWS) + 0.5, "low_hz": 100.0})
    table = table.sort_values(["file", "start"], ignore_index=True).assign(high_hz=900.0, snr_db=20.0, cluster=0)
    table = table.assign(membership=np.linspace(1, 0.5, ROWS), representative=0, novelty=np.nan, name=names)
    output.mkdir()
    table.to_csv(output / "regions.csv", index=False)
    (output / "discover.json").write_text(json.dumps({"sounds": {}, "settings": {}}))
    centres = np.full((ROWS, 4), 3.0, np.float32)
    centres[6:10, 1], centres[10:, 2] = 5, 9
    vectors = centres + np.random.default_rng(0).normal(0, 0.1, (ROWS, 4)).astype(np.float32)
    schema = vector_schema(4)
    identity = {"model": "filterbank", "audio": {}, "grid": {"window_seconds": 1.0}, "columns": {"embedding": 4}}
    with Store(output / "embeddings", identity, schema) as store:
        places = pa.table({field.name: table.get(field.name, pd.Series([None] * ROWS)).tolist() for field in list(schema)[:-1]})
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)
        store.append(places.append_column("embedding", column), "all")
    return output


def opened(folder):
    discovery = open_discovery(folder)
    return discovery, RefinementFile(folder, discovery.names)


def test_a_split_separates_the_two_kinds(folder):
    discovery, table = opened(folder)
    parts = discovery.split(table.refined().clusters["c01"], 2)
    assert parts == (tuple(range(6)), tuple(range(6, 10)))
    with pytest.raises(UserError, match="2 to 20 parts"):
        discovery.split(table.refined().clusters["c01"], 1)
    table.add(Refinement(SPLIT, "c01", "2", parts), "ana", 0)
    with pytest.raises(UserError, match="too few different sounds for 20 parts"):
        discovery.split(table.refined().clusters["c01.1"], 20)
    pd.read_csv(folder / "regions.csv").iloc[:-1].to_csv(folder / "regions.csv", index=False)
    with pytest.raises(UserError, match="are no longer those"):
        open_discovery(folder).split(table.refined().clusters["c01.1"], 2)


def test_a_tab_that_saw_an_older_state_decides_only_on_what_nobody_changed(folder):
    _, one = opened(folder)
    _, two = opened(folder)
    seen = one.refined().lines
    one.add(Refinement(NAME, "c01", "owl"), "ana", seen)
    with pytest.raises(UserError, match=r"ana has changed c01 at .*; look at it again"):
        two.add(Refinement(DROP, "c01"), "ben", seen)
    two.add(Refinement(NAME, "c02", "wren"), "ben", seen)  # of this one nobody decided since
    with pytest.raises(UserError, match="changed c02"):
        one.add(Refinement(MERGE, "c01", "c02"), "ana", seen)
    with pytest.raises(UserError, match="there is no cluster 'c07'"):
        one.add(Refinement(DROP, "c07"), "ana", 9)
    with pytest.raises(UserError, match="the name is"):
        one.add(Refinement(NAME, "c01", "two\nlines"), "ana", 9)
    assert [line.action for line in read_refinements(folder / "refinements.csv")] == ["begin", "name", "name"]
    assert two.undo("ana").cluster == "c01"
    assert two.undo("ana") is None or pytest.fail("ana had one decision")
    assert {key: cluster.name for key, cluster in one.refined().clusters.items()} == {"c01": "c01", "c02": "wren"}


def test_undo_waits_for_later_decisions_of_others_on_the_same_clusters(folder):
    discovery, table = opened(folder)
    table.add(Refinement(SPLIT, "c01", "2", discovery.split(table.refined().clusters["c01"], 2)), "ana", 0)
    table.add(Refinement(NAME, "c01.2", "owl"), "ben", 9)
    with pytest.raises(UserError, match=r"ben has decided on c01\.2 since"):
        table.undo("ana")
    table.undo("ben")
    table.undo("ana")
    assert set(table.refined().clusters) == {"c01", "c02"}


def test_a_torn_line_is_removed_and_other_regions_are_refused(folder):
    _, table = opened(folder)
    table.add(Refinement(NAME, "c01", "owl"), "ana", 0)
    whole = table.path.read_bytes()
    for torn in (b"drop,c02,,", b'name,c02,"wr'):
        table.path.write_bytes(whole + torn)
        assert table.repair() == torn.decode()
        assert table.path.read_bytes() == whole
    text = (folder / "regions.csv").read_text()
    (folder / "regions.csv").write_text(text.replace("0.5,", "0.6,", 1))
    with pytest.raises(UserError, match="has changed since the decisions"):
        opened(folder)[1].refined()


def test_named_clusters_are_rows_to_train_on(folder, tmp_path):
    data = DataConfig(source="clusters", metadata_file=str(folder))
    with pytest.raises(UserError, match=r"has no refinements\.csv; name its clusters with"):
        load_manifest(data, workdir=tmp_path)
    discovery, table = opened(folder)
    table.add(Refinement(DROP, "c02"), "ana", 0)
    with pytest.raises(UserError, match=r"no cluster of .* has a name yet"):
        load_manifest(data, workdir=tmp_path)
    table.add(Refinement(NAME, "c01", "=owl"), "ana", 9)
    table.add(Refinement(MOVE, "c01", "", ((0, 3),)), "ana", 9)
    manifest = load_manifest(data, workdir=tmp_path)
    kept = [1, 2, *range(4, 10)]
    assert manifest.labels.counts() == {"=owl": 8}
    np.testing.assert_array_equal(manifest.starts, discovery.regions.starts[kept])
    assert manifest.files.tolist() == discovery.regions.files[kept].tolist()
    assert "16 of 24 regions are left out" in manifest.notes[0]
    reviewed = read_events(write_reviewed(discovery, table.refined()))
    assert sorted(zip(*np.unique(reviewed.labels.tolist(), return_counts=True), strict=True)) == [
        ("=owl", 8), ("c02", 10), ("unclustered", 6),
    ]  # fmt: skip
    written = write_refined_events(discovery, table.refined(), ("raven",))
    assert len(read_events(written[-1])) == 14  # without the dropped ones


@pytest.mark.slow
def test_processes_that_decide_at_once_lose_nothing(folder):
    code = (
        "import sys; from pathlib import Path; from beats_jax.pipelines.refining.refinement_file import RefinementFile\n"
        "from beats_jax.pipelines.refining.discovery import open_discovery\n"
        "from beats_jax.datasets.tables.refinements import Refinement\n"
        "one = open_discovery(Path(sys.argv[1])); table = RefinementFile(one.folder, one.names)\n"
        "for number in range(10): table.add(Refinement('name', sys.argv[2], f'n{number}'), sys.argv[2], 10**6)\n"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(folder), name]) for name in ("c01", "c02")]
    assert [job.wait(120) for job in jobs] == [0, 0]
    lines = read_refinements(folder / "refinements.csv")
    assert [line.action for line in lines] == ["begin"] + ["name"] * 20
    for name in ("c01", "c02"):
        assert [line.value for line in lines if line.cluster == name] == [f"n{number}" for number in range(10)]
