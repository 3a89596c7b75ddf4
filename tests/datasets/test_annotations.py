"""Windows with labels from events, against a loop over instants and by hand; and as a source of data."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from beats_jax.audio.io import write_wav
from beats_jax.config.schema import DataConfig
from beats_jax.datasets.annotations import WindowRule, annotated_manifest, label_windows
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.sources.annotations import block_length, load, load_raven, locate_recordings
from beats_jax.datasets.tables.registry import Events, write_events
from beats_jax.errors import UserError


def events(*rows):
    files, starts, ends, labels = zip(*rows, strict=True)
    return Events.from_columns(files, starts, ends, labels)


def by_start(windows):
    return dict(zip(windows.starts.tolist(), windows.labels, strict=True))


def test_by_hand():
    annotated = events(("f", 0.9, 1.1, "a"), ("f", 3.5, 6.5, "b"), ("f", 8.1, 8.2, "a"))
    found = label_windows(annotated, {"f": 9.5}, WindowRule(1.0))
    assert by_start(found) == {
        0: ("a",), 1: ("a",),  # half of a short call is in each
        2: (), 3: ("b",), 4: ("b",), 5: ("b",), 6: ("b",), 7: (), 8: ("a",), 8.5: (),
    }  # fmt: skip
    strict = label_windows(annotated, {"f": 9.5}, WindowRule(1.0, overlap=0.6))
    assert by_start(strict) == {2: (), 4: ("b",), 5: ("b",), 7: (), 8: ("a",), 8.5: ()}
    assert strict.left_out["with too little of an event"] == 4
    np.testing.assert_array_equal(found.ends, found.starts + 1)


def test_windows_with_several_labels():
    annotated = events(("f", 0.0, 1.0, "a"), ("f", 0.2, 0.9, "b"), ("f", 2.2, 2.2, "point"))
    assert by_start(label_windows(annotated, {"f": 3.0}, WindowRule(1.0, multi_label=True))) == {
        0: ("a", "b"),
        1: (),
        2: ("point",),
    }
    single = label_windows(annotated, {"f": 3.0}, WindowRule(1.0))
    assert by_start(single) == {1: (), 2: ("point",)}
    assert single.left_out["with several labels"] == 1
    assert by_start(label_windows(annotated, {"f": 3.0}, WindowRule(1.0, background=""))) == {2: ("point",)}


@pytest.mark.parametrize("seed", range(8))
def test_against_instants(seed):
    """Shares counted in milliseconds, one by one."""
    draw = np.random.default_rng(seed)
    starts = draw.integers(0, 9000, 12)
    ends = starts + draw.integers(20, 3000, 12)
    labels = draw.choice(list("ab"), 12).tolist()
    annotated = Events.from_columns(["f"] * 12, starts / 1000, np.minimum(ends, 10_000) / 1000, labels)
    rule = WindowRule(1.0, 0.5, overlap=float(draw.choice([0.2, 0.5, 1.0])), multi_label=True)
    found = by_start(label_windows(annotated, {"f": 10.0}, rule))
    for start in range(0, 9001, 500):
        inside = [range(max(start, s), min(start + 1000, min(e, 10_000))) for s, e in zip(starts, ends, strict=True)]
        needed = [rule.overlap * min(1000, min(e, 10_000) - s) for s, e in zip(starts, ends, strict=True)]
        expected = {
            name for name, both, least in zip(labels, inside, needed, strict=True) if len(both) > 0 and len(both) >= least - 1e-6
        }
        touched = any(len(both) for both in inside)
        assert found.get(start / 1000) == (tuple(sorted(expected)) if expected or not touched else None)


def test_background_is_thinned_evenly_and_blocks_keep_apart():
    annotated = events(("f", 50, 51, "a"))
    found = label_windows(annotated, {"f": 101.0, "g": 100.0}, WindowRule(1.0, background_share=4))
    assert len(found.starts) == 5
    assert found.left_out["of background beyond the share"] == 196
    manifest = annotated_manifest(annotated, {"f": 100.0}, WindowRule(1.0, 0.5, block_seconds=10.0))
    groups = np.array(manifest.groups.tolist())
    assert len(set(groups.tolist())) == 10
    for group in set(groups.tolist()):
        rows = groups == group
        block = int(group.split("#")[1])
        assert manifest.starts[rows].min() >= 10 * block
        assert manifest.ends[rows].max() <= 10 * (block + 1)
    assert any("over the edge" in note for note in manifest.notes)


@pytest.mark.parametrize(
    "settings", [{"window_seconds": 0}, {"overlap": 0}, {"hop_seconds": -1}, {"background_share": -1}, {"block_seconds": 0.5}]
)
def test_rules_out_of_range(settings):
    with pytest.raises(UserError):
        WindowRule(**{"window_seconds": 1.0, **settings})


def test_an_event_of_another_recording():
    with pytest.raises(ValueError, match="length is not given"):
        label_windows(events(("g", 0, 1, "a")), {"f": 3.0}, WindowRule(1.0))


@pytest.fixture
def recordings(tmp_path):
    """Two recordings in folders, and Raven tables made on another machine."""
    for name in ("site1/a.wav", "site2/b.wav"):
        (tmp_path / "audio" / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / "audio" / name, np.random.default_rng(0).normal(0, 0.1, 80_000), 8000)
    annotated = events(("/media/card/a.wav", 1, 3, "song"), ("/media/card/b.wav", 5, 6, "call"))
    write_events(annotated, tmp_path / "tables", ["raven"], {"/media/card/a.wav": 10.0, "/media/card/b.wav": 10.0})
    return tmp_path


def test_as_a_source(recordings):
    data = DataConfig(
        source="raven", root=str(recordings / "audio"), metadata_file=str(recordings / "tables"), window_seconds=1.0
    )
    manifest = load_raven(data, workdir=recordings)
    assert manifest.labels.counts() == {"background": 17, "call": 1, "song": 2}
    rows = zip(
        manifest.files.tolist(), manifest.starts.tolist(), map(tuple, (manifest.labels[row] for row in range(20))), strict=True
    )
    a, b = (str(recordings / "audio" / name) for name in ("site1/a.wav", "site2/b.wav"))
    assert [row for row in rows if row[2] != ("background",)] == [(a, 1, ("song",)), (a, 2, ("song",)), (b, 5, ("call",))]
    same = load(
        DataConfig(root=data.root, metadata_file=str(recordings / "tables/detections.selections.txt"), window_seconds=1.0),
        workdir=recordings,
    )
    assert same.labels.counts() == manifest.labels.counts()


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"background_share": 2.0}, {"background": 6, "call": 1, "song": 2}),
        ({"background": "nothing", "background_share": 1.0}, {"call": 1, "nothing": 3, "song": 2}),
        ({"background": ""}, {"call": 1, "song": 2}),
        ({"window_seconds": 4.0}, {"background": 4, "call": 1, "song": 1}),
        ({"window_seconds": 4.0, "hop_seconds": 2.0}, {"background": 4, "call": 2, "song": 2}),
        ({"window_seconds": 4.0, "hop_seconds": 2.0, "overlap": 0.6}, {"background": 4, "call": 2, "song": 1}),
    ],
)
def test_settings_of_the_windows(recordings, settings, counts):
    places = {"root": str(recordings / "audio"), "metadata_file": str(recordings / "tables")}
    data = DataConfig(**places, **{"source": "raven", "window_seconds": 1.0, **settings})
    assert load_manifest(data, workdir=recordings).labels.counts() == counts


@pytest.mark.parametrize("settings", [{"overlap": 0.0}, {"overlap": 1.5}, {"background_share": -1.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(UserError, match=f"data.{next(iter(settings))}"):
        DataConfig(**settings)


def test_a_recording_with_an_empty_table_is_background(recordings):
    (recordings / "tables/raven/a.selections.txt").write_text("Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n")
    (recordings / "tables/detections.selections.txt").unlink()
    manifest = load_raven(
        DataConfig(root=str(recordings / "audio"), metadata_file=str(recordings / "tables"), window_seconds=1.0),
        workdir=recordings,
    )
    assert manifest.labels.counts() == {"background": 19, "call": 1}


def test_a_single_recording_is_split_by_blocks_of_time(recordings):
    table = recordings / "tables/raven/a.selections.txt"
    manifest = load(DataConfig(root=str(recordings / "audio"), metadata_file=str(table), window_seconds=0.5), workdir=recordings)
    assert len(set(manifest.groups.tolist())) == 6
    assert [block_length(seconds, 1.0) for seconds in (3600, 60, 12, 2)] == [180, 5, 2, 1]
    assert any("one recording" in note for note in manifest.notes)
    groups, splits = np.array(manifest.groups.tolist()), np.array(manifest.splits.tolist())
    assert set(splits.tolist()) == {"train", "val", "test"}
    for group in set(groups.tolist()):
        assert len(set(splits[groups == group].tolist())) == 1


def test_what_is_missing_is_named(recordings):
    (recordings / "audio/site1/a.wav").unlink()
    data = DataConfig(root=str(recordings / "audio"), metadata_file=str(recordings / "tables"), window_seconds=1.0)
    manifest = load(data, workdir=recordings)
    assert [error.path.name for error in manifest.errors] == ["a.wav"]
    (recordings / "audio/site2/b.wav").unlink()
    with pytest.raises(UserError, match="none of the 2 recordings"):
        load(data, workdir=recordings)
    with pytest.raises(UserError, match="metadata_file is empty"):
        load(DataConfig(), workdir=recordings)
    with pytest.raises(UserError, match="holds no table"):
        load(DataConfig(metadata_file=str(recordings / "audio")), workdir=recordings)


def test_names_of_other_machines(recordings):
    root = recordings / "audio"
    path = str(root / "site1/a.wav")
    names = ["D:\\card\\A.WAV", "a", "site1/a.wav", path]
    assert locate_recordings(names, root) == dict.fromkeys(names, path)
    (root / "site2/a.wav").write_bytes((root / "site1/a.wav").read_bytes())
    with pytest.raises(UserError, match="may be"):
        locate_recordings(["/x/a.wav"], root)


def test_an_event_without_a_label(recordings):
    table = recordings / "a.labels.txt"
    table.write_text("1\t2\t\n")
    with pytest.raises(UserError, match="1 events have no label"):
        load(DataConfig(root=str(recordings / "audio"), metadata_file=str(table)), workdir=recordings)


def test_recordings_that_end_before_an_event_are_left_out_and_not_taught_as_background(tmp_path):
    for name in ("a", "b"):
        write_wav(tmp_path / f"{name}.wav", np.zeros(10 * 16_000, np.float32), 16_000)
    (tmp_path / "events.csv").write_text("file,start,end,label\na.wav,1,2,owl\nb.wav,1,2,owl\nb.wav,3601,3602,owl\n")
    found = load(
        DataConfig(source="annotations", metadata_file=str(tmp_path / "events.csv"), window_seconds=1.0), workdir=tmp_path
    )
    assert {Path(file).name for file in found.files.tolist()} == {"a.wav"}
    assert [error.reason for error in found.errors] == [
        "it ends at 10 s, and an event starts at 3601 s: the table is of another recording, or its times run on"
    ]


def test_label_tracks_of_recordings_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for site, start in (("north", 2), ("south", 5)):
        (tmp_path / "sound" / site).mkdir(parents=True)
        write_wav(tmp_path / "sound" / site / "20240101_000000.WAV", np.zeros(10 * 16_000, np.float32), 16_000)
        (tmp_path / "tracks" / site).mkdir(parents=True)
        (tmp_path / "tracks" / site / "20240101_000000.txt").write_text(f"{start}\t{start + 1}\towl\n")
    data = DataConfig(source="audacity", root=str(tmp_path / "sound"), metadata_file=str(tmp_path / "tracks"), window_seconds=1.0)
    found = load_manifest(data, workdir=tmp_path)
    owls = [(Path(found.files[row]).parent.name, found.starts[row]) for row in range(len(found)) if found.labels[row] == ("owl",)]
    assert owls == [("north", 2.0), ("south", 5.0)]
