"""One recording, one model: the same numbers by every door, whatever the file is like."""

import json

import numpy as np
import pytest
import soundfile

import beats_jax
from beats_jax import BEATsFeatureExtractor
from beats_jax.audio.io import write_wav
from beats_jax.config import DataConfig, experiment_from_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.validation import validate
from beats_jax.evaluation.predictions import read_predictions
from beats_jax.inference.files import file_vectors
from beats_jax.pipelines.measuring.evaluate import evaluate_run
from beats_jax.pipelines.measuring.prediction import predict_files
from beats_jax.pipelines.probing.cache import embed_manifest
from beats_jax.pipelines.probing.encoders import model_encoder
from beats_jax.pipelines.training.experiment import run_experiment

pytestmark = pytest.mark.slow  # whole runs

RATE, WINDOW, TOLERANCE = 16_000, 1.0, 1e-5
SECONDS = (0.4, 1.0, 1.02, 1.48, 1.52, 2.6, 3.0, 4.8, 1.8, 6.6, 1.2, 2.48)
POOLINGS = ("mean", "max", "std", "first", "last")


def _sound(rng: np.random.Generator, seconds: float, rate: int, pitch: float) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.2 * np.sin(2 * np.pi * pitch * time) + 0.05 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Twelve recordings to measure: short, long, with silent ends, of other rates, one with a NaN; two classes."""
    root, rng = tmp_path_factory.mktemp("doors"), np.random.default_rng(0)
    rows = []
    for number in range(24):
        label, seconds = (
            ("owl", "wren")[number % 2],
            SECONDS[number % 12],
        )
        rate = [RATE, 44_100, 8_000][number % 3]
        sound = _sound(rng, seconds, rate, 600.0 if label == "owl" else 2200.0)
        if number % 4 == 1:
            sound = np.concatenate([np.zeros(rate // 3, np.float32), sound, np.zeros(rate // 5, np.float32)])
        path = root / f"{number:02d}.wav"
        write_wav(path, sound, rate)
        rows.append((path, label, "test" if number >= 12 else ("train", "val")[number // 2 % 2]))
    broken, rate = soundfile.read(rows[19][0], dtype="float32")
    broken[-100] = np.nan
    soundfile.write(rows[19][0], broken, rate, subtype="FLOAT")
    lines = ["filename,label,split", *(f"{path.name},{label},{split}" for path, label, split in rows)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root, [str(path) for path, _, split in rows if split == "test"]


@pytest.fixture(scope="module", params=[0.0, -60.0], ids=["whole", "trimmed"])
def run(request, recordings, tmp_path_factory, tiny_settings):
    """A finished run, whose own evaluation is the first door."""
    root, _ = recordings
    workdir = tmp_path_factory.mktemp("run") / "run"
    data = {
        "source": "csv", "metadata_file": str(root / "labels.csv"), "root": str(root), "split_column": "split",
        "window_seconds": WINDOW, "num_workers": 1, "trim_below_dbfs": request.param,
    }  # fmt: skip
    experiment = experiment_from_mapping(
        tiny_settings(data=data, training={"max_steps": 12}, evaluation={"bootstrap_resamples": 20})
    )
    assert run_experiment(experiment, workdir, strict=False, command="a test") == 0
    return workdir, experiment


def _by_file(path) -> dict[str, np.ndarray]:
    table = read_predictions(path)
    return dict(zip(table.files, table.probabilities, strict=True))


def test_probabilities_are_the_same_by_every_door(run, recordings, tmp_path):
    workdir, experiment = run
    _, files = recordings
    own = _by_file(workdir / "predictions.csv")
    assert len(own) == 11
    broken = (set(files) - set(own)).pop()
    doors = {"training": own}
    evaluate_run(workdir, None, tmp_path / "out", strict=False, command="a test")
    doors["evaluate"] = _by_file(tmp_path / "out" / "predictions.csv")
    model = beats_jax.load(workdir)
    table = predict_files(model, files, experiment.data)
    doors["BEATsTrainer.predict"] = {row.file: np.array(row[3:-1]) for row in table.itertuples()}
    table = model.predict_files(files)
    doors["Model.predict_files"] = dict(zip(table.file, table[list(model.labels)].to_numpy(), strict=True))
    for door, found in doors.items():
        largest = max(float(np.abs(found[file] - own[file]).max()) for file in own)
        print(f"{door}: largest difference {largest:.1e}")
        assert largest <= TOLERANCE, door
        assert np.isnan(found.get(broken, np.full(2, np.nan))).all(), door
    assert "NaN" in (workdir / "errors.csv").read_text()
    assert len(json.loads((workdir / "metrics.json").read_text())) > 10
    if not experiment.data.trim_below_dbfs:
        top = dict(model.top(files[0], 2))
        np.testing.assert_allclose([top[name] for name in model.labels], own[files[0]], atol=TOLERANCE)


@pytest.fixture(scope="module")
def cached(run, recordings, tmp_path_factory):
    """The model of the run, and for each pooling the vectors that probes keep, by file."""
    files, place = recordings[1], tmp_path_factory.mktemp("cached")
    model, data = beats_jax.load(run[0]), DataConfig(window_seconds=WINDOW, batch_size=5)
    manifest = Manifest.from_columns(files, [["owl", "wren"][i % 2 : i % 2 + 1] for i in range(len(files))])
    validate(manifest, data, model.audio)
    kept = embed_manifest(model_encoder(model, POOLINGS), manifest, data, ErrorLog(place / "errors.csv"), place / "cache")
    vectors = {name: kept.values[1, number] for number, name in enumerate(POOLINGS)}
    return model, {name: dict(zip(kept.manifest.files.tolist(), values, strict=True)) for name, values in vectors.items()}


@pytest.mark.parametrize("pooling", ["std", "last"])  # tests/api/test_extractor.py has the others
@pytest.mark.parametrize("run", [0.0], indirect=True, ids=["whole"])
def test_embeddings_are_the_same_by_every_door(run, cached, recordings, pooling):
    (model, vectors), (_, files) = cached, recordings
    own = vectors[pooling]
    extractor = BEATsFeatureExtractor(model, pooling, layer=1, window_seconds=WINDOW, on_error="nan")
    doors = {"extractor": dict(zip(files, extractor.extract_from_files(files), strict=True))}
    table = model.embed_files(files, pooling=pooling, layer=1)
    doors["Model.embed_files"] = dict(zip(table.file, table.embedding, strict=True))
    alone = {file: file_vectors(model, [file], pooling=pooling, layer=1, grid=model.grid(WINDOW))[0].value for file in own}
    doors["one file alone"] = alone
    for door, found in doors.items():
        largest = max(float(np.abs(found[file] - own[file]).max()) for file in own)
        print(f"{door}, {pooling}: largest difference {largest:.1e}")
        assert largest <= TOLERANCE, door
    assert len(own) == 11
