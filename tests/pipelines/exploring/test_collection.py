"""Collections of real files: what is opened, what is left out, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.errors import UserError
from beats_jax.inference.store import Store
from beats_jax.pipelines.exploring.clips import playable_wav, read_clip, spectrogram, usual_speed
from beats_jax.pipelines.exploring.collection import Collection, ExploreSettings, open_collection
from beats_jax.pipelines.exploring.maps import MapSettings, map_path, places_of
from beats_jax.pipelines.exploring.placing import place_file, scratch_file
from beats_jax.pipelines.exploring.runs import TrainingRequest, learning_curves

RATE = 16_000


def tone(hz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """float32 [samples] with a little noise, so that no two are equal."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(int(hz)).normal(size=len(time)) * 0.01
    return (0.3 * np.sin(2 * np.pi * hz * time) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`recordings` with two classes of tones, a broken file and one with a hostile name, embedded into `out`."""
    folder = tmp_path_factory.mktemp("explore")
    for label, low in (("owl", 300), ("wren", 4000)):
        for k in range(6):
            path = folder / "recordings" / label / f"S1_2026041{k}_053000.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_wav(path, tone(low + 20 * k), RATE)
    (folder / "recordings" / "wren" / "broken.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt nothing")
    write_wav(folder / "recordings" / "owl" / "=<b>x.wav", tone(290), RATE)
    return folder


@pytest.fixture(scope="module")
def collection(place: Path) -> Collection:
    return open_collection(ExploreSettings(data=str(place / "recordings"), output=str(place / "out")))


def test_windows_have_vectors_clocks_labels_and_a_note_on_the_broken_file(collection: Collection) -> None:
    assert collection.vectors.shape == (13, 256)
    assert sorted(collection.labels) == ["owl"] * 7 + ["wren"] * 6
    assert sum(bool(clock) for clock in collection.frame["recorded_at"]) == 12
    assert [note.kind for note in collection.notes] == ["unreadable"]
    assert "broken.wav" in collection.notes[0].detail


def test_the_nearest_neighbour_has_the_same_label(collection: Collection) -> None:
    similar = collection.units @ collection.units.T
    np.fill_diagonal(similar, -2)
    labels = np.array(collection.labels, object)
    assert labels[similar.argmax(axis=1)].tolist() == labels.tolist()


def test_a_map_is_computed_once_and_again_where_its_file_is_damaged(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = MapSettings("tsne", 2, perplexity=5)
    first, path = places_of(collection, settings), map_path(collection, settings)
    assert map_path(collection, MapSettings("tsne", 2, perplexity=5, min_dist=0.7)) == path  # a setting of UMAP
    assert map_path(collection, MapSettings("tsne", 2, perplexity=6)) != path
    path.write_bytes(path.read_bytes()[:50])
    np.testing.assert_array_equal(places_of(collection, settings), first)
    monkeypatch.setattr("beats_jax.pipelines.exploring.maps.tsne_places", None)
    np.testing.assert_array_equal(places_of(collection, settings), first)


def test_an_upload_falls_on_its_own_place_and_leaves_nothing(collection: Collection, place: Path) -> None:
    row = list(collection.labels).index("wren")
    data = Path(collection.frame["file"].iat[row]).read_bytes()
    with scratch_file("../../etc/passwd.wav", data) as path:
        folder = path.parent
        assert path.name == "upload.wav"
        placed = place_file(collection, path)
    assert not folder.exists()
    assert placed.rows[0, 0] == row
    assert placed.similar[0, 0] == pytest.approx(1, abs=1e-5)
    pca = MapSettings("pca", 2)
    np.testing.assert_allclose(
        placed.places(collection, pca, places_of(collection, pca))[0], collection.reduced[row, :2], atol=1e-3
    )
    tsne = MapSettings("tsne", 2, perplexity=5)
    places = places_of(collection, tsne)
    np.testing.assert_allclose(placed.places(collection, tsne, places)[0], places[row], atol=1e-2 * np.ptp(places))


def test_uploads_that_are_empty_too_large_or_no_audio_are_refused(collection: Collection) -> None:
    with pytest.raises(UserError, match="empty"), scratch_file("a.wav", b""):
        pass
    with pytest.raises(UserError, match="at most"), scratch_file("a.wav", b"12345", most=4):
        pass
    with pytest.raises(UserError), scratch_file("a.wav", b"<html>" * 100) as path:
        place_file(collection, path)


def test_the_embeddings_open_alone_and_with_recordings_elsewhere(collection: Collection, place: Path, tmp_path: Path) -> None:
    embeddings = str(collection.table.folder.parent)
    alone = open_collection(ExploreSettings(embeddings=embeddings, output=str(tmp_path)))
    assert len(alone) == 13
    assert set(alone.labels) == {""}
    shutil.copytree(place / "recordings", tmp_path / "moved")
    moved = open_collection(ExploreSettings(embeddings=embeddings, data=str(tmp_path / "moved"), output=str(tmp_path)))
    assert all(moved.recording(row).is_relative_to(tmp_path / "moved") for row in range(13))
    assert {name: label for name, label in zip(moved.names, moved.labels, strict=True)}["=<b>x.wav"] == "owl"


def test_a_sample_is_the_same_again_and_named(collection: Collection, tmp_path: Path) -> None:
    settings = ExploreSettings(embeddings=str(collection.table.folder.parent), output=str(tmp_path), max_samples=5, seed=1)
    one, two = open_collection(settings), open_collection(settings)
    assert len(one) == 5
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert ("sampled", 5, "13") in one.notes
    same = collection.frame.set_index("file").loc[one.frame["file"]]
    assert (same["start"].to_numpy() == one.frame["start"].to_numpy()).all()


def test_labels_of_events_and_of_recordings(collection: Collection, place: Path, tmp_path: Path) -> None:
    name = collection.names[0]
    (tmp_path / "events.csv").write_text(f"file,start,end,label\n{collection.frame['file'].iat[0]},0.1,0.2,hoot\nx.wav,0,1,y\n")
    (tmp_path / "files.csv").write_text(f"filename,label\n{collection.frame['file'].iat[0]},song\n")
    for table, label in (("events.csv", "hoot"), ("files.csv", "song")):
        settings = ExploreSettings(data=str(place / "recordings"), output=str(place / "out"), labels=str(tmp_path / table))
        found = open_collection(settings)
        assert [one for one in found.labels if one] == [label]
        assert found.names[found.labels.index(label)] == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--data FOLDER_OF_AUDIO"),
        ({"data": "nowhere"}, "does not exist"),
        ({"data": "EMPTY"}, "no recordings"),
        ({"embeddings": "EMPTY"}, "no embeddings"),
        ({"data": "recordings", "max_samples": 0}, "--max-samples"),
        ({"data": "recordings", "labels": "nowhere.csv"}, "--labels"),
        ({"data": "recordings", "model": "nonsense"}, "nonsense"),
    ],
)
def test_mistakes_end_in_one_sentence(
    settings: dict, message: str, collection: Collection, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "EMPTY").mkdir(exist_ok=True)
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match=message):
        open_collection(ExploreSettings(**{"output": "out", **settings}))


def test_predictions_are_the_likeliest_labels_of_the_same_rows(tmp_path: Path) -> None:
    schema = pa.schema(
        {"file": pa.string(), "start": pa.float64(), "end": pa.float64()}
        | {"embedding": pa.list_(pa.float32(), 4), "logits": pa.list_(pa.float32(), 3)}
    )
    identity = {"model": "filterbank", "audio": {}, "grid": {"window_seconds": 1.0}}
    vectors, logits = np.random.default_rng(0).normal(size=(2, 20, 4)).astype(np.float32)
    with Store(tmp_path / "e" / "embeddings", identity, schema) as store:
        for half in (slice(0, 10), slice(10, 20)):
            columns = [[f"{k}.wav" for k in range(20)][half], [0.0] * 10, [1.0] * 10, list(vectors[half]), list(logits[half, :3])]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            store.append(pa.Table.from_arrays(arrays, schema=schema), str(half))
            store.flush()
    (tmp_path / "e" / "embed.json").write_text(json.dumps({**identity, "labels": ["owl", "wren", "frog"]}))
    found = open_collection(ExploreSettings(embeddings=str(tmp_path / "e"), output=str(tmp_path), max_samples=8))
    rows = [int(name.removesuffix(".wav")) for name in found.names]
    np.testing.assert_array_equal(found.vectors, vectors[rows])
    assert found.predictions == tuple(["owl", "wren", "frog"][k] for k in logits[rows, :3].argmax(axis=1))


def test_a_damaged_part_is_named(collection: Collection, tmp_path: Path) -> None:
    shutil.copytree(collection.table.folder.parent, tmp_path / "copy")
    part = next((tmp_path / "copy").rglob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    with pytest.raises(UserError, match=part.name):
        open_collection(ExploreSettings(embeddings=str(tmp_path / "copy"), output=str(tmp_path)))


def test_files_that_vanish_or_lie_outside_are_not_opened(place: Path, tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_wav(tmp_path / "in" / f"{k}.wav", tone(500 + k), RATE)
    found = open_collection(ExploreSettings(data=str(tmp_path / "in"), output=str(tmp_path / "out")))
    (tmp_path / "in" / "0.wav").unlink()
    with pytest.raises(UserError, match="missing"):
        found.recording(0)
    (tmp_path / "secret.wav").write_bytes((tmp_path / "in" / "1.wav").read_bytes())
    (tmp_path / "in" / "0.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(UserError, match="outside"):
        found.recording(0)
    again = open_collection(ExploreSettings(embeddings=str(found.table.folder.parent), output=str(tmp_path / "out")))
    assert [note.kind for note in again.notes] == []


@pytest.mark.parametrize(("rate", "speed"), [(2000, 4.0), (RATE, 1.0), (300_000, 0.1)])
def test_clips_of_any_rate_are_seen_and_heard(rate: int, speed: float, tmp_path: Path) -> None:
    import io

    import soundfile
    from PIL import Image

    write_wav(tmp_path / "a.wav", tone(rate / 8, 0.5, rate), rate)
    clip = read_clip(tmp_path / "a.wav", 0.1, 0.3, context=0.05)
    assert clip.start == pytest.approx(0.05)
    assert clip.end == pytest.approx(0.35, abs=1e-3)
    picture = spectrogram(clip)
    shades = np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"), int)
    brightest = shades.sum(axis=1).argmax()  # row 0 is half the rate
    assert 1 - (brightest + 0.5) / len(shades) == pytest.approx(0.25, abs=0.06)
    assert picture.high_hz == rate / 2
    assert usual_speed(rate) == speed
    sound, played = soundfile.read(io.BytesIO(playable_wav(clip, speed)))
    assert 8000 <= played <= 48_000
    assert len(sound) / played == pytest.approx(0.3 / speed, rel=0.02)
    loudest = np.abs(np.fft.rfft(sound)).argmax() * played / len(sound)
    assert loudest == pytest.approx(rate / 8 * speed, rel=0.05)


def test_a_training_is_the_command_of_a_terminal_and_its_name_no_path(tmp_path: Path) -> None:
    request = TrainingRequest(
        "small", "owls", "", labels=str(tmp_path / "labels.csv"), overrides=("--config.training.max_steps=2",)
    )
    command = request.command(tmp_path / "runs")
    assert command[1:5] == ["-m", "beats_jax.train", "--config=small", f"--workdir={tmp_path / 'runs' / 'owls'}"]
    assert f"--config.data.metadata_file={tmp_path / 'labels.csv'}" in command
    for name in ("../x", "", "a b", "-x", "x" * 61, "a/b"):
        with pytest.raises(UserError):
            TrainingRequest("small", name, "")


def test_learning_curves_are_the_numbers_of_the_history(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.5, "timing": {"seconds": 1}}\n')
    assert learning_curves(tmp_path).values.tolist() == [[1, "train", "loss", 2.5]]
    with pytest.raises(UserError, match="does not exist"):
        learning_curves(tmp_path / "nowhere")
