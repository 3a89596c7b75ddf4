"""Every snippet of the README of the library that this door follows (seed 002), with only the import name changed.

The network is replaced: the default checkpoint is a tiny BEATs. Paths of the snippets are made to exist, with clips in all five
formats that the README names. Each training takes two steps; those that differ in their data only are slow.
"""

import csv
from dataclasses import replace
from types import SimpleNamespace

import audio_cases
import matplotlib
import numpy as np
import pytest
import soundfile

from beats_jax.api import trainer
from beats_jax.audio.synth import synthesize
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.weights import download, pretrained
from beats_jax.weights.bundle import load_bundle

FORMATS = ("wav", "mp3", "flac", "m4a", "ogg")
KINDS = ("harmonic", "trill", "upsweep")
RATE = 22_050


def write_clip(path, kind, seed):
    clip = synthesize(seed, labels=(kind,), seconds=0.5, sample_rate=RATE, snr_db=15.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".m4a":
        audio_cases.write_pyav(path, clip.waveform, RATE, "aac")
    else:
        soundfile.write(path, clip.waveform, RATE)


def write_table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the snippets' paths exist."""
    root = tmp_path_factory.mktemp("seed002")
    names = [(kind, seed, FORMATS[seed % 5]) for kind in KINDS for seed in range(10)]
    for kind, seed, suffix in names:
        write_clip(root / "path/to/your_dataset" / kind / f"audio{seed}.{suffix}", kind, seed)
    for name in (
        "audio.wav",
        "audio1.wav",
        "audio2.wav",
        "new_audio1.wav",
        "new_audio2.wav",
        "query.wav",
        "song1.mp3",
        "song2.mp3",
    ):
        write_clip(root / name, "trill", sum(map(ord, name)))
    files = [(f"path/to/your_dataset/{kind}/audio{seed}.{suffix}", kind) for kind, seed, suffix in names]
    write_table(root / "dataset.csv", ("filename", "category"), files)
    write_table(root / "your_data.csv", ("filename", "category"), files)
    own = [(f"{kind}/audio{seed}.{suffix}", kind) for kind, seed, suffix in names]
    write_table(root / "path/to/audio/files/labels.csv", ("file_path", "class_name"), own)
    for kind, seed, suffix in names:
        write_clip(root / "path/to/audio/files" / kind / f"audio{seed}.{suffix}", kind, seed)
    esc50 = root / "path/to/ESC-50-master"
    clips = [(f"{1 + seed % 5}-{seed}-A-{i}.wav", 1 + seed % 5, i, kind, f"{kind}{seed}")
             for i, kind in enumerate(KINDS) for seed in range(10)]  # fmt: skip
    write_table(esc50 / "meta/esc50.csv", ("filename", "fold", "target", "category", "src_file"), clips)
    for name, _, _, kind, source in clips:
        write_clip(esc50 / "audio" / name, kind, int(source[-1]))
    sounds = [(f"{100 + seed}-{i}-0-0.wav", 100 + seed, 0, 4, 1, 1 + seed, i, kind)
              for i, kind in enumerate(KINDS) for seed in range(10)]  # fmt: skip
    header = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
    write_table(root / "path/to/UrbanSound8K/metadata/UrbanSound8K.csv", header, sounds)
    for name, source, *_, fold, _, kind in sounds:
        write_clip(root / "path/to/UrbanSound8K/audio" / f"fold{fold}" / name, kind, source - 100)
    return root


@pytest.fixture
def run(place, tiny_model, monkeypatch):
    """A function from a snippet to the names it leaves."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(pretrained, "_read_published", lambda name: load_bundle(tiny_model))
    for module in (download, pretrained):
        monkeypatch.setattr(module, "ensure", lambda *_: SimpleNamespace(path=tiny_model))
    matplotlib.use("Agg")

    def in_two_steps(experiment, *arguments, **options):
        return run_experiment(replace(experiment, training=replace(experiment.training, max_steps=2)), *arguments, **options)

    monkeypatch.setattr(trainer, "run_experiment", in_two_steps)

    def run(snippet, **names):
        snippet = snippet.replace("beats_trainer", "beats_jax").replace('"/path/to/dataset"', '"path/to/your_dataset"')
        exec(compile(snippet.replace('"/path/to/data"', '"path/to/your_dataset"'), "snippet", "exec"), names)
        return names

    return run


def test_install_and_test(run, capsys):
    run(
        """
from beats_trainer import BEATsFeatureExtractor
extractor = BEATsFeatureExtractor()
print('✅ BEATs Trainer installed successfully!')
print(f'Feature dimension: {extractor.get_feature_dim()}')
"""
    )
    assert "Feature dimension: 32" in capsys.readouterr().out


def test_feature_extraction(run, capsys):
    run(
        """
from beats_trainer import BEATsFeatureExtractor

# Automatically downloads model if needed
extractor = BEATsFeatureExtractor()

# Extract features from audio file
features = extractor.extract_from_file("audio.wav")
print(f"Features shape: {features.shape}")  # (768,)

# Batch processing
features = extractor.extract_from_files(["audio1.wav", "audio2.wav"])
print(f"Batch features: {features.shape}")  # (2, 768)
"""
    )
    assert capsys.readouterr().out == "Features shape: (32,)\nBatch features: (2, 32)\n"


def test_checkpoint_management(run, capsys):
    run(
        """
from beats_trainer import ensure_checkpoint, list_available_models

# List available models
models = list_available_models()
print(models.keys())  # ['BEATs_iter3_plus_AS2M', 'openbeats']

# Ensure checkpoint is available (automatically downloads from Hugging Face Hub)
checkpoint_path = ensure_checkpoint()
print(f"Checkpoint ready at: {checkpoint_path}")
"""
    )
    out = capsys.readouterr().out
    assert "BEATs_iter3_plus_AS2M" in out
    assert "Checkpoint ready at: " in out


def test_fine_tuning_from_a_directory(run):
    names = run(
        """
from beats_trainer import BEATsTrainer

# Train from directory structure
trainer = BEATsTrainer.from_directory("/path/to/dataset")
results = trainer.train()

# Extract features with the trained model
features = trainer.extract_features(["new_audio1.wav", "new_audio2.wav"])
"""
    )
    assert names["features"].shape == (2, 32)
    assert names["results"]["n"] > 0
    names = run(
        """
from beats_trainer import BEATsTrainer

# Automatically detects classes from directory names
trainer = BEATsTrainer.from_directory("path/to/your_dataset")
results = trainer.train()
"""
    )
    assert names["trainer"].experiment.data.root == "path/to/your_dataset"


@pytest.mark.slow
def test_csv(run):
    names = run(
        """
from beats_trainer import BEATsTrainer

# Load from CSV metadata
trainer = BEATsTrainer.from_csv(
    csv_path="dataset.csv",
    audio_column="filename",      # Column with audio file paths
    label_column="category"       # Column with class labels
)
results = trainer.train()
"""
    )
    assert names["results"]["n"] > 0


@pytest.mark.slow
def test_custom_configuration(run):
    names = run(
        """
from beats_trainer import BEATsTrainer
from beats_trainer.config import DataConfig, TrainingConfig

# Configure data loading
data_config = DataConfig(
    data_dir="path/to/audio/files",
    metadata_file="labels.csv",
    audio_column="file_path",
    label_column="class_name",
    train_split=0.7,              # 70% for training
    val_split=0.2,                # 20% for validation
    test_split=0.1,               # 10% for testing
    batch_size=16,
    sample_rate=16000             # BEATs requires 16kHz
)

# Configure training
training_config = TrainingConfig(
    learning_rate=1e-4,
    max_epochs=30,
    patience=5
)

trainer = BEATsTrainer(data_config=data_config, training_config=training_config)
results = trainer.train()
"""
    )
    assert names["results"]["n"] == 3


@pytest.mark.slow
def test_preset_loaders(run):
    names = run(
        """
from beats_trainer import BEATsTrainer
from beats_trainer.datasets import load_esc50, load_urbansound8k

# ESC-50 Environmental Sound Classification
df = load_esc50("path/to/ESC-50-master")
esc50 = df

# UrbanSound8K
df = load_urbansound8k("path/to/UrbanSound8K")

# Use with trainer
trainer = BEATsTrainer.from_dataframe(df, audio_column="filename", label_column="category")
results = trainer.train()
"""
    )
    assert len(names["esc50"]) == len(names["df"]) == 30
    assert names["results"]["n"] > 0


def test_data_preparation(run, capsys):
    names = run(
        """
# Load and inspect your data
from beats_trainer.datasets import scan_directory_dataset, load_csv_dataset

# For directory structure
df = scan_directory_dataset("path/to/your_dataset")
print(f"Classes: {df['category'].nunique()}")
print(f"Total files: {len(df)}")
print(f"Class distribution:\\n{df['category'].value_counts()}")

# For CSV data
df = load_csv_dataset("your_data.csv", audio_col="filename", label_col="category")
"""
    )
    assert "Classes: 3\nTotal files: 30\n" in capsys.readouterr().out
    assert sorted(names["df"]["category"].unique()) == sorted(KINDS)
    run(
        """
from beats_trainer.datasets import scan_directory_dataset
from beats_trainer.datasets import validate_dataset

# Validate your dataset (works with DataFrame + data directory)
df = scan_directory_dataset("path/to/your_dataset")
validation_report = validate_dataset(df, "path/to/your_dataset")

if validation_report["warnings"]:
    print("⚠️ Warnings found:")
    for warning in validation_report["warnings"]:
        print(f"  - {warning}")

if validation_report["errors"]:
    print("❌ Errors found:")
    for error in validation_report["errors"]:
        print(f"  - {error}")
else:
    print("✅ Dataset validation passed!")
"""
    )
    assert "✅ Dataset validation passed!" in capsys.readouterr().out


def test_ideas_for_usage(run, place):
    from sklearn.metrics.pairwise import cosine_similarity

    catalog = [str(path) for path in sorted((place / "path/to/your_dataset/harmonic").iterdir())]
    found = run(
        """
from beats_trainer import BEATsFeatureExtractor
# Build an audio search engine
extractor = BEATsFeatureExtractor()
database_features = extractor.extract_from_files(audio_database)

# Find similar sounds
query_features = extractor.extract_from_file("query.wav")
similarities = cosine_similarity([query_features], database_features)

# Music recommendation based on audio features
user_liked_songs = ["song1.mp3", "song2.mp3"]
user_profile = extractor.extract_from_files(user_liked_songs).mean(axis=0)

# Analyze audio patterns without labels
from sklearn.cluster import KMeans
features = extractor.extract_from_files(unlabeled_audio)
clusters = KMeans(n_clusters=10).fit_predict(features)
""",
        audio_database=catalog,
        unlabeled_audio=catalog,
        cosine_similarity=cosine_similarity,
    )
    assert found["similarities"].shape == (1, 10)
    assert np.isfinite(found["user_profile"]).all()


def test_advanced_configuration(run):
    names = run(
        """
from beats_trainer import BEATsFeatureExtractor, BEATsTrainer
# Different ways to aggregate sequence features
extractors = {
    'mean': BEATsFeatureExtractor(pooling='mean'),      # Average over time
    'max': BEATsFeatureExtractor(pooling='max'),        # Max over time
    'first': BEATsFeatureExtractor(pooling='first'),    # First token (CLS-like)
    'last': BEATsFeatureExtractor(pooling='last')       # Last token
}
from beats_trainer.config import TrainingConfig

config = TrainingConfig(
    learning_rate=1e-4,
    max_epochs=50,
    batch_size=32,
    optimizer="adamw"
)

trainer = BEATsTrainer.from_directory("/path/to/data", config=config)
"""
    )
    vectors = {name: extractor.extract_from_file("audio.wav") for name, extractor in names["extractors"].items()}
    assert len({vector.tobytes() for vector in vectors.values()}) == 4
    assert names["trainer"].experiment.data.batch_size == 32
