"""Perch-Hoplite databases: against one that the package made, through every kill, and damaged ones."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import hoplite_writer
import numpy as np
import pytest
from filelock import FileLock
from hoplite_writer import MODEL, contents, recording, update
from usearch.index import Index

from beats_jax import files
from beats_jax.errors import UserError
from beats_jax.inference.hoplite import write
from beats_jax.inference.hoplite.read import read_database
from beats_jax.inference.hoplite.write import check_database, repair_database, update_database

GOLDEN = Path(__file__).parents[1] / "golden" / "hoplite"


@pytest.fixture
def golden(tmp_path):
    """A copy of a database that perch-hoplite 1.0.2 made, and what it put in."""
    for name in ("hoplite.sqlite", "usearch.index"):
        (tmp_path / "made").mkdir(exist_ok=True)
        shutil.copy(GOLDEN / name, tmp_path / "made" / name)
    return tmp_path / "made", json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def database(tmp_path):
    """Ours, of two recordings."""
    update(tmp_path, 0, 1)
    return tmp_path / "db"


def sql(database, statement):
    """All rows of a statement."""
    with closing(sqlite3.connect(database / "hoplite.sqlite")) as connection, connection:
        return connection.execute(statement).fetchall()


def test_a_database_of_the_package_is_read_value_for_value(golden):
    path, expected = golden
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    found = read_database(path)
    rows = [
        [file, start, end, *vector]
        for file, start, end, vector in zip(
            found.files, found.starts.tolist(), found.ends.tolist(), found.embeddings.tolist(), strict=True
        )
    ]
    assert rows == [row[1:] for row in expected["windows"]]
    assert [list(note) for note in found.annotations] == expected["annotations"]
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.name in before} == before


def test_ours_has_the_tables_of_the_package(golden, database):
    theirs, ours = ({} for _ in range(2))
    for path, found in ((golden[0], theirs), (database, ours)):
        for (table,) in sql(path, "SELECT name FROM sqlite_master WHERE type = 'table'"):
            columns = sql(path, f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')")
            indexes = sql(path, f"SELECT name, \"unique\", origin FROM pragma_index_list('{table}')")
            keys = sql(path, f'SELECT "table", "from", "to", on_delete FROM pragma_foreign_key_list(\'{table}\')')
            extra = {"serial", "temperature_c", "site", "latitude", "longitude"} if table == "recordings" else set()
            found[table] = ([column for column in columns if column[0] not in extra], sorted(indexes), keys)
        found["config"] = json.loads(sql(path, "SELECT value FROM hoplite_metadata WHERE key = 'usearch_config'")[0][0])
        found["config"].pop("embedding_dim")
        found["journal"] = sql(path, "PRAGMA journal_mode")
    assert ours == theirs


def test_the_windows_that_a_killed_commit_of_the_package_left_are_removed(golden):
    path, expected = golden
    shutil.copy(GOLDEN / "killed.index", path / "usearch.index")
    lost = len(expected["windows"]) - expected["first"]
    with pytest.raises(UserError, match=f"{lost} windows without a vector.*--repair"):
        read_database(path)
    found, done, kept = repair_database(path)
    assert f"{lost} windows without a vector" in found
    assert f"0 vectors put in, {lost} windows" in done
    assert read_database(path).files == [row[1] for row in expected["windows"][: expected["first"]]]
    assert len(read_database(path).annotations) == len(expected["annotations"])
    assert len(sql(Path(kept.removeprefix("as it was: ")), "SELECT id FROM windows")) == len(expected["windows"])
    assert repair_database(path) == [f"{path} is whole: {expected['first']} windows, each with its vector"]


def test_an_update_adds_what_is_new_and_doubles_nothing(tmp_path, database):
    sql(database, "INSERT INTO annotations VALUES (1, 2, x'000000000000f03f0000000000000040', 'owl', 1, 'me')")
    (database / "notes.csv").write_text("mine")
    before = contents(database)
    rows = [recording(number) for number in (1, 0, 2, 2)]
    assert update_database(database, MODEL, rows, []) == (1, 40)
    assert update_database(database, MODEL, rows, []) == (0, 0)
    found = read_database(database)
    wanted = np.concatenate([recording(number).vectors for number in (0, 1, 2)]).astype(np.float16)
    np.testing.assert_array_equal(found.embeddings, wanted)
    assert before.items() < contents(database).items()
    assert found.annotations == [("/recordings/site 1/1.wav", 1.0, 2.0, "owl", "positive", "me")]
    assert (database / "notes.csv").read_text() == "mine"
    assert sql(database, "SELECT name, project, latitude, longitude FROM deployments ORDER BY name") == [
        ("site 0", "recordings", 47.5, 8.25),
        ("site 1", "recordings", 47.5, 9.25),
    ]
    assert sql(database, "SELECT filename, datetime, temperature_c FROM recordings WHERE id = 3") == [
        ("site 0/2.wav", "2026-04-12T05:02:00+02:00", 18.5)
    ]
    index = Index.restore(database / "usearch.index", view=True)
    assert index is not None
    assert [index.search(vector, 1).keys[0] for vector in wanted[::10]] == list(range(1, 121, 10))


def test_a_long_update_is_written_in_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "WINDOWS_PER_STEP", 80)

    def rows():
        yield from map(recording, range(4))
        assert len(Index.restore(tmp_path / "db" / "usearch.index") or ()) == 160  # on disk, whatever comes next
        yield recording(4)

    assert update_database(tmp_path / "db", MODEL, rows(), []) == (5, 200)
    assert len(contents(tmp_path / "db")) == 200


WAITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=20)
print("waits", flush=True)
try:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO deployments (name, project) VALUES ('late', 'late')")
    connection.commit()
    print("wrote")
except sqlite3.DatabaseError as error:
    print(error)
"""


