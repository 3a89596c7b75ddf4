"""Splits: groups never cross, shares hold per class, the same seed gives the same."""

from dataclasses import replace

import numpy as np
import pytest

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest, text_column
from beats_jax.datasets.splits import assign_splits, draw_folds, fold_manifest, folds, group_codes, leakage, normalise_split
from beats_jax.errors import UserError

SPLITS = {"train", "val", "test"}


def random_manifest(seed: int) -> Manifest:
    """Rows with random files, groups (some blank), contents (some blank) and one or more labels."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(5, 200))
    files = [f"{rng.integers(0, rows)}.wav" for _ in range(rows)]
    groups = [str(rng.choice(["", f"g{rng.integers(0, rows)}"])) for _ in range(rows)]
    labels = [[f"c{k}" for k in rng.integers(0, 6, rng.integers(1, 4))] for _ in range(rows)]
    contents = text_column([str(rng.choice(["", "", f"h{rng.integers(0, rows)}"])) for _ in range(rows)])
    return Manifest.from_columns(files, labels, groups=groups).with_metadata(content=contents)


@pytest.mark.parametrize("seed", range(40))
def test_no_file_group_or_content_is_on_two_sides(seed: int) -> None:
    manifest = random_manifest(seed)
    split = assign_splits(manifest, DataConfig(split_seed=seed))
    assert set(split.splits.tolist()) <= SPLITS
    for column in (split.files, split.groups, split.metadata["content"]):
        seen: dict[str, str] = {}
        for value, name in zip(column.tolist(), split.splits.tolist(), strict=True):
            assert value == "" or seen.setdefault(value, name) == name
    assert leakage(split) == ()


@pytest.mark.parametrize("seed", range(5))
def test_drawn_folds_keep_groups_together_and_classes_even(seed: int) -> None:
    manifest = random_manifest(seed + 40)
    folds = draw_folds(manifest, 3, seed)
    codes = group_codes(manifest)
    assert all(len(np.unique(folds[codes == code])) == 1 for code in np.unique(codes))
    np.testing.assert_array_equal(folds, draw_folds(manifest, 3, seed))
    even = Manifest.from_columns([f"{i}.wav" for i in range(60)], [["a"], ["b"], ["b"]] * 20)
    folds, second = draw_folds(even, 5, seed), np.arange(60) % 3 > 0
    assert np.bincount(folds[second]).tolist() == [8] * 5
    assert np.bincount(folds[~second]).tolist() == [4] * 5
    with pytest.raises(UserError, match="61 folds need as many"):
        draw_folds(even, 61, seed)


def test_chains_of_groups_are_one_group() -> None:
    manifest = Manifest.from_columns(["a", "a", "b", "c", "d"], [["x"]] * 5, groups=["1", "2", "2", "", ""])
    manifest = manifest.with_metadata(content=text_column(["", "", "h", "h", "k"]))
    codes = group_codes(manifest)
    assert len(set(codes[:4].tolist())) == 1
    assert codes[4] != codes[0]


def test_every_class_has_its_share() -> None:
    counts = {"common": 400, "middle": 100, "rare": 20}
    labels = [[name] for name, number in counts.items() for _ in range(number)]
    manifest = Manifest.from_columns([f"{i}.wav" for i in range(len(labels))], labels)
    split = assign_splits(manifest, DataConfig(train_split=0.7, val_split=0.15, test_split=0.15))
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        got = split.split(name).labels.counts()
        assert {k: abs(got[k] - share * n) <= 1 for k, n in counts.items()} == dict.fromkeys(counts, True)


def test_groups_of_unequal_size_come_close_to_the_shares() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 20, 150)
    rows = [(f"{g}-{k}.wav", f"c{g % 5}", f"g{g}") for g, size in enumerate(sizes) for k in range(size)]
    manifest = Manifest.from_columns([r[0] for r in rows], [[r[1]] for r in rows], groups=[r[2] for r in rows])
    split = assign_splits(manifest, DataConfig())
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        for label, number in manifest.labels.counts().items():
            assert abs(split.split(name).labels.counts()[label] / number - share) < 0.05


def test_the_seed_decides_and_nothing_else() -> None:
    manifest = random_manifest(1)
    first = assign_splits(manifest, DataConfig(split_seed=4)).splits
    assert (first == assign_splits(manifest, DataConfig(split_seed=4)).splits).all()
    assert (first != assign_splits(manifest, DataConfig(split_seed=5)).splits).any()


def test_a_share_of_zero_gets_nothing() -> None:
    split = assign_splits(random_manifest(2), DataConfig(train_split=0.8, val_split=0.0, test_split=0.2))
    assert set(split.splits.tolist()) == {"train", "test"}


def test_given_splits_are_kept_and_their_leaks_named() -> None:
    manifest = Manifest.from_columns(
        ["a.wav", "b.wav", "b.wav", "c.wav"], [["x"]] * 4, splits=["train", "train", "val", "test"], groups=["g", "", "", "g"]
    ).with_metadata(content=text_column(["1", "2", "2", "3"]))
    assert assign_splits(manifest, DataConfig()) is manifest
    assert {(leak.kind, leak.what, leak.splits) for leak in leakage(manifest)} == {
        ("file", "b.wav", ("train", "val")),
        ("group", "g", ("train", "test")),
    }
    copied = manifest.with_metadata(content=text_column(["1", "2", "2", "1"]))
    assert ("content", "a.wav", ("train", "test")) in {(leak.kind, leak.what, leak.splits) for leak in leakage(copied)}


@pytest.mark.parametrize(
    ("splits", "settings", "message"),
    [
        (["train", "", ""], {}, "2 rows have no split"),
        (["val", "test", "val"], {}, "no row is in the split 'train'"),
        (["", "", ""], {"fold": "1"}, "no folds"),
        (["", "", ""], {"fold": "all"}, "choose one fold"),
    ],
)
def test_refused(splits: list[str], settings: dict, message: str) -> None:
    manifest = Manifest.from_columns(["a", "b", "c"], [["x"]] * 3, splits=splits)
    with pytest.raises(UserError, match=message):
        assign_splits(manifest, replace(DataConfig(), **settings))


def test_folds_are_in_order_of_their_numbers() -> None:
    manifest = Manifest.from_columns(["a", "b", "c"], [["x"]] * 3, metadata={"fold": ["10", "2", "b"]})
    assert folds(manifest) == ("2", "10", "b")
    assert fold_manifest(manifest, "2", DataConfig()).splits.tolist() == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("name", "normal"), [("Validation", "val"), ("valid", "val"), ("dev", "val"), (" EVAL ", "test"), ("train", "train")]
)
def test_names_of_splits(name: str, normal: str) -> None:
    assert normalise_split(name) == normal


def test_unknown_split() -> None:
    with pytest.raises(UserError, match="did you mean 'valid'"):
        normalise_split("valld")


def test_a_fold_keeps_whole_groups_of_the_others_for_validation():
    files = [f"{i}.wav" for i in range(40)]
    groups = [f"g{i // 2}" for i in range(40)]
    manifest = Manifest.from_columns(
        files,
        [["a" if i % 4 < 2 else "b"] for i in range(40)],
        groups=groups,
        metadata={"fold": [str(i // 8) for i in range(40)]},
    )
    splits = fold_manifest(manifest, "2", DataConfig(fold_val_split=0.25)).splits
    assert np.array_equal(splits == "test", manifest.metadata["fold"] == "2")
    assert (splits == "val").sum() == 8
    assert np.array_equal(splits[::2], splits[1::2])
    assert sorted(np.array([row[0] for row in manifest.labels])[splits == "val"]) == ["a"] * 4 + ["b"] * 4
