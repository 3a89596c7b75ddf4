"""Darksound in both layouts: species are labels in any listing order, official splits, recordings as groups, noise left out."""

from pathlib import Path

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.sources import load_manifest, source_at
from beats_jax.datasets.splits import assign_splits
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError


def write_region(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path)) + sum(map(ord, path.name))).uniform(-0.1, 0.1, 4800)
    write_wav(path, noise.astype(np.float32), 48_000)


def first_version(root: Path) -> Path:
    for split, family, species in (
        ("train", "Strigidae", "Crested Owl"),
        ("train", "Strigidae", "Mottled Owl"),
        ("val", "Tinamidae", "Great Tinamou"),
        ("test", "Nyctibiidae", "Common Potoo"),
        ("test", "Caprimulgidae", "Pauraque"),
    ):
        for recording in ("XC1_0s_00", "XC1_10s_01", "XC2_0s_00"):
            write_region(root / "darksound" / split / family / species / f"{recording}.wav")
    return root


def data_at(root: Path, **more: object) -> DataConfig:
    return DataConfig(source="darksound", root=str(root), split_by="classes", **more)  # type: ignore[arg-type]


def test_first_version_has_species_official_splits_and_recordings(tmp_path: Path) -> None:
    manifest = load_manifest(data_at(first_version(tmp_path)), workdir=tmp_path)
    found = {(manifest.labels[i][0], str(manifest.splits[i]), str(manifest.metadata["family"][i])) for i in range(len(manifest))}
    assert found == {
        ("Crested Owl", "train", "Strigidae"),
        ("Mottled Owl", "train", "Strigidae"),
        ("Great Tinamou", "val", "Tinamidae"),
        ("Common Potoo", "test", "Nyctibiidae"),
        ("Pauraque", "test", "Caprimulgidae"),
    }
    owl = [str(manifest.groups[i]) for i in range(len(manifest)) if manifest.labels[i] == ("Crested Owl",)]
    assert sorted(owl) == ["Crested Owl/XC1", "Crested Owl/XC1", "Crested Owl/XC2"]
    report = validate(manifest, data_at(tmp_path), AudioConfig())
    assert assign_splits(report.manifest, data_at(tmp_path)).splits.tolist() == report.manifest.splits.tolist()
    assert report.classes_apart
    assert "no class of val and test is in training: right for learning from few examples, else a mistake" in report.warnings


def test_second_version_leaves_out_noise(tmp_path: Path) -> None:
    rows = ["filename_ts;fullfilename_ts;categories;auto_label"]
    for species, file, label in (("Owl", "a_0s_00.wav", "1.0"), ("Owl", "b_0s_00.wav", "0.0"), ("Toad", "a_0s_00.wav", "1")):
        write_region(tmp_path / "data" / "train" / species / file)
        rows.append(f"{file};C:\\made\\elsewhere\\{species}\\{file};{species};{label}")
    write_region(tmp_path / "data" / "test" / "Pauraque" / "c_0s_00.wav")
    table = tmp_path / "data" / "train" / "cluster.csv"
    table.write_text("\n".join(rows))
    manifest = load_manifest(data_at(tmp_path), workdir=tmp_path)
    names = [Path(file).relative_to(tmp_path / "data").as_posix() for file in manifest.files.tolist()]
    assert sorted(names) == ["test/Pauraque/c_0s_00.wav", "train/Owl/a_0s_00.wav", "train/Toad/a_0s_00.wav"]
    assert any("2 of 3 regions are signal" in note for note in manifest.notes)
    assert source_at(tmp_path) == source_at(tmp_path / "data") == "darksound"
    table.write_text("\n".join([*rows, "d.wav;Owl/d.wav;Owl;yes"]))
    with pytest.raises(UserError, match=r"line 5: auto_label is 'yes'"):
        load_manifest(data_at(tmp_path), workdir=tmp_path)


def test_a_species_in_two_splits_is_refused(tmp_path: Path) -> None:
    root = first_version(tmp_path)
    write_region(root / "darksound" / "test" / "Strigidae" / "Mottled Owl" / "XC9_0s_00.wav")
    manifest = load_manifest(data_at(root), workdir=tmp_path)
    assert any("1 species are in several splits" in note for note in manifest.notes)
    with pytest.raises(UserError, match=r"Mottled Owl .test and train."):
        assign_splits(manifest, data_at(root))


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    write_region(tmp_path / "Owl" / "a.wav")
    with pytest.raises(UserError, match="none of the folders train, val, test"):
        load_manifest(data_at(tmp_path), workdir=tmp_path)