def test_a_program_that_waits_for_the_old_database_gets_an_error_and_spoils_nothing(tmp_path, database):
    waiters = []

    def rows():
        command = [sys.executable, "-c", WAITER, database / "hoplite.sqlite"]
        waiters.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        waiters[0].stdout.readline()
        time.sleep(0.3)
        yield recording(2)

    update_database(database, MODEL, rows(), [])
    assert waiters[0].communicate()[0] == "file is not a database\n"
    assert {file.name for file in database.iterdir()} == {"hoplite.sqlite", "usearch.index"}
    assert len(contents(database)) == 120
    assert sql(database, "SELECT id FROM deployments WHERE name = 'late'") == []


def test_a_link_to_a_database_stays_one(tmp_path, database):
    (tmp_path / "link").symlink_to(database)
    update_database(tmp_path / "link", MODEL, [recording(2)], [])
    assert (tmp_path / "link").is_symlink()
    assert len(contents(database)) == 120


def test_logits_stand_beside_their_windows(tmp_path):
    logits = np.arange(80, dtype=np.float32).reshape(40, 2) / 3
    part = recording(0)._replace(logits=logits)
    model = replace(MODEL, labels=("owl", "wren"))
    update_database(tmp_path / "db", model, [part], [])
    found = [np.frombuffer(blob) for (blob,) in sql(tmp_path / "db", "SELECT logits FROM windows ORDER BY id")]
    np.testing.assert_array_equal(found, logits)
    kept = sql(tmp_path / "db", "SELECT value FROM hoplite_metadata WHERE key = 'logits'")
    assert json.loads(kept[0][0]) == {"labels": ["owl", "wren"]}
    assert ("logits", "FLOAT_LIST") in sql(tmp_path / "db", "SELECT name, type FROM pragma_table_info('windows')")


