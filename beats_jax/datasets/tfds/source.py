"""Data sets of TensorFlow Datasets (TFDS) that are stored as array_record; TensorFlow is not needed.

    data.root = .../owls/1.0.0, or a folder above it with data.tfds_name = "owls", "owls/config" or "owls:1.0.0"

Every record is a row. Its sound is the feature `data.audio_column`, else `audio`; its label `data.label_column`, else `label` or
`labels`. The file of a row is the address of the record (`audio.decoding.tfds_records`), which `audio.io` reads like a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beats_jax.audio.decoding.tfds_records import RATE_FEATURE, Address, RecordFolder, import_tfds, open_folder
from beats_jax.audio.recording import AudioError
from beats_jax.config.schema import DataConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.splits import SYNONYMS, normalise_split
from beats_jax.errors import UserError

DESCRIPTION = "dataset_info.json"


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """Every record of the data set.

    Splits named train, validation, test or the like become splits, others are left out with a note; a data set with a single
    split, whatever its name, counts as not split. Group = feature `data.group_column`, else `group`; further texts and numbers
    are metadata (`fold` among them). A record without a label (-1 or blank) is listed as an error without `data.multi_label`.

    Raises:
      UserError: TFDS is not installed; no data set, or several, in `data.root`; it cannot be read without TensorFlow; features
        missing or of the wrong kind; an unknown sample rate; no known split.
    """
    folder = dataset_folder(data)
    opened = open_folder(str(folder))
    features = opened.builder.info.features
    audio = _feature(features, data.audio_column, ("audio",), folder)
    label = _feature(features, data.label_column, ("label", "labels"), folder)
    group = _feature(features, data.group_column, ("group",), folder) if data.group_column or "group" in features else ""
    rate = data.tfds_sample_rate or opened.rates.get(audio, 0)
    if not rate and RATE_FEATURE not in features:
        raise UserError(f"{folder} gives no sample rate of its sound; set data.tfds_sample_rate")
    splits, notes = _splits(opened, folder)
    rows = _Rows(features, label, group, data.multi_label)
    without_sound = {audio: import_tfds().decode.SkipDecoding()}
    for split, name in splits.items():
        for index, record in enumerate(opened.builder.as_data_source(split=split, decoders=without_sound)):
            rows.add(record, str(Address(str(folder), split, index, audio, rate)), name)
    if not rows.files:
        raise UserError(f"{folder} has no record with a label")
    return Manifest.from_columns(
        rows.files,
        rows.labels,
        splits=rows.splits,
        groups=rows.groups,
        metadata=rows.metadata,
        errors=rows.errors,
        notes=notes,
    )


def dataset_folder(data: DataConfig) -> Path:
    """The folder of the version that `data.root` and `data.tfds_name` name, absolute; without a name, the newest.

    `data.root` defaults to the folder of TFDS: TFDS_DATA_DIR, or tensorflow_datasets in the home directory.
    """
    root = Path(data.root or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser().absolute()
    if (root / DESCRIPTION).is_file():
        return root
    found = [path.parent for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/{DESCRIPTION}")]
    versions: dict[str, list[Path]] = {}
    for path in sorted(found, key=_version):
        if not any(part.startswith("incomplete") for part in path.relative_to(root).parts):
            versions.setdefault(str(path.parent.relative_to(root)), []).append(path)
    name, _, version = data.tfds_name.partition(":")
    if not versions:
        raise UserError(f"data.root {root} holds no data set of TFDS (no {DESCRIPTION} in it or three folders below)")
    if not name and len(versions) > 1:
        raise UserError(f"data.root {root} holds several data sets; set data.tfds_name to one of {', '.join(versions)}")
    chosen = versions.get(name or next(iter(versions)))
    if chosen is None:
        raise UserError(f"data.tfds_name is {data.tfds_name!r}; {nearest(name, list(versions))} (in {root})")
    if not version:
        return chosen[-1]
    known = {path.name: path for path in chosen}
    if version not in known:
        raise UserError(f"data.tfds_name is {data.tfds_name!r}; the known versions are {', '.join(known)}")
    return known[version]


class _Rows:
    """Columns of a manifest, filled record by record."""

    def __init__(self, features: Any, label: str, group: str, multi_label: bool) -> None:
        self._features, self._label, self._group, self._multi_label = features, label, group, multi_label
        kinds = import_tfds().features
        plain = {name: features[name] for name in features if name not in (label, group, RATE_FEATURE)}
        named = [name for name, feature in plain.items() if isinstance(feature, kinds.Text | kinds.Scalar | kinds.ClassLabel)]
        self.files: list[str] = []
        self.labels: list[list[str]] = []
        self.splits: list[str] = []
        self.groups: list[str] = []
        self.metadata: dict[str, list[str]] = {name: [] for name in named}
        self.errors: list[AudioError] = []

    def add(self, record: dict[str, Any], address: str, split: str) -> None:
        """Adds a record, or an error where it has no label and needs one."""
        labels = [text for text in _texts(self._features[self._label], record[self._label]) if text]
        if not labels and not self._multi_label:
            self.errors.append(AudioError(address, "the record has no label"))
            return
        self.files.append(address)
        self.labels.append(labels)
        self.splits.append(split)
        self.groups.append(_texts(self._features[self._group], record[self._group])[0] if self._group else "")
        for name, cells in self.metadata.items():
            cells.append(_texts(self._features[name], record[name])[0])


def _feature(features: Any, asked: str, usual: Sequence[str], folder: Path) -> str:
    name = next((name for name in (asked, *usual) if name in features), "")
    if not name:
        raise UserError(
            f"{folder} has no feature {asked!r} or {' or '.join(map(repr, usual))}; name one with data.audio_column, "
            f"label_column or group_column; there are {', '.join(features)}"
        )
    return name


def _splits(opened: RecordFolder, folder: Path) -> tuple[dict[str, str], list[str]]:
    """{split of the data set: ours, "" = to be drawn}, and a note on splits that are left out."""
    sizes = {name: info.num_examples for name, info in opened.builder.info.splits.items() if info.num_examples}
    if len(sizes) == 1:
        return dict.fromkeys(sizes, ""), []
    known = {name: normalise_split(name) for name in sizes if name.lower() in SYNONYMS}
    if not known:
        raise UserError(f"{folder} has the splits {', '.join(sizes) or '(none)'}; none of them is called train, val or test")
    others = [f"{name} ({number} records)" for name, number in sizes.items() if name not in known]
    return known, [f"splits of {folder.parent.name} that are left out: {', '.join(others)}"] if others else []


def _texts(feature: Any, value: Any) -> list[str]:
    """The values of a feature as texts: names of classes ("" for -1), decoded texts, numbers."""
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return [text for item in value for text in _texts(inner, item)]
    if hasattr(feature, "int2str"):
        return [feature.int2str(int(value)) if value >= 0 else ""]
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)]


def _version(folder: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", folder.name)], folder.name
