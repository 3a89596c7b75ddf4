"""`open_embeddings` and the verb `search`: a planted sound is found at its place, and nothing wrong is searched in silence."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flax.traverse_util import unflatten_dict
from tiny_beats import TINY_BEATS

import beats_jax
from beats_jax.audio.io import read, write_wav
from beats_jax.config import AudioConfig
from beats_jax.datasets.tables.registry import read_events
from beats_jax.embed import main as embed
from beats_jax.errors import UserError
from beats_jax.inference.search.query import parse_clip
from beats_jax.inference.store import FINISHED
from beats_jax.pipelines.search import clip_names
from beats_jax.search import main
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle, save_bundle

RATE = 16_000
FILTERBANK = ("--model", "filterbank", "--window", "0.5")


def noise(seconds, seed):
    """Noise through a band of its own, so that recordings differ."""
    draw = np.random.default_rng(seed)
    sound = np.convolve(draw.standard_normal((round(seconds * RATE),)), draw.standard_normal((9,)), "same")
    return (0.02 * sound * (1 + np.sin(np.arange(len(sound)) / draw.uniform(300, 3000)))).astype(np.float32)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Four recordings and what `embed` wrote of them; tests that change it copy it first."""
    root = tmp_path_factory.mktemp("night")
    (root / "recordings").mkdir()
    for seed, name in enumerate(("20260412_053000", "b@2-3", "c", "=d")):
        write_wav(root / "recordings" / f"{name}.wav", noise(3, seed), RATE)
    assert embed(["--input", str(root / "recordings"), "--output", str(root / "owls"), *FILTERBANK]) == 0
    return root


@pytest.fixture
def copied(night, tmp_path):
    """A copy of the embeddings."""
    shutil.copytree(night / "owls", tmp_path / "owls")
    return tmp_path / "owls"


@pytest.fixture(scope="module")
def save_tiny(tmp_path_factory):
    """Writes a random BEATs of a seed."""

    def save(seed):
        draw, config = np.random.default_rng(seed), replace(TINY_BEATS, predictor_class=2)
        params = {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(config).items()}
        bundle = Bundle(unflatten_dict(params, sep="/"), config, AudioConfig(), ("owl", "wren"), True, "a test")
        return save_bundle(tmp_path_factory.mktemp("tiny") / "model", bundle)

    return save


def write_noise(path, seconds, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, noise(seconds, seed), RATE)


def search(folder, *arguments):
    return main(["--embeddings", str(folder), *map(str, arguments)])


def test_what_is_opened_says_what_it_is(night):
    table = beats_jax.open_embeddings(night / "owls")
    assert "24 windows of 0.5 s" in repr(table)
    assert "embedding [256]" in repr(table)
    assert "filterbank" in repr(table)
    assert len(table) == 24
    assert table.columns == {"embedding": 256}
    assert table.labels == ()
    frame = table.to_pandas()
    pd.testing.assert_frame_equal(frame, pd.read_parquet(night / "owls" / "embeddings"))
    np.testing.assert_array_equal(table.vectors(), np.stack(frame.embedding))
    assert len(beats_jax.open_embeddings(night / "owls" / "embeddings")) == 24


def test_a_clip_cut_from_a_recording_finds_its_place_first(night, tmp_path):
    table = beats_jax.open_embeddings(night / "owls")
    source = night / "recordings" / "c.wav"
    sound = read(source, sample_rate=RATE, start_seconds=1.5, seconds=0.5)
    write_wav(tmp_path / "cut.wav", sound, RATE)
    for clip in (tmp_path / "cut.wav", f"{source}@1.5-2", sound, table.vectors()[21].astype(np.float64)):
        best = table.search(clip, k=3).iloc[0]
        assert (Path(best.file).name, best.start, best.end) == ("c.wav", 1.5, 2.0)
        assert best.score == pytest.approx(1, abs=1e-5)
    resampled = table.search(np.repeat(sound, 2).astype(np.float32), k=1, sample_rate=2 * RATE).iloc[0]
    assert (Path(resampled.file).name, resampled.start) == ("c.wav", 1.5)


def test_scores_are_those_of_numpy_with_several_examples_and_counter_examples(night):
    table = beats_jax.open_embeddings(night / "owls").load()
    vectors = table.vectors().astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = (unit @ unit[[3, 9]].T).max(axis=1) - unit @ unit[20]
    found = table.search([vectors[3], vectors[9]], k=100, unlike=[vectors[20]])
    order = np.argsort(-expected)
    np.testing.assert_allclose(found.score, expected[order], atol=2e-6)
    frame = table.to_pandas()
    assert list(zip(found.file, found.start, strict=True)) == [(frame.file[row], frame.start[row]) for row in order]
    assert found.like.iloc[0] in ("vector 1", "vector 2")
    assert len(found) == 24