def test_an_update_killed_at_every_step_leaves_the_old_or_the_new_database(tmp_path):
    command = [sys.executable, hoplite_writer.__file__, "steps", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.replace("'", '"'))
    assert found["old"] > 20
    assert found["new"] > 2


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_writer_killed_at_random_moments_loses_and_doubles_nothing(tmp_path, kills):
    whole = {}
    for number in range(hoplite_writer.RECORDINGS):
        part = recording(number)
        vectors = part.vectors.astype(np.float16).astype(np.float32)
        whole |= {(part.file, *times): vector.tobytes() for times, vector in zip(part.offsets.tolist(), vectors, strict=True)}
    command = [sys.executable, hoplite_writer.__file__, "write", str(tmp_path)]
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.5))
            process.kill()
        found = contents(tmp_path / "db")
        assert found.items() <= whole.items()
        if found == whole:
            shutil.rmtree(tmp_path / "db")
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert contents(tmp_path / "db") == whole


def test_what_a_writer_killed_inside_sqlite_left_half_done_is_taken_back(tmp_path, database):
    """SQLite's own journal beside the database: as after a kill in the middle of one of its writes."""
    whole, left = contents(database), tmp_path / "left"
    with closing(sqlite3.connect(database / "hoplite.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_size = 1")  # pages reach the file before the end of the transaction
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("CREATE TABLE half_done AS SELECT offsets, randomblob(4000) AS filler FROM windows")
        connection.execute("DELETE FROM windows")
        shutil.copytree(database, left)
    assert (left / "hoplite.sqlite-journal").stat().st_size > 512
    assert contents(left) == whole


def test_without_an_exchange_of_names_the_next_call_puts_the_old_folder_back(tmp_path, database, monkeypatch):
    monkeypatch.setattr(files, "_exchange_names", lambda new, path: False)
    update(tmp_path, 0, 1, 2)
    assert len(contents(database)) == 120
    rename = files.os.rename
    monkeypatch.setattr(files.os, "rename", lambda old, new: (rename(old, new), sys.exit("killed")))
    with pytest.raises(SystemExit):
        update(tmp_path, 0, 1, 2, 3)
    monkeypatch.undo()
    assert not database.exists()
    with pytest.raises(UserError, match=r"stopped between two renames.*--repair"):
        read_database(database)
    assert repair_database(database)[0] == f"{database} is put back, a write was stopped between two renames"
    assert len(contents(database)) == 120


def damage_index(database, change):
    """Rewrites the index by a function of its vectors by key."""
    old = Index.restore(database / "usearch.index")
    assert old is not None
    vectors = change({int(key): old.get(int(key)) for key in np.asarray(old.keys[:])})
    new = Index(ndim=len(next(iter(vectors.values()))), metric="ip", dtype="f16")
    for key, vector in vectors.items():
        new.add(key, vector)
    new.save(database / "usearch.index")


def cut(file, size):
    """Leaves the first bytes of a file."""
    file.write_bytes(file.read_bytes()[:size])


REPAIRED = {
    "absent index": (lambda at: (at / "usearch.index").unlink(), "usearch.index is missing, 80 windows", 0, 80),
    "torn index": (lambda at: cut(at / "usearch.index", 3000), "usearch.index is torn", 0, 80),
    "windows alone": (lambda at: damage_index(at, lambda old: {k: old[k] for k in old if k > 9}), "9 windows without", 71, 80),
    "vectors alone": (lambda at: sql(at, "DELETE FROM windows WHERE id < 6"), "5 vectors without a window", 75, 75),
    "NaN": (lambda at: damage_index(at, lambda old: old | {7: old[7] * np.nan}), "1 windows whose vectors are", 79, 80),
    "doubled": (
        lambda at: (
            sql(at, "INSERT INTO windows SELECT 81, recording_id, offsets FROM windows WHERE id = 5"),
            damage_index(at, lambda old: old | {81: old[5]}),
        ),
        "1 windows twice",
        80,
        80,
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_not_whole_is_refused_and_repaired(database, name):
    damage, message, left, restored = REPAIRED[name]
    whole = contents(database)
    damage(database)
    for reading in (read_database, lambda path: check_database(path, MODEL)):
        with pytest.raises(UserError, match=f"{message}.*--repair") as error:
            reading(database)
        assert "\n" not in str(error.value)
    broken = database.with_name("again")
    shutil.copytree(database, broken)
    repair_database(database)
    assert contents(database).items() <= whole.items()
    assert len(contents(database)) == left
    lines = repair_database(broken, MODEL, [recording(0), recording(1)])
    assert message in lines[0]
    assert len(contents(broken)) == restored
    update_database(broken, MODEL, [recording(0), recording(1)], [])
    assert contents(broken) == whole


def replace_metadata(database, key, value):
    sql(database, f"UPDATE hoplite_metadata SET value = '{json.dumps(value)}' WHERE key = '{key}'")


REFUSED = {
    "no SQLite": (lambda at: (at / "hoplite.sqlite").write_bytes(b"RIFF" * 3000), "damaged or no database"),
    "half of SQLite": (lambda at: cut(at / "hoplite.sqlite", 30_000), "damaged"),
    "no tables": (lambda at: sql(at, "DROP TABLE windows"), "another version.*no table windows"),
    "another schema": (lambda at: sql(at, "ALTER TABLE windows RENAME offsets TO offset"), "another version.*lacks offsets"),
    "another dimension": (lambda at: damage_index(at, lambda old: {k: v[:8] for k, v in old.items()}), "8 F16.*says 16 F16"),
    "no config": (lambda at: sql(at, "DELETE FROM hoplite_metadata WHERE key = 'usearch_config'"), "lacks usearch_config"),
    "odd offsets": (lambda at: sql(at, "UPDATE windows SET offsets = x'00' WHERE id = 3"), "offsets of window 3"),
    "no file": (lambda at: (at / "hoplite.sqlite").unlink(), "hoplite.sqlite is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_repaired_is_refused_in_one_line_and_left_alone(database, name):
    REFUSED[name][0](database)
    before = {file.name: file.read_bytes() for file in database.iterdir() if not file.name.endswith(("-shm", "-wal"))}
    for task in (read_database, repair_database, lambda path: update_database(path, MODEL, [recording(3)], [])):
        with pytest.raises(UserError, match=REFUSED[name][1]) as error:
            task(database)
        assert "\n" not in str(error.value)
    assert {name: (database / name).read_bytes() for name in before} == before


def test_another_model_and_vectors_that_float16_cannot_hold_are_refused(tmp_path, database, golden):
    other = hoplite_writer.Model(16, {**MODEL.config, "model_config": {"model": "another"}}, 16_000)
    with pytest.raises(UserError, match=r"another model .model_config.model was a test, now another"):
        update_database(database, other, [recording(2)], [])
    with pytest.raises(UserError, match="names no model"):
        check_database(golden[0], MODEL)
    large = recording(2)._replace(vectors=np.full((40, 16), 1e6, np.float32))
    with pytest.raises(UserError, match=r"2\.wav is not finite in float16"):
        update_database(database, MODEL, [large], [])
    assert len(contents(database)) == 80
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".db.lock", ".made.lock", "db", "made"]


def test_an_index_that_a_full_disk_cut_in_silence_is_not_taken(tmp_path, database, monkeypatch):
    save = Index.save
    monkeypatch.setattr(Index, "save", lambda index, path: (save(index, path), cut(path, 3000)))
    with pytest.raises(UserError, match=r"cannot take usearch\.index .*make room"):
        update(tmp_path, 0, 1, 2)
    assert len(contents(database)) == 80
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".db.lock", "db"]


def test_two_writers_and_a_database_that_is_open_elsewhere_are_refused(database):
    with FileLock(database.with_name(".db.lock")), pytest.raises(UserError, match="written by another process"):
        check_database(database, MODEL)
    with closing(sqlite3.connect(database / "hoplite.sqlite")) as connection:
        connection.execute("SELECT * FROM windows").fetchone()  # idle after that, as the package is
        with pytest.raises(UserError, match="in use by another program"):
            check_database(database, MODEL)
    check_database(database, MODEL)
