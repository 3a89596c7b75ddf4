"""The trainer is a door on the same rooms: what it returns is what the run's files hold."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import beats_jax
from beats_jax import BEATsFeatureExtractor, BEATsTrainer
from beats_jax.api.trainer import list_of_files
from beats_jax.config import BEATsConfig, DataConfig, TrainingConfig, experiment_from_mapping
from beats_jax.datasets.sources import load_manifest
from beats_jax.errors import UserError

SHORT = TrainingConfig(learning_rate=1e-3, max_epochs=1, batch_size=8)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(class_folders, tiny_model, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        trainer = BEATsTrainer.from_directory(class_folders, SHORT, model_path=tiny_model, workdir="run")
        trainer.workdir = trainer.workdir.absolute()
        return trainer, trainer.train()


@pytest.mark.slow
def test_results_are_those_of_the_run(trained, class_folders):
    trainer, results = trained
    metrics = json.loads((trainer.workdir / "metrics.json").read_text())
    assert {name: results[name] for name in metrics} == metrics
    assert "<h1>" in Path(results["report"]).read_text(encoding="utf-8")
    assert trainer.experiment.data.window_seconds == 0.5  # as long as the longest clip
    assert trainer.experiment.data.batch_size == 8
    again = BEATsTrainer(trainer.experiment.data, SHORT, model_path=trainer.experiment.model.checkpoint, workdir=trainer.workdir)
    assert again.train() == results  # a finished run is read


@pytest.mark.slow
def test_features_and_predictions_are_the_exported_models(trained, class_folders):
    trainer, results = trained
    files = sorted(class_folders.rglob("*.wav"))[8:12]
    expected = BEATsFeatureExtractor(results["model"]).extract_from_files(files)
    np.testing.assert_array_equal(trainer.extract_features(files), expected)
    found = trainer.predict([*files, "nowhere.wav"])
    model = beats_jax.load(results["model"])
    assert list(found.columns) == ["file", "prediction", "p:harmonic", "p:trill", "error"]
    assert found["error"].tolist() == ["", "", "", "", "no such file"]
    probabilities = found[[f"p:{name}" for name in model.labels]].to_numpy()
    waveforms = np.stack([beats_jax.audio.io.read(path, sample_rate=16_000) for path in files])
    np.testing.assert_allclose(probabilities[:4], model.predict(waveforms), atol=1e-5)
    assert np.isnan(probabilities[4]).all()
    assert found["prediction"].tolist() == [*(model.labels[i] for i in probabilities[:4].argmax(1)), ""]


def test_the_same_settings_find_their_run(class_folders, tiny_model):
    one = BEATsTrainer.from_directory(class_folders, SHORT, model_path=tiny_model)
    other = BEATsTrainer.from_directory(class_folders, TrainingConfig(max_epochs=2), model_path=tiny_model)
    assert one.workdir == BEATsTrainer.from_directory(class_folders, SHORT, model_path=tiny_model).workdir != other.workdir


def test_a_table_and_a_frame_are_the_same_experiment_but_for_the_place(table, class_folders, tiny_model):
    from_csv = BEATsTrainer.from_csv(table, model_path=tiny_model).experiment.data
    frame = pd.read_csv(table).assign(group=lambda rows: rows.index // 2)
    from_frame = BEATsTrainer.from_dataframe(frame, data_dir=table.parent, model_path=tiny_model).experiment.data
    assert (from_csv.source, from_csv.label_column) == (from_frame.source, from_frame.label_column) == ("csv", "category")
    assert (from_csv.group_column, from_frame.group_column) == ("", "")  # found when the table is read
    assert pd.read_csv(from_frame.metadata_file).equals(frame)
    assert from_csv.window_seconds == from_frame.window_seconds == 0.5


def test_names_of_the_library_that_this_one_follows(table):
    data = DataConfig(data_dir=str(table.parent), metadata_file="dataset.csv", label_column="category", sample_rate=16_000)
    experiment = BEATsTrainer(data, TrainingConfig(batch_size=3, patience=2), model_config=BEATsConfig()).experiment
    assert (experiment.data.root, experiment.data.metadata_file) == (str(table.parent), str(table))
    assert (experiment.data.batch_size, experiment.training.patience) == (3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["probe", "lora"])
def test_a_mode_leaves_the_encoder_or_changes_it_a_little(class_folders, tiny_model, mode):
    config = TrainingConfig(mode=mode, max_steps=2, learning_rate=1e-3, batch_size=8)
    results = BEATsTrainer.from_directory(class_folders, config, model_path=tiny_model).train()
    before, after = beats_jax.load(tiny_model).params, beats_jax.load(results["model"]).params
    assert set(after) == {*before, "predictor"}
    same = {name: np.array_equal(before["encoder"]["layers_0"]["self_attn"][name]["kernel"],
                                 after["encoder"]["layers_0"]["self_attn"][name]["kernel"])
            for name in ("q_proj", "k_proj", "v_proj", "out_proj")}  # fmt: skip
    assert same == {name: mode == "probe" or name in ("k_proj", "out_proj") for name in same}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda table: BEATsTrainer.from_dataframe(pd.read_csv(table), label_column="categroy"), "did you mean 'category'"),
        (lambda table: BEATsTrainer.from_dataframe(pd.read_csv(table)[:0]), "no rows"),
        (
            lambda table: BEATsTrainer.from_dataframe(pd.read_csv(table).replace("trill", None)),
            "10 rows .* no label, first row 10",
        ),
        (lambda table: BEATsTrainer(DataConfig(sample_rate=44_100), model_config=BEATsConfig()), "16000 Hz that the model reads"),
        (lambda table: BEATsTrainer(DataConfig(root="a"), model_config=BEATsConfig()).predict(["a.wav"]), "call train"),
        (lambda table: TrainingConfig(mode="lroa"), "allowed: full, probe, lora"),
        (lambda table: DataConfig(root="a", data_dir="b"), "give one of them"),
    ],
)
def test_mistakes_are_told(table, call, message):
    with pytest.raises(UserError, match=message):
        call(table)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("a.wav", ["a.wav"]),
        (Path("a.wav"), [Path("a.wav")]),
        (("a.wav", Path("b")), ["a.wav", Path("b")]),
        (np.array(["a", "b"]), ["a", "b"]),
        (pd.Series(["a", "b"], index=[4, 4]), ["a", "b"]),
        ((name for name in "ab"), ["a", "b"]),
    ],
)
def test_one_file_or_several(given, names):
    assert list_of_files(given) == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "files are given as NoneType"),
        (3, "files are given as int"),
        (b"a.wav", "files are given as bytes"),
        ({"a.wav": 1}, "files are given as dict"),
        (pd.DataFrame({"file": ["a.wav"]}), "files are given as DataFrame"),
        ([], "the list of files is empty"),
        (np.zeros(3), "file 0 of the ndarray is of type float64; give file names: .*; Model.predict takes waveforms"),
        (np.zeros((2, 3)), "of type ndarray; give file names"),
        ([np.zeros(3)], "file 0 of the list is of type ndarray"),
        (["a.wav", None], "file 1 of the list is of type NoneType"),
        (["a.wav", float("nan")], "file 1 of the list is of type float"),
        (["a.wav", b"b.wav"], "file 1 of the list is of type bytes"),
        ([""], "which is no file name"),
        (["a\0.wav"], "which is no file name"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "extract_features"])
def test_what_is_no_file_is_refused_by_name(given, message, method):
    trainer = BEATsTrainer(DataConfig(root="a"), model_config=BEATsConfig())
    with pytest.raises(UserError, match=message):
        getattr(trainer, method)(given)


def test_settings_of_columns_are_not_overruled_by_defaults(table):
    text = table.read_text()
    table.write_text(text.replace("category", "species"))
    data = DataConfig(label_column="species", group_column="none")
    for trainer in (
        BEATsTrainer.from_csv(table, data_config=data, model_config=BEATsConfig()),
        BEATsTrainer.from_dataframe(pd.read_csv(table), data_config=data, model_config=BEATsConfig()),
    ):
        assert (trainer.experiment.data.label_column, trainer.experiment.data.group_column) == ("species", "none")
    table.write_text(text)


def test_a_frame_whose_labels_are_formulas_comes_back(table, class_folders):
    frame = pd.read_csv(table).replace("trill", "=trill()")
    data = BEATsTrainer.from_dataframe(frame, data_dir=table.parent, model_config=BEATsConfig()).experiment.data
    assert "'=trill()" in Path(data.metadata_file).read_text()
    assert set(load_manifest(data, workdir=Path()).labels.counts()) == {"=trill()", "harmonic"}


def test_settings_from_json_know_the_new_names():
    found = experiment_from_mapping({"training": {"batch_size": 5}, "data": {"batch_size": 9}})
    assert (found.data.batch_size, found.training.batch_size) == (5, 0)
