"""Mutated files for every reader: read right, or our own error; never above 2 s of CPU or 1 GiB more memory.

`pytest -m mutations -n 0 [--mutations 2000]` prints a line a reader. Not in the default run: it takes many minutes.
Deterministic: mutation k of a reader is drawn from (its name, k), so a failure is found again whatever the number of mutations.
"""

import faulthandler
import resource
import shutil
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from audio_cases import sweep, write_pyav
from flax.traverse_util import flatten_dict

from beats_jax.audio.io import AudioError, audio_info, read
from beats_jax.config import DataConfig, Experiment, to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.datasets.sources import load_manifest
from beats_jax.errors import UserError
from beats_jax.evaluation.metrics.operating_point import choose_operating_point
from beats_jax.evaluation.predictions import build_predictions, write_predictions
from beats_jax.parallel.mesh import make_mesh, state_shardings
from beats_jax.pipelines.measuring.compare import compare_runs
from beats_jax.pipelines.measuring.evaluate import read_labels
from beats_jax.pipelines.measuring.measure import read_operating_point, write_operating_point
from beats_jax.pipelines.measuring.write import read_history
from beats_jax.pipelines.training.workdir import EXPERIMENT_FILE, read_experiment, write_json
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.weights.hashed import read_arrays, write_arrays
from beats_jax.weights.pretrained import read_checkpoint

sys.path.append(str(Path(__file__).parent / "weights"))
import test_mutated_files as weights_files

pytestmark = [pytest.mark.mutations, pytest.mark.filterwarnings("ignore")]
CPU_SECONDS, MEBIBYTES = 2.0, 1024
NAMES = ("crow", "owl", "wren")


# Each reader: a function from an empty folder to (names of the files to mutate, a function that reads them, checks what it reads,
# and raises `UserError` or `AudioError`).


def of_weights(make):
    def prepare(folder):
        path, names = make(folder)
        whole = make not in (weights_files.torch_directory, weights_files.torch_compressed, weights_files.torch_legacy)
        expected = flatten_dict(read_checkpoint(path).params, sep="/") if whole else None

        def read_it():
            found = flatten_dict(read_checkpoint(path).params, sep="/")
            if make in weights_files.CHECKED:  # the others have no checksums
                assert expected is not None
                assert all(np.array_equal(found[key], value) for key, value in expected.items()), "other weights"

        return names, read_it

    return prepare


def of_audio(suffix, codec):
    def prepare(folder):
        path, rate = folder / f"clip{suffix}", 24_000  # one that OPUS has
        if codec.islower():
            write_pyav(path, sweep(1.0, rate), rate, codec)
        else:
            soundfile.write(path, sweep(1.0, rate), rate, subtype=codec, format="OGG" if suffix == ".opus" else None)

        def read_it():
            info = audio_info(path)
            waveform = np.asarray(read(path, sample_rate=16_000))
            assert waveform.ndim == 1, "not mono"
            assert np.isfinite(waveform).all(), "NaN or infinite samples"
            assert len(waveform) < 60 * 16_000, f"{len(waveform) / 16_000:.0f} s of a second ({info})"

        return [path.name], read_it

    return prepare


def labels_table(folder):
    (folder / "clips").mkdir()
    for number in range(6):
        (folder / "clips" / f"{number}.wav").touch()
    rows = [f"clips/{i}.wav,{i / 2},{i / 2 + 1},{NAMES[i % 3]},{('train', 'test')[i % 2]},site {i % 2}\n" for i in range(6)]
    (folder / "labels.csv").write_text("filename,start,end,label,split,group\n" + "".join(rows))
    config = DataConfig(source="csv", metadata_file=str(folder / "labels.csv"))
    return ["labels.csv"], lambda: load_manifest(config, workdir=folder)


def checkpoint(folder):
    """The newest of two; what comes back is the state of the newest or of the one before, bit for bit."""

    def state(seed):
        return {"w": np.random.default_rng(seed).normal(size=(16, 32)).astype(np.float32), "step": np.int32(seed)}

    like = jax.tree.map(jax.device_put, state(0), state_shardings(make_mesh(), state(0)))
    with Checkpoints(folder / "run") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), position={"next_step": step}, record={"progress": {"best": step / 3}})
    shutil.copytree(folder / "run", folder / "whole")

    def read_it():
        try:
            with Checkpoints(folder / "run", say=lambda line: None) as checkpoints:
                found = checkpoints.restore_latest(like)
            assert found is not None, "the checkpoints are gone"
            assert found.position == {"next_step": found.step}, "another position"
            assert found.record["progress"] == {"best": found.step / 3}, "another record"
            for name, value in state(found.step).items():
                assert np.asarray(found.state[name]).tobytes() == np.asarray(value).tobytes(), "another state"
            if found.step != 2:
                raise UserError("passed over")
        finally:  # a torn one is renamed
            shutil.rmtree(folder / "run")
            shutil.copytree(folder / "whole", folder / "run")

    return [str(path.relative_to(folder)) for path in (folder / "run" / "2").rglob("*") if path.is_file()], read_it


def cached_arrays(folder):
    arrays = {"values": np.random.default_rng(0).normal(size=(2, 1, 5, 8)).astype(np.float32), "rows": np.arange(5)}
    write_arrays(folder / "cache.safetensors", arrays, {"texts": '{"errors": []}'})

    def read_it():
        found, texts = read_arrays(folder / "cache.safetensors")
        assert texts == {"texts": '{"errors": []}'}, "other texts"
        assert all(found[name].tobytes() == array.tobytes() for name, array in arrays.items()), "other values"

    return ["cache.safetensors"], read_it


def experiment_file(folder):
    write_json(folder / EXPERIMENT_FILE, to_mapping(Experiment()))
    return [EXPERIMENT_FILE], lambda: read_experiment(folder)


