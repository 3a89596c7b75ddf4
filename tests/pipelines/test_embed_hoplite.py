"""`embed --hoplite` and `embed --repair`: the database holds what the table holds."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import beats_jax
from beats_jax.audio.io import write_wav
from beats_jax.embed import main
from beats_jax.errors import UserError
from beats_jax.inference.hoplite.read import read_database
from beats_jax.inference.hoplite.table import HopliteEmbeddings
from beats_jax.pipelines.hoplite import _model

RATE = 16_000


@pytest.fixture
def recordings(tmp_path):
    """Three recordings at two sites."""
    rng = np.random.default_rng(0)
    for name, seconds in {"pond/20260412_053000": 1.0, "pond/b": 1.5, "wood/c": 2.2}.items():
        path = tmp_path / "field" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, 0.1 * rng.standard_normal(round(seconds * RATE)).astype(np.float32), RATE)
    return tmp_path / "field"


def embed(recordings, output, *arguments):
    """Exit status of the verb with windows of half a second."""
    return main(["--input", str(recordings), "--output", str(output), "--window", "0.5", *map(str, arguments)])


def require_equal(database, output):
    """Every row of the table stands in the database once, as float16."""
    table, found = pd.read_parquet(output / "embeddings"), read_database(database)
    columns = (table[name] for name in ("file", "start", "end", "embedding"))
    rows = {place: np.float16(vector) for *places, vector in zip(*columns, strict=True) for place in [tuple(places)]}
    places = list(zip(found.files, found.starts.tolist(), found.ends.tolist(), strict=True))
    assert sorted(places) == sorted(rows)
    np.testing.assert_array_equal(found.embeddings, np.stack([rows[place] for place in places]))


def test_the_database_is_brought_up_to_the_table_and_repaired_from_it(recordings, tmp_path, capsys):
    output, database = tmp_path / "out", tmp_path / "db"
    late = recordings / "wood" / "c.wav"
    late.rename(tmp_path / "c.wav")
    assert embed(recordings, output) == 0
    assert not database.exists()
    assert embed(recordings, output, "--hoplite", database) == 0
    assert "5 windows added, of 2 new recordings" in capsys.readouterr().out
    shutil.move(tmp_path / "c.wav", late)
    assert embed(recordings, output, "--hoplite", database) == 0
    assert "5 windows added, of 1 new recordings" in capsys.readouterr().out
    require_equal(database, output)
    (database / "usearch.index").unlink()
    assert embed(recordings, output, "--hoplite", database) == 2  # before anything is computed
    assert "--repair" in capsys.readouterr().err
    assert main(["--repair", str(database), "--output", str(output)]) == 0
    assert "10 vectors put in, 0 windows" in capsys.readouterr().out
    require_equal(database, output)


def test_a_database_is_searched_as_the_table_is(recordings, tmp_path):
    assert embed(recordings, tmp_path / "out", "--hoplite", tmp_path / "db") == 0
    table, database = beats_jax.open_embeddings(tmp_path / "out"), beats_jax.open_embeddings(tmp_path / "db")
    assert "filterbank" in repr(database)
    clip = f"{recordings / 'wood' / 'c.wav'}@0.5-1"
    wanted, found = (opened.search(clip, k=10) for opened in (table, database))
    places = ["file", "start", "end"]
    pd.testing.assert_frame_equal(found[places].iloc[:1], wanted[places].iloc[:1])
    both = found.merge(wanted, on=places)
    assert len(both) == len(database) == len(database.to_pandas()) == 10
    np.testing.assert_allclose(both.score_x, both.score_y, atol=1e-3)
    with pytest.raises(UserError, match="without --approximate"):
        database.search(clip, approximate=True)


def test_a_database_of_the_package_takes_vectors(tmp_path):
    golden = Path(__file__).parents[1] / "golden" / "hoplite"
    (tmp_path / "db").mkdir()
    for name in ("hoplite.sqlite", "usearch.index"):
        shutil.copy(golden / name, tmp_path / "db" / name)
    database = beats_jax.open_embeddings(tmp_path / "db")
    found = database.search(database.vectors()[4], k=2)
    assert found.file[0] == database.to_pandas().file[4]
    assert isinstance(database, HopliteEmbeddings)
    assert len(database.annotations) == 3
    write_wav(tmp_path / "clip.wav", np.zeros(RATE, np.float32), RATE)
    with pytest.raises(UserError, match="does not record from where its model"):
        database.search(tmp_path / "clip.wav")


def test_another_job_s_database_is_refused_before_anything_is_computed(recordings, tmp_path, capsys):
    database = tmp_path / "db"
    assert embed(recordings, tmp_path / "out", "--hoplite", database) == 0
    assert embed(recordings, tmp_path / "other", "--hoplite", database, "--window", "1") == 2
    assert "grid.window_seconds was 0.5, now 1.0" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_of_several_embeddings_one_is_chosen_by_name(tmp_path, capsys):
    identity = {
        "columns": {"embedding_3_mean": 4, "embedding_3_std": 4, "logits": 2},
        "audio": {"filterbank": {"sample_rate": 24_000}},
        "grid": {},
        "keep": "float32",
    }
    with pytest.raises(UserError, match=r"give --hoplite-column with one of embedding_3_mean, embedding_3_std$"):
        _model(identity, None, ["owl", "wren"])
    with pytest.raises(UserError, match="--hoplite-column logits is not in the output"):
        _model(identity, "logits", ["owl", "wren"])
    name, model = _model(identity, "embedding_3_std", ["owl", "wren"])
    assert (name, model.dimension, model.sample_rate, model.labels) == ("embedding_3_std", 4, 24_000, ["owl", "wren"])
    assert model.config["model_config"] == {"audio": identity["audio"], "grid": {}, "column": "embedding_3_std", "logits": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "out"], "--input and --output are needed"),
        (["--input", "a.wav", "--output", "out", "--hoplite-column", "embedding"], "no use without --hoplite"),
        (["--input", "a.wav", "--repair", "db"], "--repair goes without --input"),
        (["--repair", "nowhere"], "nowhere is no Perch-Hoplite database"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(Path().iterdir()) in ([], [Path(".nowhere.lock")])
