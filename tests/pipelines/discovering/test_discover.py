"""The verb `discover`: two kinds of call in noise are found, told apart and written, whatever happens on the way."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from beats_jax.audio.filterbank import beats_filterbank
from beats_jax.audio.io import read, write_wav
from beats_jax.config.schema import FilterbankConfig
from beats_jax.datasets.tables.registry import read_events
from beats_jax.discover import discover_settings, main, parser
from beats_jax.inference.region_program import band_centres
from beats_jax.inference.search.embeddings import open_embeddings
from beats_jax.inference.store import Store
from beats_jax.pipelines.discovering import iterations
from beats_jax.pipelines.discovering.discover import _result_key
from beats_jax.pipelines.discovering.items import open_items
from beats_jax.pipelines.discovering.settings import DiscoverSettings

RATE = 16_000
TABLES = ("regions.csv", "clusters.csv", "hours.csv")


def recording(draw, seconds=6.0, rate=RATE, kinds=((1200.0, 0.25), (4500.0, 0.15)), every=0.75):
    """Noise with calls of alternating kinds (Hz, seconds), and (start, end, kind) of each."""
    sound = 0.003 * draw.standard_normal(round(seconds * rate))
    calls = []
    for number, start in enumerate(np.arange(0.4, seconds - 0.5, every)):
        hz, length = kinds[number % len(kinds)]
        time = np.arange(round(length * rate)) / rate
        tone = np.sin(2 * np.pi * hz * (time + draw.uniform(-0.1, 0.1) * time**2)) * np.hanning(len(time))
        first = round(start * rate)
        sound[first : first + len(time)] += 0.3 * tone
        calls.append((start, start + length, f"kind {number % len(kinds)}"))
    return sound.astype(np.float32), calls


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Four recordings of two sites and hours with seven calls each, one broken file, and the table of their labels."""
    folder = tmp_path_factory.mktemp("discover") / "recordings"
    draw, rows = np.random.default_rng(0), []
    folder.mkdir()
    for site, hour in (("SITE1", 5), ("SITE1", 6), ("SITE2", 5), ("SITE2", 21)):
        name = f"{site}_20260412_{hour:02d}3000.wav"
        sound, calls = recording(draw)
        write_wav(folder / name, sound, RATE)
        rows += [(name, *call) for call in calls]
    (folder / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    pd.DataFrame(rows, columns=["file", "start", "end", "label"]).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def found(recordings, tmp_path_factory):
    """The output of one run."""
    output = tmp_path_factory.mktemp("found") / "out"
    assert discover(recordings, output, "--labels", str(recordings / "labels.csv")) == 0
    return output


def discover(recordings, output, *arguments):
    """Exit status of the verb."""
    return main(["--input", str(recordings), "--output", str(output), "--members", "1", *arguments])


def test_both_kinds_are_clusters_of_their_own(found, recordings):
    table, clusters = (pd.read_csv(found / name) for name in ("regions.csv", "clusters.csv"))
    assert pd.crosstab(table.known_label, table.name).to_numpy().tolist() == [[16, 0], [0, 12]]
    truth = pd.read_csv(recordings / "labels.csv")
    np.testing.assert_allclose(table.start, truth.start, atol=0.1)
    np.testing.assert_allclose(sorted(clusters.low_hz), [1200, 4500], atol=500)
    assert (table.representative > 0).sum() == 6
    assert table[table.representative == 1].file.tolist() != []
    metrics = json.loads((found / "metrics.json").read_text())
    assert metrics["coverage"] == metrics["region_recall"] == metrics["region_precision"] == 1.0


def test_a_vector_is_what_stands_out_of_the_background_mostly_in_the_band(found):
    table = open_embeddings(found).to_pandas().iloc[[0, 5, 20]]
    centres = band_centres(FilterbankConfig())
    for row in table.itertuples():
        whole = np.asarray(beats_filterbank(read(row.file, sample_rate=RATE)[None])[0], np.float64)
        sound = read(row.file, sample_rate=RATE, start_seconds=row.start, seconds=row.end - row.start)
        fbank = np.asarray(beats_filterbank(sound[None])[0], np.float64)
        inside = (centres >= row.low_hz - 250) & (centres <= row.high_hz + 250)
        above = np.maximum(fbank - np.percentile(whole, 20, axis=0), 0) * np.where(inside, 1, 0.3)
        np.testing.assert_allclose(row.embedding, [*above.mean(0), *above.std(0)], atol=2e-3)
        assert inside[np.argmax(row.embedding[:128])]


def test_tables_clips_and_page_agree(found):
    table = pd.read_csv(found / "regions.csv")
    same = pd.read_parquet(found / "regions.parquet")
    pd.testing.assert_frame_equal(table.drop(columns="novelty"), same.drop(columns="novelty"), check_dtype=False)
    events = read_events(found / "detections.selections.txt")
    assert events.labels.tolist() == table.name.tolist()
    np.testing.assert_allclose(events.starts, table.start, atol=1e-6)
    assert len(list((found / "raven").iterdir())) == len(list((found / "audacity").iterdir())) == 4
    hours = pd.read_csv(found / "hours.csv")
    assert hours.groupby(["site", "hour"]).regions.sum().to_dict() == {
        ("SITE1", 5): 7, ("SITE1", 6): 7, ("SITE2", 5): 7, ("SITE2", 21): 7,
    }  # fmt: skip
    assert len(list((found / "clips").rglob("*.wav"))) == 6
    page = (found / "report.html").read_text()
    assert page.count("<audio") == 8  # three representatives and a member of each
    assert "broken.wav" in page
    assert page.count("data:image/jpeg") == 8


def test_the_same_call_does_nothing_and_new_recordings_are_added(recordings, found, tmp_path, capsys):
    before = (found / "report.html").stat().st_mtime_ns
    assert discover(recordings, found, "--labels", str(recordings / "labels.csv")) == 0
    assert "nothing is new" in capsys.readouterr().out
    assert (found / "report.html").stat().st_mtime_ns == before
    assert discover(recordings, found, "--labels", str(recordings / "labels.csv"), "--seed-db", "20") == 2
    assert "seed_db" in capsys.readouterr().err
    assert discover(recordings, found, "--margin", "0.1") == 2
    assert "margin was 0.0, now 0.1" in capsys.readouterr().err


def test_a_killed_job_ends_as_one_that_was_not(recordings, found, tmp_path, monkeypatch):
    append, taken = Store.append, []

    def stop(store, table, name, size):
        if len(taken) in (2, 5):  # once while regions are sought, once while they are embedded
            taken.append("stopped")
            raise OSError("the power went")
        taken.append(name)
        append(store, table, name, size)
        store.flush()

    output, labels = tmp_path / "out", ("--labels", str(recordings / "labels.csv"))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", stop)
        assert discover(recordings, output, *labels) == 1
        assert discover(recordings, output, *labels) == 1
    assert taken.count("stopped") == 2
    assert discover(recordings, output, *labels) == 0
    for name in TABLES:
        assert (output / name).read_bytes() == (found / name).read_bytes()


def test_other_clusters_are_made_from_what_is_there_unless_somebody_decided_on_them(recordings, tmp_path, capsys):
    output = tmp_path / "out"
    assert discover(recordings, output) == 0
    capsys.readouterr()
    assert discover(recordings, output, "--method", "kmeans", "--clusters", "4") == 0
    assert "5 recordings, 4 done already" in capsys.readouterr().out
    assert len(pd.read_csv(output / "clusters.csv")) == 4
    (output / "clusters.csv").write_text("mine")
    assert discover(recordings, output) == 2
    assert re.search("clusters.csv in .* changed since they were written", capsys.readouterr().err)
    (output / "clusters.csv").unlink()
    (output / "refinements.csv").write_text("action,cluster,value,regions,reviewer,time\nbegin,,h,,ana,t\n")
    assert discover(recordings, output) == 2
    assert "holds decisions on the clusters" in capsys.readouterr().err


def test_windows_of_embed_are_clustered_and_vectors_that_are_not_finite_are_listed(found, recordings, tmp_path, capsys):
    table = open_embeddings(found)
    rows = table.to_pandas()
    rows.at[3, "embedding"] = np.full(256, np.nan, np.float32)
    vectors = pa.array(np.stack(rows.embedding.to_list()).reshape(-1), pa.float32())
    schema = pa.schema(
        [*(field for field in table._schema if field.name != "embedding"), pa.field("embedding", pa.list_(pa.float32(), 256))]
    )
    identity = {**table.identity, "rows": "window"}
    with Store(tmp_path / "vectors" / "embeddings", identity, schema) as store:
        places = pa.Table.from_pandas(rows[schema.names[:-1]], preserve_index=False)
        column = pa.FixedSizeListArray.from_arrays(vectors, 256)
        store.append(places.append_column("embedding", column), "all")
    assert main(["--input", str(tmp_path / "vectors"), "--output", str(tmp_path / "out"), "--format"]) == 0
    assert "1 sounds have vectors that are not finite" in capsys.readouterr().out
    result = pd.read_csv(tmp_path / "out" / "regions.csv")
    assert result.cluster[3] == -1
    assert sorted(result.name.value_counts()) == [1, 11, 16]
    assert "not finite" in (tmp_path / "out" / "errors.csv").read_text()
    assert discover(recordings, tmp_path / "out") == 2
    assert "not of recordings" in capsys.readouterr().err


def test_novelty_tells_a_new_kind_from_known_ones(found, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    sound, _ = recording(np.random.default_rng(5), kinds=((1200.0, 0.25), (2500.0, 0.5)))
    write_wav(folder / "a.wav", sound, RATE)
    assert discover(folder, tmp_path / "out", "--reference", str(found), "--format") == 0
    table = pd.read_csv(tmp_path / "out" / "regions.csv")
    known = table.high_hz < 2000
    assert known.sum() == 4
    assert table.novelty[~known].min() >= 0.95
    assert table.novelty[known].median() < 0.95
    assert discover(folder, tmp_path / "wide", "--reference", str(found), "--margin", "0.2") == 2


def drawn(seed, seconds=6.0, rate=RATE, **options):
    """The sound of a recording."""
    return recording(np.random.default_rng(seed), seconds, rate, **options)[0], rate


BATS = drawn(4, 1.5, 300_000, kinds=((40e3, 0.008), (80e3, 0.008)), every=0.05)


@pytest.mark.parametrize(
    ("sounds", "arguments", "said"),
    [
        pytest.param(
            {"a.wav": (np.random.default_rng(0).normal(0, 0.01, 40_000), RATE)}, (), "No sound was found", id="no region"
        ),
        pytest.param({"a.wav": drawn(3, 3.0)}, ("--smallest", "50"), "None of 3 sounds", id="all noise"),
        pytest.param({"a.wav": drawn(1, kinds=((2000.0, 0.2),))}, (), "None of 7 sounds is in a cluster", id="one kind"),
        pytest.param({f"{k}.wav": drawn(2) for k in range(3)}, (), "21 of 21 sounds", id="identical", marks=pytest.mark.slow),
        pytest.param(
            {"a.wav": drawn(3, 3.0)},
            ("--method", "kmeans", "--clusters", "3"),
            "of 1 to 1",
            id="clusters of one",
            marks=pytest.mark.slow,
        ),
        pytest.param({"bat.wav": BATS}, (), "at 300000 Hz, frames of 1.33 ms", id="bats", marks=pytest.mark.slow),
    ],
)
def test_odd_collections_end_well(tmp_path, capsys, sounds, arguments, said):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (sound, rate) in sounds.items():
        write_wav(folder / name, np.asarray(sound, np.float32), rate)
    assert discover(folder, tmp_path / "out", "--format", *arguments) == 0
    assert said in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "regions.csv")
    assert list(table)[:10] == [
        *("file", "start", "end", "low_hz", "high_hz", "snr_db", "cluster", "membership", "representative", "novelty"),
    ]  # fmt: skip
    if "bat.wav" in sounds:
        assert table.groupby("name").low_hz.agg(lambda hz: (hz > 60_000).mean()).isin([0, 1]).all()
        assert len(table) == 12


def test_a_band_above_half_the_rate_and_bad_input_are_said(recordings, tmp_path, capsys):
    folder = tmp_path / "slow"
    folder.mkdir()
    write_wav(folder / "old.wav", recording(np.random.default_rng(0), 2.0, 8000)[0], 8000)
    assert discover(folder, tmp_path / "out", "--low-hz", "5000", "--high-hz", "7000") == 0
    assert "lower low_hz" in (tmp_path / "out" / "errors.csv").read_text()
    assert discover(folder, tmp_path / "strict", "--low-hz", "5000", "--strict") == 2
    capsys.readouterr()
    for arguments, message in {
        ("--input", "nowhere"): "--input nowhere does not exist",
        ("--group", "smalest=3"): "unknown setting --group.smalest; did you mean 'smallest'?",
        ("--region", "seed_db"): "--region seed_db has no value",
        ("--region", "min_seconds=short"): "regions.min_seconds is 'short' (str); it must be of type float",
        ("--region", "fft_samples=0.5"): "regions.fft_samples is 0.5 (float); it must be of type int",
        ("--region", "MASK_PARAM1=True"): "regions.seed_db is True (bool); it must be of type float",
        ("--column", "embedding"): "is of an output of embed",
        ("--method", "kmeans"): "needs grouping.clusters",
        ("--format", "rave"): "did you mean 'raven'?",
        ("--labels", "nowhere.csv"): "--labels nowhere.csv does not exist",
        ("--reference", str(tmp_path)): "holds no embeddings",
    }.items():
        assert discover(recordings, tmp_path / "bad", *arguments) == 2, arguments
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not (tmp_path / "bad").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert discover(recordings, tmp_path / "mine") == 2
    assert "is not empty and holds no discovery" in capsys.readouterr().err


@pytest.mark.slow
def test_iterations_learn_from_the_clusters_and_resume(recordings, tmp_path, monkeypatch, capsys):
    asked, sizes = [], []

    def learner(regions, settings):
        def learn(given):
            asked.append(given.iteration)
            sizes.append(np.bincount(given.labels[given.labels >= 0]).tolist())
            return "learnt"

        return learn

    def embedder(regions, settings):
        def embed(model):
            assert model == "learnt"
            lengths = (regions.ends - regions.starts)[:, None]
            return np.concatenate([10.0 * (lengths > 0.22), lengths, lengths**2], axis=1).astype(np.float32)

        return embed

    monkeypatch.setattr(iterations, "learner", learner)
    monkeypatch.setattr(iterations, "embedder", embedder)
    labels = ("--labels", str(recordings / "labels.csv"), "--format")
    assert discover(recordings, tmp_path / "out", "--iterations", "2", *labels) == 0
    assert "An encoder learnt from the clusters" in capsys.readouterr().out
    assert asked[0] == 0
    assert sizes[0] == [13, 10]  # the surest four fifths of 16 and 12
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["ami_before"] == 1.0
    (tmp_path / "out" / "clusters.csv").unlink()
    asked.clear()
    assert discover(recordings, tmp_path / "out", "--iterations", "2", *labels) == 0
    assert asked == []
    assert discover(recordings, tmp_path / "out", "--iterations", "2", "--smallest", "5", *labels) == 0
    assert asked[0] == 0, "other clusters are learnt anew, in a folder of their own"
    write_wav(recordings / "SITE3_20260412_053000.wav", recording(np.random.default_rng(9))[0], RATE)
    asked.clear()
    assert discover(recordings, tmp_path / "out", "--iterations", "2", *labels) == 0
    (recordings / "SITE3_20260412_053000.wav").unlink()
    assert asked[0] == 0, "and so are more sounds"


def test_other_sounds_are_never_the_same_result(found, recordings):
    """As many sounds as before at other times, or with other vectors (a recording was replaced), are new."""
    items = open_items(found)
    settings = DiscoverSettings(inputs=(str(recordings),))
    keys = [
        _result_key(settings, {}, one)["items_sha256"]
        for one in (
            items,
            open_items(found),
            replace(items, vectors=items.vectors + np.float32(1e-3)),
            replace(items, frame=items.frame.assign(start=items.frame.start + 0.01)),
            replace(items, recordings=items.recordings[1:]),
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    known = [_result_key(replace(settings, reference=str(one)), {}, items)["reference_sha256"] for one in (found, "")]
    assert known == [keys[0], ""]


def test_the_smallest_cluster_is_a_setting_under_both_names(recordings):
    for arguments, expected in (
        ((), 0),
        (("--smallest", "9"), 9),
        (("--group", "smallest=9"), 9),
        (("--group", "smallest=9", "--smallest", "7"), 7),
    ):
        given = parser().parse_args(["--input", str(recordings), "--output", "out", *arguments])
        assert discover_settings(given).smallest == expected, arguments
