"""Opens a database of `embed --hoplite` with the package perch-hoplite itself, and compares it with the table it was made from.

In an environment of its own, as the package wants older versions of others:

    pip install --no-deps perch-hoplite==1.0.2
    pip install "absl-py<2" "etils[epath]" "ml_collections<0.2" "pandas<3" audioread huggingface_hub kagglehub librosa
    pip install pyarrow soundfile tqdm usearch
    python benchmarks/hoplite_check.py DB [OUTPUT] [--skip | --killed]
    python benchmarks/hoplite_check.py --kills 50 --python PYTHON_WITH_BEATS_JAX

The second form kills a writer (tests/hoplite_writer.py) at random moments and opens what is left each time.
Prints a line a comparison and ends with an error where one fails. `--skip` runs the package's own EmbedWorker over the
recordings, with a model that gives zeros: it must find nothing to embed (recordings of whole windows, in folders of one depth).
`--killed` ends that between the two writes of the package's commit, where new recordings are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from perch_hoplite.db import sqlite_usearch_impl


def open_database(path: Path) -> sqlite_usearch_impl.SQLiteUSearchDB:
    """As a user of the package opens it, with every window and its vector read; KeyError where one has none."""
    database = sqlite_usearch_impl.SQLiteUSearchDB.create(str(path))
    ids = database.match_window_ids()
    assert database.count_embeddings() == len(ids), f"{database.count_embeddings()} vectors, {len(ids)} windows"
    if len(ids):
        database.get_embeddings_batch(ids)
    return database


def compare(database: sqlite_usearch_impl.SQLiteUSearchDB, output: Path, column: str) -> None:
    """Every row of the table against the window of the same file and time."""
    table = pd.read_parquet(output / "embeddings")
    bases = {glob["dataset_name"]: glob["base_path"] for glob in database.get_metadata("audio_sources").audio_globs}
    deployments = {deployment.id: deployment for deployment in database.get_all_deployments()}
    files = {
        recording.id: os.path.join(bases[deployments[recording.deployment_id].project], recording.filename)
        for recording in database.get_all_recordings()
    }
    windows = {(files[window.recording_id], *window.offsets): window.id for window in database.get_all_windows()}
    rows = [(os.path.abspath(row.file), row.start, row.end) for row in table.itertuples()]
    assert len(rows) == len(windows) == len(set(rows)), f"{len(rows)} rows, {len(windows)} windows"
    ids = [windows[row] for row in rows]
    stored, wanted = database.get_embeddings_batch(ids), np.stack(table[column]).astype(np.float16)
    assert stored.dtype == np.float16
    print(f"windows {len(ids)}, embeddings equal to float16 of the table: {(stored == wanted).mean():.0%}")
    assert (stored == wanted).all()
    if np.ptp(np.linalg.norm(stored.astype(np.float32), axis=1)) > 0.01:
        return  # by inner product a longer vector may come before the vector itself
    some = np.random.default_rng(0).permutation(len(ids))[:200]
    for approximate in (False, True):
        firsts = [next(iter(database.search(stored[row], 1, approximate=approximate))).window_id for row in some]
        same = [first == ids[row] for first, row in zip(firsts, some, strict=True)]
        print(f"the first that search(approximate={approximate}) gives for {len(some)} vectors is itself: {np.mean(same):.0%}")
        assert all(same)


def run_skip(path: Path, *, killed: bool = False) -> None:
    """The package's EmbedWorker with `handle_duplicates="skip"` over the audio sources of the database.

    With `killed`, the process ends between the two writes of the package's commit, and this prints what it left.
    """
    from perch_hoplite.agile import embed, source_info

    database = sqlite_usearch_impl.SQLiteUSearchDB.create(str(path))
    if killed:
        database.ui.save = lambda *_: os._exit(0)

    def counts() -> dict[str, int]:
        return {"windows": len(database.match_window_ids()), "vectors": database.count_embeddings()}

    before = counts()
    config = embed.ModelConfig(**database.get_metadata("model_config"))
    sources = source_info.AudioSources.from_config_dict(database.get_metadata("audio_sources"))
    grid = config.model_config["grid"]
    window, hop = grid["window_seconds"], grid["hop_seconds"] or grid["window_seconds"]
    rate = sources.audio_globs[0].target_sample_rate_hz

    def zeros(audio: np.ndarray) -> SimpleNamespace:
        frames = int((len(audio) / rate - window) // hop) + 1
        return SimpleNamespace(embeddings=np.zeros((frames, 1, config.embedding_dim), np.float32), logits=None)

    model = SimpleNamespace(sample_rate=rate, window_size_s=window, hop_size_s=hop, embed=zeros)
    worker = embed.EmbedWorker(sources, config, database, embedding_model=model)
    worker.update_configs()
    worker.add_deployments(handle_duplicates="skip")
    new = worker.add_recordings(handle_duplicates="skip")
    worker.embed_dataset(handle_duplicates="skip", new_recordings=new)
    print(f"before the package's skip {before}, after it {counts()}")


def contents(path: Path) -> dict[tuple, bytes]:
    """Vectors by recording and time; an error where a window has none."""
    database = open_database(path)
    names = {recording.id: recording.filename for recording in database.get_all_recordings()}
    windows = database.get_all_windows()
    vectors = database.get_embeddings_batch([window.id for window in windows])
    database.db.close()
    return {
        (names[window.recording_id], *window.offsets): vector.tobytes() for window, vector in zip(windows, vectors, strict=True)
    }


def run_kills(kills: int, python: str) -> None:
    """Random SIGKILLs of a writer that goes on where the killed one was, and begins anew when it is done."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    draw, states = np.random.default_rng(), Counter()
    with tempfile.TemporaryDirectory() as place:

        def writer(folder: str) -> subprocess.Popen:
            command = [python, str(root / "tests" / "hoplite_writer.py"), "write", f"{place}/{folder}"]
            os.makedirs(f"{place}/{folder}", exist_ok=True)
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

        begun = time.monotonic()
        assert writer("whole").wait() == 0
        seconds, whole = time.monotonic() - begun, contents(Path(place) / "whole" / "db")
        database = Path(place) / "killed" / "db"
        for _ in range(kills):
            process = writer("killed")
            assert process.stdout is not None
            process.stdout.readline()  # it has loaded, and writes now
            time.sleep(draw.uniform(0, 0.8 * seconds))
            process.kill()
            process.wait()
            found = contents(database) if database.exists() else {}
            assert found.items() <= whole.items()
            states[len(found)] += 1
            if found == whole:
                shutil.rmtree(database)
        assert writer("killed").wait() == 0
        assert contents(database) == whole
    print(f"{kills} kills; windows found, each with its vector: {dict(sorted(states.items()))}")
    print("the last run equals an uninterrupted one")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, nargs="?")
    parser.add_argument("output", type=Path, nargs="?")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--python", help="with beats_jax, for the writer")
    parser.add_argument("--column", default="embedding")
    parser.add_argument("--skip", action="store_true")
    parser.add_argument("--killed", action="store_true")
    arguments = parser.parse_args()
    if arguments.kills:
        run_kills(arguments.kills, arguments.python)
        sys.exit()
    if arguments.output is not None:
        compare(open_database(arguments.database), arguments.output, arguments.column)
    if arguments.skip or arguments.killed:
        run_skip(arguments.database, killed=arguments.killed)
