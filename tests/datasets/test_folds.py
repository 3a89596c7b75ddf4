"""Folds: groups, sites and days never cross, classes are as even as scikit-learn's, every source that can name a column does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.folds import grouped_folds, with_folds
from beats_jax.datasets.manifest import Manifest, text_column
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.splits import assign_splits, fold_manifest, folds, group_codes, leakage
from beats_jax.errors import UserError


def make_manifest(seed: int, rows: int = 120) -> Manifest:
    """Rows with files that repeat, recordings (some blank), contents (some blank), sites and one or more labels."""
    rng = np.random.default_rng(seed)
    return Manifest.from_columns(
        [f"{rng.integers(0, rows)}.wav" for _ in range(rows)],
        [[f"c{k}" for k in rng.integers(0, 4, rng.integers(1, 3))] for _ in range(rows)],
        groups=[str(rng.choice(["", f"g{rng.integers(0, rows)}"])) for _ in range(rows)],
        metadata={
            "content": [str(rng.choice(["", "", f"h{rng.integers(0, rows)}"])) for _ in range(rows)],
            "site": [f"s{k % 30}" for k in range(rows)],
        },
    )


def assert_whole(column: np.ndarray, fold: np.ndarray) -> None:
    """Equal values, blank apart, are in one fold."""
    seen: dict[str, str] = {}
    for value, name in zip(column.tolist(), fold.tolist(), strict=True):
        assert value == "" or seen.setdefault(value, name) == name


@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_belongs_together_crosses(seed: int) -> None:
    manifest = grouped_folds(make_manifest(seed), 3, seed=seed)
    fold = manifest.metadata["fold"]
    assert folds(manifest) == ("1", "2", "3")
    for column in (manifest.files, manifest.groups, manifest.metadata["content"]):
        assert_whole(column, fold)
    for name in folds(manifest):
        assert leakage(fold_manifest(manifest, name, DataConfig())) == ()


def test_a_column_holds_together_what_shares_it() -> None:
    sites = [f"s{k}" for k in range(12)]
    manifest = Manifest.from_columns(
        [f"{k}.wav" for k in range(60)], [[f"c{k % 3}"] for k in range(60)], metadata={"site": [sites[k % 12] for k in range(60)]}
    )
    by_site = grouped_folds(manifest, 4, by="site")
    assert_whole(by_site.metadata["site"], by_site.metadata["fold"])
    assert len(set(group_codes(by_site).tolist())) == 12  # whatever is drawn from these rows later keeps sites whole, too
    alone = grouped_folds(manifest, 4)
    assert any(len(set(alone.metadata["fold"][manifest.metadata["site"] == site].tolist())) > 1 for site in sites)


@pytest.mark.parametrize(
    "stamps",
    [
        ["2021-05-03T04:00:00", "2021-05-03 23:59:59", "2021-05-04T00:00:00", "2021-05-04T01:00:00Z"],
        ["20210503_040000", "20210503_235959", "20210504_000000", "20210504_010000"],
        ["2021-05-03", "2021-05-03", "2021-05-04", "2021-05-04"],
        ["03.05.2021 04:00:00", "03.05.2021 23:59:59", "04.05.2021 00:00:00", "04.05.2021 01:00:00"],
    ],
)
def test_a_day_stays_together(stamps: list[str]) -> None:
    manifest = Manifest.from_columns(["a", "b", "c", "d"], [["x"], ["y"], ["x"], ["y"]], metadata={"time": stamps})
    fold = grouped_folds(manifest, 2, by="time").metadata["fold"].tolist()
    assert fold[0] == fold[1] != fold[2] == fold[3]


def test_names_that_are_no_dates_stay_names() -> None:
    manifest = Manifest.from_columns(["a", "b", "c"], [["x"]] * 3, metadata={"site": ["20210503", "20210503_north", "2021"]})
    assert len(set(grouped_folds(manifest, 3, by="site").metadata["fold"].tolist())) == 3


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_as_even_as_with_scikit_learn(seed: int) -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(120), rng.integers(1, 12, 120))
    labels = rng.choice(4, 120, p=(0.5, 0.3, 0.15, 0.05))[groups]
    labels = np.where(rng.random(len(labels)) < 0.2, rng.integers(0, 4, len(labels)), labels)
    manifest = Manifest.from_columns(
        [f"{k}.wav" for k in range(len(labels))], [[f"c{k}"] for k in labels], groups=[f"g{k}" for k in groups]
    )
    ours = grouped_folds(manifest, 5, seed=seed).metadata["fold"].astype(int) - 1
    theirs = np.zeros(len(labels), int)
    for k, (_, test) in enumerate(StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)):
        theirs[test] = k

    def unevenness(fold: np.ndarray) -> float:
        counts = np.stack([np.bincount(labels[fold == k], minlength=4) for k in range(5)])
        return float((counts.std(axis=0) / counts.mean(axis=0)).mean())

    assert unevenness(ours) <= 1.1 * unevenness(theirs) + 0.01


def test_the_seed_decides_and_nothing_else() -> None:
    manifest = make_manifest(1)
    first = grouped_folds(manifest, 4, seed=4).metadata["fold"]
    assert (first == grouped_folds(manifest, 4, seed=4).metadata["fold"]).all()
    assert (first != grouped_folds(manifest, 4, seed=5).metadata["fold"]).any()


def test_settings_make_folds_in_place_of_those_of_the_data() -> None:
    manifest = Manifest.from_columns(
        [f"{k}.wav" for k in range(8)], [["x"], ["y"]] * 4, metadata={"fold": ["9"] * 8}
    ).with_metadata(content=text_column([""] * 8))
    data = DataConfig(fold="2", num_folds=4)
    split = assign_splits(with_folds(manifest, data), data)
    assert (split.splits == "test").sum() == 2
    assert folds(split) == ("1", "2", "3", "4")
    assert with_folds(manifest, DataConfig(fold="9")) is manifest


def test_a_class_in_one_group_is_in_one_fold() -> None:
    manifest = Manifest.from_columns(["a", "b", "c", "d"], [["x"], ["x"], ["y"], ["x"]])
    made = grouped_folds(manifest, 2)
    counts = [fold_manifest(made, name, DataConfig()).split("test").labels.counts().get("y", 0) for name in ("1", "2")]
    assert sorted(counts) == [0, 1]


@pytest.mark.parametrize(
    ("num_folds", "by", "message"),
    [
        (1, "", "at least 2"),
        (5, "", "data has 4 groups that must stay whole"),
        (3, "site", "data has 2 groups by column 'site'"),
        (2, "sight", "'sight', which is no column of the data; did you mean 'site'"),
        (2, "day", "1 rows have no 'day', the first is c.wav"),
        (2, "fold", "would replace"),
    ],
)
def test_refused(num_folds: int, by: str, message: str) -> None:
    columns = {"site": ["1", "1", "2", "2"], "day": ["m", "t", "", "w"], "fold": ["1", "2", "3", "4"]}
    manifest = Manifest.from_columns(["a.wav", "b.wav", "c.wav", "d.wav"], [["x"]] * 4, metadata=columns)
    with pytest.raises(UserError, match=message):
        grouped_folds(manifest, num_folds, by=by)


def test_an_empty_set_has_no_folds() -> None:
    with pytest.raises(UserError, match="0 groups"):
        grouped_folds(Manifest.from_columns([], []), 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_folds": 1, "fold": "all"}, "0 or at least 2"),
        ({"num_folds": 5}, "needs data.fold"),
        ({"fold_by": "site", "fold": "all"}, "needs data.num_folds"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(DataConfig(), **settings)


def test_tables_bring_the_column(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    path = tmp_path / "labels.csv"
    path.write_text("filename,label,Site,group\na.wav,x,north,g\nb.wav,y,south,h\n")
    data = DataConfig(source="csv", metadata_file=str(path), fold="all", num_folds=2)
    assert "Site" not in load_manifest(data, workdir=tmp_path).metadata
    assert load_manifest(replace(data, fold_by="Site"), workdir=tmp_path).metadata["Site"].tolist() == ["north", "south"]
    assert load_manifest(replace(data, fold_by="group"), workdir=tmp_path).metadata["group"].tolist() == ["g", "h"]
    assert load_manifest(replace(data, fold_by="recording"), workdir=tmp_path).metadata == {}
    with pytest.raises(UserError, match="no column 'site'; did you mean 'Site'"):
        load_manifest(replace(data, fold_by="site"), workdir=tmp_path)


def test_folders_bring_the_place_below_the_class(tmp_path: Path, write_tree: Callable) -> None:
    write_tree(tmp_path, {f"{label}/{year}/{k}.wav": 0.1 for label in ("owl", "wren") for year in ("2019", "2020") for k in "ab"})
    data = DataConfig(root=str(tmp_path), fold="all", num_folds=2, fold_by="folder")
    manifest = with_folds(load_manifest(data, workdir=tmp_path), data)
    assert_whole(manifest.metadata["folder"], manifest.metadata["fold"])
    assert folds(manifest) == ("1", "2")
