"""Splits of whole classes: disjoint, of the sizes asked for, the same for the same seed in whatever order the rows come."""

import numpy as np
import pytest

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.splits import assign_splits
from beats_jax.errors import UserError


def manifest_of(classes: list[str]) -> Manifest:
    return Manifest.from_columns([f"{i}.wav" for i in range(len(classes))], [[name] for name in classes])


def by_classes(train: float, val: float, test: float, seed: int = 0) -> DataConfig:
    return DataConfig(split_by="classes", train_split=train, val_split=val, test_split=test, split_seed=seed)


def classes_of(manifest: Manifest) -> dict[str, set[str]]:
    return {name: set(manifest.split(name).labels.counts()) for name in ("train", "val", "test")}


@pytest.mark.parametrize("seed", range(5))
def test_whole_classes_go_to_one_split_in_the_shares_asked_for(seed: int) -> None:
    names = [f"species {i % 20:02d}" for i in range(90)]
    found = classes_of(assign_splits(manifest_of(names), by_classes(0.5, 0.1, 0.4, seed)))
    assert [len(found[name]) for name in ("train", "val", "test")] == [10, 2, 8]
    assert set().union(*found.values()) == set(names)
    assert sum(map(len, found.values())) == 20
    order = np.random.default_rng(seed).permutation(len(names))
    again = assign_splits(manifest_of([names[i] for i in order]), by_classes(0.5, 0.1, 0.4, seed))
    assert classes_of(again) == found


def test_another_seed_draws_other_classes() -> None:
    names = [f"species {i:02d}" for i in range(20)]
    draws = {
        frozenset(classes_of(assign_splits(manifest_of(names), by_classes(0.5, 0.0, 0.5, seed)))["test"]) for seed in range(5)
    }
    assert len(draws) == 5
    assert all(len(draw) == 10 for draw in draws)


def test_too_few_classes_and_several_labels_are_refused() -> None:
    with pytest.raises(UserError, match="val 1; every split needs two"):
        assign_splits(manifest_of(list("abcdef")), by_classes(0.5, 0.15, 0.35))
    several = Manifest.from_columns(["a.wav", "b.wav"], [["x", "y"], ["z"]])
    with pytest.raises(UserError, match=r"a\.wav has the labels"):
        assign_splits(several, by_classes(0.5, 0.0, 0.5))
    with pytest.raises(UserError, match=r"no data\.fold or data.multi_label"):
        DataConfig(split_by="classes", fold="1", multi_label=True)