def test_a_long_clip_gives_its_windows_and_a_short_one_is_padded_as_embed_does(night, tmp_path):
    table = beats_jax.open_embeddings(night / "owls")
    source = night / "recordings" / "c.wav"
    found = table.examples(f"{source}@0-1.2")
    assert [name.rpartition("@")[2] for name in found.names] == ["0-0.5", "0.5-1", "0.7-1.2"]
    write_noise(tmp_path / "short" / "s.wav", 0.3, 9)
    assert embed(["--input", str(tmp_path / "short"), "--output", str(tmp_path / "out"), *FILTERBANK]) == 0
    kept = beats_jax.open_embeddings(tmp_path / "out").vectors()
    np.testing.assert_allclose(table.examples(tmp_path / "short" / "s.wav").vectors, kept, rtol=1e-5, atol=1e-5)


def test_names_with_an_at_sign(night):
    named = str(night / "recordings" / "b@2-3")
    assert parse_clip(f"{named}.wav")[0] == f"{named}.wav"
    assert parse_clip(f"{named}.wav@0.5-1") == (f"{named}.wav", 0.5, 1)
    assert parse_clip(named) == (str(night / "recordings" / "b"), 2, 3)  # no file has this name, so it is a stretch
    with pytest.raises(UserError, match="from 3 to 2 s"):
        parse_clip("a.wav@3-2")


def test_results_apart_and_without_the_examples(night):
    table = beats_jax.open_embeddings(night / "owls")
    clip = f"{night / 'recordings' / 'c.wav'}@0.5-1"
    found = table.search(clip, k=8, apart=1.0, leave_out_examples=True)
    assert len(found) == 8
    for _, of_file in found.groupby("file"):
        assert np.diff(np.sort(of_file.start)).min(initial=9) >= 1.0
    assert not ((found.file.str.endswith("c.wav")) & (found.start == 0.5)).any()
    everything = table.search(clip, k=100, apart=1.0)
    best, kept = table.search(clip, k=24), []
    for file, start in zip(best.file, best.start, strict=True):
        if all(file != other or abs(start - near) >= 1 for other, near in kept):
            kept.append((file, start))
    assert list(zip(everything.file, everything.start, strict=True)) == kept


def test_rows_that_are_added_are_found(copied, tmp_path):
    before = beats_jax.open_embeddings(copied)
    write_noise(tmp_path / "more" / "new.wav", 1, 77)
    assert embed(["--input", str(tmp_path / "more"), "--output", str(copied), *FILTERBANK]) == 0
    assert len(before.search(tmp_path / "more" / "new.wav", k=99)) == 24  # as it was opened
    best = beats_jax.open_embeddings(copied).search(tmp_path / "more" / "new.wav@0-0.5").iloc[0]
    assert best.file == str(tmp_path / "more" / "new.wav")


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_an_index_finds_the_same_and_is_built_anew_when_the_parts_change(copied, tmp_path, metric):
    table = beats_jax.open_embeddings(copied)
    clip = table.vectors()[7]
    exact = table.search([clip], k=10, metric=metric)
    for _ in range(2):
        pd.testing.assert_frame_equal(table.search([clip], k=10, metric=metric, approximate=True), exact)
    (index,) = copied.glob("embeddings/*.usearch")
    index.write_bytes(index.read_bytes()[:-100])  # cut off by a full disk: built anew
    pd.testing.assert_frame_equal(table.search([clip], k=10, metric=metric, approximate=True), exact)
    write_noise(tmp_path / "more" / "new.wav", 1, 77)
    assert embed(["--input", str(tmp_path / "more"), "--output", str(copied), *FILTERBANK]) == 0
    assert len(pd.read_parquet(copied / "embeddings")) == 26
    found = beats_jax.open_embeddings(copied).search([clip], k=99, metric=metric, approximate=True)
    assert len(found) == 26
    assert len(list(copied.glob("embeddings/*.usearch"))) == 1


