"""Recordings by role: the layout of seed folders, labels.csv, what is wrong with them, and batches of every role's share."""

import itertools

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config import AudioConfig, DataConfig
from beats_jax.datasets import roles
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.datasets.roles import batch_sizes, join_batches, require_apart, rows_by_role, with_roles_in_training
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError

RATE = 16_000
COUNTS = {"unlabeled": 6, "labeled/audio": 4, "positive": 3, "negative": 2}


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, (0.1 * np.random.default_rng(seed).standard_normal(RATE)).astype(np.float32), RATE)


@pytest.fixture
def tree(tmp_path):
    """A `data/` folder as the README of seed 000 shows it."""
    for number, (folder, count) in enumerate(COUNTS.items()):
        for i in range(count):
            write(tmp_path / folder / f"{folder[:3]}{i}.wav", 100 * number + i)
    lines = ["filename,labels", 'lab0.wav,"frog,rain"', "lab1.wav,frog", "lab2.wav,\"['owl', 'rain']\"", "lab3.wav,owl"]
    (tmp_path / "labeled/labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def data_of(root, **changes):
    settings = {"source": "bioacoustics", "multi_label": True, "window_seconds": 0.5, "batch_size": 4}
    return DataConfig(root=str(root), **{**settings, "train_split": 1.0, "val_split": 0.0, "test_split": 0.0, **changes})


def load(root, **changes):
    return load_manifest(data_of(root, **changes), workdir=root)


def prepared(root, **changes):
    data = data_of(root, **changes)
    manifest = validate(load_manifest(data, workdir=root), data, AudioConfig(), min_classes=0).manifest
    return with_roles_in_training(assign_splits(manifest, data))


def test_every_folder_gives_its_role_and_labels_come_from_the_table(tree):
    manifest = load(tree)
    names = [file.rsplit("/", 1)[1] for file in manifest.files.tolist()]
    found = dict(zip(names, manifest.metadata["role"].tolist(), strict=True))
    assert {role: sum(other == role for other in found.values()) for role in roles.ROLES} == {
        "unlabeled": 6, "labeled": 4, "positive": 3, "negative": 2,
    }  # fmt: skip
    labels = {name: manifest.labels[row] for row, name in enumerate(names)}
    assert labels["lab0.wav"] == ("frog", "rain")
    assert labels["lab2.wav"] == ("owl", "rain")
    assert labels["unl0.wav"] == ()


def test_folders_may_be_named_and_the_special_role_wins(tree, tmp_path_factory):
    """`data_dir` of old commands: one tree of everything, the others inside it or elsewhere; audio beside labels.csv too."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "x.wav", 999)
    (elsewhere / "labels.csv").write_text("filename,labels\nx.wav,owl\n")
    manifest = load(tree / "unlabeled", positive_dir=str(tree / "positive"), labeled_dir=str(elsewhere))
    assert sorted(set(manifest.metadata["role"].tolist())) == ["labeled", "positive", "unlabeled"]
    whole = load(tree / "unlabeled", negative_dir=str(tree / "unlabeled"), labeled_dir=str(elsewhere))
    assert sorted(set(whole.metadata["role"].tolist())) == ["labeled", "negative"]


def test_what_is_wrong_with_the_folders_is_named(tree):
    def refused(message, root=tree, **changes):
        with pytest.raises(UserError, match=message):
            load(root, **changes)

    refused("positive_dir .*nowhere does not exist", positive_dir=str(tree / "nowhere"))
    refused(r"labeled_dir .*positive holds no labels\.csv", labeled_dir=str(tree / "positive"))
    refused("both positive and negative", negative_dir=str(tree / "positive"))
    refused("change labels.csv instead", classes=("owl",))
    for file in (tree / "unlabeled").iterdir():
        file.unlink()
    refused("unlabeled holds no audio file")


def test_missing_files_of_the_table_are_counted_and_named(tree):
    for name in ("lab1.wav", "lab3.wav"):
        (tree / "labeled/audio" / name).unlink()
    manifest = load(tree)
    assert [str(error) for error in manifest.errors if "labels.csv" in str(error)] == [
        f"{tree}/labeled/labels.csv: 2 of its 4 files do not exist: lab1.wav, lab3.wav"
    ]
    assert (manifest.metadata["role"] == "labeled").sum() == 2


def test_the_same_bytes_cannot_be_positive_and_negative(tree):
    (tree / "negative/copy.wav").write_bytes((tree / "positive/pos1.wav").read_bytes())
    with pytest.raises(UserError, match=r"1 recordings are both positive and negative, with the same sound: .*pos1.* and .*copy"):
        require_apart(prepared(tree))
    (tree / "negative/copy.wav").unlink()
    require_apart(prepared(tree))


def test_positives_belong_to_training_unless_a_labelled_clip_is_the_same(tree):
    (tree / "positive/copy.wav").write_bytes((tree / "labeled/audio/lab0.wav").read_bytes())
    manifest = prepared(tree, train_split=0.5, val_split=0.5)
    split = dict(zip((file.rsplit("/", 1)[1] for file in manifest.files.tolist()), manifest.splits.tolist(), strict=True))
    assert {split[f"pos{i}.wav"] for i in range(3)} | {split[f"neg{i}.wav"] for i in range(2)} == {"train"}
    assert split["copy.wav"] == split["lab0.wav"]


ROLES_USED = ("positive", "negative", "labeled")


def stream(manifest, data, roles=ROLES_USED, **place):
    vocabulary = LabelVocabulary.from_manifest(manifest)
    return join_batches(manifest, vocabulary, data, AudioConfig(), roles, seed=3, **place)


def test_batches_hold_every_roles_share(tree):
    manifest, data = prepared(tree), data_of(tree, labeled_batch_size=2, num_workers=0)
    assert batch_sizes(data, roles.ROLES) == {"unlabeled": 4, "labeled": 2, "positive": 1, "negative": 1}
    role_of = manifest.metadata["role"]
    seen, heard = {role: set() for role in roles.ROLES}, set()
    for batch in itertools.islice(stream(manifest, data), 4):
        arrays = batch.arrays
        assert arrays["waveforms"].shape == (5, 8000)
        assert arrays["positions"].tolist() == [0, 1, 2, 3, 4]
        assert arrays["gathered"].tolist() == [False] * 4 + [True]
        assert all(role_of[row] in ("unlabeled", "labeled") for row in arrays["rows"][:4])
        assert role_of[arrays["rows"][4]] == "positive"
        heard |= set(arrays["rows"][:4].tolist())
        assert arrays["labeled_labels"].shape == (2, 3)
        for role, rows in (("labeled", arrays["labeled_rows"]), ("negative", arrays["negative_rows"])):
            assert all(role_of[row] == role for row in rows)
            seen[role] |= set(rows.tolist())
        vocabulary = LabelVocabulary.from_manifest(manifest)
        for row, labels in zip(arrays["labeled_rows"], arrays["labeled_labels"], strict=True):
            np.testing.assert_array_equal(labels, vocabulary.encode(manifest.labels[int(row)], True))
        seen["positive"] |= set(arrays["rows"][4:].tolist())
    assert {role: len(rows) for role, rows in seen.items()} == {"unlabeled": 0, "labeled": 4, "positive": 3, "negative": 2}
    assert sorted(role_of[sorted(heard)].tolist()) == ["labeled"] * 4 + ["unlabeled"] * 6


def test_batches_are_exact_from_any_step_and_over_hosts(tree):
    manifest, data = (
        prepared(tree),
        data_of(tree, num_workers=0, labeled_batch_size=2, positive_batch_size=2, negative_batch_size=2),
    )
    whole = list(itertools.islice(stream(manifest, data), 3))
    later = next(stream(manifest, data, start_step=2))
    for name, array in whole[2].arrays.items():
        np.testing.assert_array_equal(array, later.arrays[name])
    hosts = [next(stream(manifest, data, host_index=i, host_count=2)) for i in (0, 1)]
    for name in ("labeled_waveforms", "negative_rows"):
        np.testing.assert_array_equal(np.concatenate([host.arrays[name] for host in hosts]), whole[0].arrays[name])
    positions = np.concatenate([host.arrays["positions"] for host in hosts])
    assert sorted(positions.tolist()) == list(range(6))


def test_a_role_that_is_not_used_is_unlabelled(tree):
    manifest = prepared(tree)
    assert {role: len(rows) for role, rows in rows_by_role(manifest, ("positive",)).items()} == {"unlabeled": 12, "positive": 3}
    plain = manifest.take(np.flatnonzero(manifest.metadata["role"] == "labeled"))
    no_roles = type(plain)(plain.files, plain.labels, plain.starts, plain.ends, plain.splits, plain.groups)
    assert {role: len(rows) for role, rows in rows_by_role(no_roles, ROLES_USED).items()} == {"unlabeled": 4, "labeled": 4}
    with pytest.raises(UserError, match="no unlabelled recordings"):
        next(stream(manifest.take(np.flatnonzero(manifest.metadata["role"] == "positive")), data_of(tree)))
    unlabelled = manifest.take(np.flatnonzero(manifest.metadata["role"] != "labeled"))
    with pytest.raises(UserError, match="no labelled recordings in the training split"):
        next(stream(unlabelled, data_of(tree)))