def labels_file(folder):
    (folder / "labels.json").write_text(LabelVocabulary(NAMES).to_json())
    return ["labels.json"], lambda: read_labels(folder)


def operating_point(folder):
    labels, chances = np.arange(30) % 3, np.random.default_rng(0).dirichlet(np.ones(3), 30)
    config = Experiment().evaluation
    write_operating_point(folder, choose_operating_point(labels, chances, NAMES, multi_label=False, config=config))

    def read_it():
        point = read_operating_point(folder, LabelVocabulary(NAMES))
        assert point is not None
        assert 0.01 <= point.temperature <= 100, "another temperature"
        assert len(point.thresholds) == 3, "another number of thresholds"

    return ["operating_point.json"], read_it


def history(folder):
    rows = [f'{{"step": {i}, "split": "{("train", "validation")[i % 2]}", "loss": {1 / i}}}\n' for i in range(1, 8)]
    (folder / "history.jsonl").write_text("".join(rows))
    return ["history.jsonl"], lambda: read_history(folder)


def error_list(folder):
    log = ErrorLog(folder / "errors.csv")
    for name in ("a.wav", "b, ü.wav", "=c.wav"):
        log.add(name, 'it is "empty"')
    return ["errors.csv"], lambda: ErrorLog(folder / "errors.csv").rows()


def compared_runs(folder):
    labels = np.arange(12) % 3
    for seed, name in enumerate(("one", "two")):
        (folder / name).mkdir()
        chances = np.random.default_rng(seed).dirichlet(np.ones(3), 12)
        columns = [f"{i}.wav" for i in range(12)], np.zeros(12), np.ones(12), [NAMES[i] for i in labels], chances
        write_predictions(folder / name / "predictions.csv", build_predictions(*columns, NAMES, multi_label=False, threshold=0.5))
        (folder / name / "recordings.csv").write_text("recording\n" + "".join(f"{i // 2}\n" for i in range(12)))
        (folder / name / EXPERIMENT_FILE).write_text('{"evaluation": {"bootstrap_resamples": 50}}')

    def read_it():
        shutil.rmtree(folder / "out", ignore_errors=True)
        compare_runs(folder / "one", folder / "two", folder / "out", page="md")

    return [f"one/{name}" for name in ("predictions.csv", "recordings.csv", EXPERIMENT_FILE)], read_it


READERS = {
    **{f"weights {make.__name__}": of_weights(make) for make in weights_files.KINDS},
    **{f"audio {kind} {codec}": of_audio(kind, codec) for kind, codec in (
        (".wav", "PCM_16"), (".wav", "PCM_24"), (".wav", "FLOAT"), (".wav", "ULAW"), (".aiff", "PCM_16"), (".flac", "PCM_16"),
        (".ogg", "VORBIS"), (".opus", "OPUS"), (".mp3", "MPEG_LAYER_III"), (".m4a", "aac"), (".m4a", "alac"), (".aac", "aac"),
        (".wma", "wmav2"),
    )},
    "labels.csv": labels_table, "checkpoint": checkpoint, "cached arrays": cached_arrays, "experiment.json": experiment_file,
    "labels.json": labels_file, "operating_point.json": operating_point, "history.jsonl": history, "errors.csv": error_list,
    "compared runs": compared_runs,
}  # fmt: skip
FEWER = {"checkpoint": 200, "cached arrays": 200, "compared runs": 200}  # slow ones


def outcome(read_it):
    """What became of a mutated file: read, refused, or what is wrong."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    faulthandler.dump_traceback_later(120, exit=True, file=sys.__stderr__)  # a hang in C heeds nothing else
    try:
        read_it()
        found = "read"
    except (UserError, AudioError) as error:
        found = "refused" if "\n" not in str(error) and len(str(error)) < 8000 else f"a long message: {str(error)[:200]!r}"
    except AssertionError as error:
        found = f"accepted wrongly: {error}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure of the reader
        found = f"{type(error).__name__}: {str(error)[:120]}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds, grown = time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if seconds > CPU_SECONDS or grown > MEBIBYTES:
        return f"{seconds:.1f} s, {grown:.0f} MiB", seconds, grown
    return found, seconds, grown


@pytest.mark.parametrize("reader", READERS)
def test_a_mutated_file_is_read_right_or_refused(tmp_path, reader, request, capsys):
    names, read_it = READERS[reader](tmp_path)
    whole = {name: (tmp_path / name).read_bytes() for name in names}
    parts = reader.removeprefix("weights ") in ("torch_directory", "torch_compressed", "torch_legacy")  # of a model: refused
    assert outcome(read_it)[0] == ("refused" if parts else "read")
    count = min(request.config.getoption("--mutations"), FEWER.get(reader, 10**9))
    found, slowest, largest, failures = Counter(), 0.0, 0.0, []
    for number in range(count):
        draw = np.random.default_rng([zlib.crc32(reader.encode()), number])
        name = names[int(draw.integers(len(names)))]
        data = weights_files.mutated(whole[name], draw, name.endswith((".json", ".jsonl", ".csv", ".yaml")))
        (tmp_path / name).write_bytes(data)
        result, seconds, grown = outcome(read_it)
        slowest, largest = max(slowest, seconds), max(largest, grown)
        found[result if result in ("read", "refused") else "failed"] += 1
        failures += [] if result in ("read", "refused") else [f"mutation {number} of {name}: {result}"]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(whole[name])
    with capsys.disabled():
        print(f"\n{reader:24} {count:5} mutated: {found['read']:5} read right, {found['refused']:5} refused, "
              f"{found['failed']:3} failed; at most {slowest:.2f} s CPU, {largest:.0f} MiB more")  # fmt: skip
    assert not failures, "\n".join(failures[:20])