@pytest.mark.slow
def test_several_layers_and_the_model_that_is_recorded(save_tiny, night, tmp_path, capsys):
    model, other = save_tiny(0), save_tiny(1)
    moved = tmp_path / "moved"
    arguments = ["--window", "0.5", "--layer", "1", "-1", "--pooling", "mean", "max", "--logits", "--keep", "float16"]
    shutil.copytree(model, tmp_path / "model")
    inputs = ["--input", str(night / "recordings" / "c.wav"), "--output", str(tmp_path / "owls")]
    assert embed([*inputs, "--model", str(tmp_path / "model"), *arguments]) == 0
    table = beats_jax.open_embeddings(tmp_path / "owls")
    assert table.labels == ("owl", "wren")
    assert next(iter(table.columns)) == "embedding_1_mean"
    assert "logits" not in table.columns
    clip = f"{night / 'recordings' / 'c.wav'}@1-1.5"
    with pytest.raises(UserError, match="name one of embedding_1_mean"):
        table.search(clip)
    for column in table.columns:
        best = table.search(clip, column=column, metric="euclidean").iloc[0]
        assert best.start == 1.0, column
        assert best.score > -0.05, column
    (tmp_path / "model").rename(moved)
    column = ("--column", "embedding_1_max")
    assert search(tmp_path / "owls", "--like", clip, *column) == 2
    assert "--model gives its new place" in capsys.readouterr().err
    assert search(tmp_path / "owls", "--like", clip, *column, "--model", other) == 2
    assert "is not the model of" in (message := capsys.readouterr().err)
    assert "params_sha256 was" in message
    assert search(tmp_path / "owls", "--like", clip, *column, "--model", "filterbank") == 2
    assert search(tmp_path / "owls", "--like", clip, *column, "--model", moved) == 0


def test_a_table_of_whole_recordings_takes_vectors_only(save_tiny, night, tmp_path):
    model = beats_jax.load(save_tiny(0))
    frame = model.embed_files(night / "recordings", output=tmp_path / "whole")
    table = beats_jax.open_embeddings(tmp_path / "whole")
    assert table.search(frame.embedding[2], k=1).file.tolist() == [frame.file[2]]
    with pytest.raises(UserError, match="a vector for each whole recording"):
        table.search(night / "recordings" / "c.wav")


def change_part(folder, change, name="part-000-000000.parquet"):
    """Rewrites a part with `change` of its table, and the footer as it was."""
    path = folder / "embeddings" / name
    table = pq.read_table(path)
    metadata = table.schema.metadata
    pq.write_table(change(table).replace_schema_metadata(metadata), path)


def test_rows_without_finite_vectors_are_said(copied, night, capsys):
    def spoil(table):
        vectors = np.stack(table["embedding"].to_numpy())
        vectors[4, 7] = np.nan
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 256)
        return table.set_column(table.schema.get_field_index("embedding"), "embedding", column)

    change_part(copied, spoil)
    clip = f"{night / 'recordings' / 'c.wav'}@1-1.5"
    with pytest.warns(UserWarning, match="1 rows of .* have no usable vector"):
        found = beats_jax.open_embeddings(copied).search(clip)
    assert len(found) == 23
    assert found.attrs["unusable"] == 1
    assert search(copied, "--like", clip) == 0
    assert "warning: 1 windows have no usable vector" in capsys.readouterr().out


def cut(path):
    path.write_bytes(path.read_bytes()[:-500])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x55
    path.write_bytes(bytes(data))


def widen(path):
    table = pq.read_table(path)
    narrow = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * len(table), np.float32)), 4)
    narrow = table.set_column(table.schema.get_field_index("embedding"), "embedding", narrow)
    pq.write_table(narrow, path.with_name("part-001-000000.parquet"))


def adopt(path):
    table = pq.read_table(path)
    foreign = {FINISHED: b"[]", b"beats_jax.job": b"another"}
    pq.write_table(table.replace_schema_metadata(foreign), path.with_name("part-001-000000.parquet"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut, "is damaged"), (flip, "is damaged"), (widen, "has other columns"), (adopt, "is of another job")],
)
def test_parts_that_are_damaged_or_foreign_are_refused(copied, night, capsys, damage, message):
    damage(copied / "embeddings" / "part-000-000000.parquet")
    assert search(copied, "--like", night / "recordings" / "c.wav") == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert message in captured
    assert "part-00" in captured


def test_a_record_of_another_job_is_refused(copied):
    record = json.loads((copied / "embed.json").read_text())
    (copied / "embed.json").write_text(json.dumps({**record, "grid": {**record["grid"], "window_seconds": 2.0}}))
    with pytest.raises(UserError, match="describes another job"):
        beats_jax.open_embeddings(copied)


def test_tables_and_clips(night, tmp_path, capsys):
    found, clips = tmp_path / "found", tmp_path / "clips"
    lost = night / "recordings" / "b@2-3.wav"
    saved = lost.read_bytes()
    lost.unlink()
    try:
        clip = f"{night / 'recordings' / '=d.wav'}@1-1.5"
        arguments = ("--like", clip, "--top", 24, "--label", "owl", "--clips", clips, "--context", 0.25)
        assert search(night / "owls", *arguments, "--output", found, "--format", "csv", "raven") == 0
    finally:
        lost.write_bytes(saved)
    shown = capsys.readouterr().out
    assert "(overlaps an example)" in shown
    assert "... and 14 more" in shown
    frame = pd.read_csv(found / "matches.csv")
    assert list(frame.columns[:6]) == ["file", "start", "end", "label", "score", "like"]
    assert "recorded_at" in frame
    assert frame.recorded_at.str.startswith("2026-04-12T05:30").sum() == 6
    events = read_events(found / "matches.csv")
    assert len(events) == 24
    assert set(events.labels.tolist()) == {"owl"}
    assert events.scores[0] == pytest.approx(1, abs=1e-5)
    assert len(read_events(next(found.rglob("c.selections.txt")))) == 6
    names = sorted(path.name for path in clips.glob("*.wav"))
    assert len(names) == 18
    assert names[-1].endswith("__d_1.0_1.5.wav")
    assert len(read(clips / names[-1], sample_rate=RATE)) == RATE
    errors = pd.read_csv(clips / "errors.csv")
    assert errors.file.tolist() == [str(lost)]
    assert search(night / "owls", "--like", clip, "--output", found) == 2
    assert search(night / "owls", "--like", clip, "--clips", clips) == 2


def test_hostile_names_of_clips():
    files = ["/a/..", "/a/x;rm -rf ~.wav", "/b/x;rm -rf ~.wav", "C:\\n\\ö$(id).wav", "/c/" + "y" * 250 + ".wav", "/d/.wav"]
    names = clip_names([1.0] * 6, files, [0.0] * 6, [5.0] * 6)
    assert len({name.casefold() for name in names}) == 6
    assert all(len(name.encode()) < 200 and not set(name) & set("/\\;$~ ()\n") for name in names)
    assert names[1] == "1.00000_x_rm_-rf__0.0_5.0.wav"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--like", "nothing.wav"], "nothing.wav: no such file"),
        (["--like", "{c}@5-2"], "from 5 to 2 s"),
        (["--like", "{c}@1-9"], "ends at 3 s, before 9 s"),
        (["--like", "{c}", "--top", "0"], "--top is 0"),
        (["--like", "{c}", "--apart", "-1"], "--apart is -1"),
        (["--like", "{c}", "--metric", "cosin"], "did you mean 'cosine'"),
        (["--like", "{c}", "--column", "embeding"], "no column 'embeding'"),
        (["--like", "{c}", "--format", "rave"], "no kind of table 'rave'"),
        (["--like", "{c}", "--format", "raven"], "--format has no use without --output"),
        (["--like", "{c}", "--label", "owl"], "--label has no use without --output"),
        (["--like", "{c}", "--context", "1"], "--context has no use without --clips"),
        (["--like", "{c}", "--format", "raven", "--output", "x.csv"], "--format needs a folder"),
        (["--like", "{c}", "--label", " "], "--label is blank"),
    ],
)
def test_mistakes_are_one_line(night, capsys, arguments, message):
    assert search(night / "owls", *(text.replace("{c}", str(night / "recordings" / "c.wav")) for text in arguments)) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert message in captured


def test_folders_without_rows(night, tmp_path, capsys):
    clip = night / "recordings" / "c.wav"
    for folder, message in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no embeddings")):
        assert search(folder, "--like", clip) == 2
        assert message in capsys.readouterr().err
    shutil.copytree(night / "owls", tmp_path / "begun")
    os.unlink(tmp_path / "begun" / "embeddings" / "part-000-000000.parquet")  # as it is before the first minute has passed
    assert "0 windows" in repr(beats_jax.open_embeddings(tmp_path / "begun"))
    assert len(beats_jax.open_embeddings(tmp_path / "begun").to_pandas()) == 0
    assert search(tmp_path / "begun", "--like", clip) == 2
    assert "holds no rows yet" in capsys.readouterr().err
