"""The recordings of a study: found, checked, split so that copies stay on one side, and the front-end of their own rate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from beats_jax.audio.io import AudioError, audio_info
from beats_jax.config import AudioConfig, DataConfig
from beats_jax.config.schema import FilterbankConfig
from beats_jax.config.validation import nearest
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.report import ValidationReport
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.splits import assign_splits, group_codes
from beats_jax.datasets.validation import validate
from beats_jax.datasets.windows import row_bounds
from beats_jax.errors import UserError
from beats_jax.pipelines.measuring.evaluate import data_of
from beats_jax.pipelines.studying.settings import StudySettings

BACKGROUNDS = (
    "background",
    "noise",
    "negative",
    "no_call",
    "nocall",
    "nowhale",
    "no_whale",
    "none",
    "absent",
    "ambient",
    "silence",
)
HIGHEST_RATE = 32_000  # Hz; recordings at higher rates are read at this one
LONGEST_SECONDS = 10.0  # of a clip; what comes later is not read
BANDS = 64
LONG_FRAME_SHIFTS, LONG_FRAME_MS = 4.096, 128.0  # long frames tell low calls apart (docs/frequencies.md)
PROBED_FILES = 100  # whose rate is read to find the usual one


@dataclass(frozen=True)
class StudyRows:
    """The usable rows.

    Attributes:
      manifest: N rows with splits, each with one label. report: of validation. labels: int64 [N], place in `vocabulary`.
      groups: int64 [N], the same number for copies and other rows that stay together.
      background: place of the class without a sound of interest; None = all classes are of interest.
      audio: the front-end. seconds: of a clip.
    """

    manifest: Manifest
    report: ValidationReport
    vocabulary: LabelVocabulary
    labels: np.ndarray
    groups: np.ndarray
    background: int | None
    audio: AudioConfig
    seconds: float

    def of_split(self, name: str) -> np.ndarray:
        """int64: the rows of train, val or test."""
        return np.flatnonzero(self.manifest.splits == name)

    @property
    def wanted(self) -> list[int]:
        """The classes of interest."""
        return [c for c in range(len(self.vocabulary)) if c != self.background]


def prepare_rows(settings: StudySettings, errors: ErrorLog) -> StudyRows:
    """Finds, checks and splits the recordings; `errors` receives those that cannot be used.

    Raises:
      UserError: nothing usable, fewer than two classes, a split without rows or with one class only, an unknown background.
    """
    data = labelled_data(Path(settings.data).expanduser(), settings.label_column)
    found = load_manifest(data, workdir=Path("."))
    rate = usual_rate(found)
    bare = AudioConfig(filterbank=picture_filterbank(rate, 1.0, settings.frames))  # until the clips' length is known
    report = validate(found, data, bare, error_log=errors, min_classes=2)
    manifest = assign_splits(report.manifest, data)
    report = report.with_splits(manifest)
    starts, ends = row_bounds(manifest)
    seconds = float(min(LONGEST_SECONDS, np.quantile(ends - starts, 0.9)))
    seconds = round(seconds * rate) / rate  # whole samples
    front_end = picture_filterbank(rate, seconds, settings.frames, settings.low_hz, settings.high_hz)
    vocabulary = LabelVocabulary.from_manifest(manifest)
    labels = np.array([vocabulary.index(manifest.labels[row][0]) for row in range(len(manifest))], np.int64)
    rows = StudyRows(
        manifest,
        report,
        vocabulary,
        labels,
        group_codes(manifest),
        find_background(vocabulary, settings.background),
        replace(bare, filterbank=front_end),
        seconds,
    )
    _require_splits(rows)
    return rows


def labelled_data(path: Path, label_column: str) -> DataConfig:
    """Settings for a folder with labels.csv, of class folders or of a known layout, or for a table."""
    data = data_of(path, DataConfig())
    return replace(data, label_column=label_column) if label_column else data


def usual_rate(manifest: Manifest) -> int:
    """The most frequent rate of some of the files in Hz, at most `HIGHEST_RATE`; validation lists those that cannot be read."""
    files = np.unique(manifest.files)
    chosen = files[np.unique(np.linspace(0, len(files) - 1, min(PROBED_FILES, len(files))).astype(int))]
    rates: Counter[int] = Counter()
    for file in chosen.tolist():
        try:
            rates[audio_info(file).sample_rate] += 1
        except (AudioError, OSError):
            continue
    return min(HIGHEST_RATE, rates.most_common(1)[0][0]) if rates else FilterbankConfig().sample_rate


def picture_filterbank(rate: int, seconds: float, frames: int, low_hz: float = 0.0, high_hz: float = 0.0) -> FilterbankConfig:
    """A front-end that gives `frames` frames of 64 bands over their floor for so many seconds; frames overlap by half at least.

    Frequencies of 0 mean those of the rate. At 2 kHz, for clips of 2 s, it is that of configs/low_frequency.py but for the band.
    """
    shift = 1000 * seconds / frames
    return FilterbankConfig(
        kind="floor",
        sample_rate=rate,
        num_mel_bins=BANDS,
        frame_length_ms=max(2 * shift, min(LONG_FRAME_SHIFTS * shift, LONG_FRAME_MS)),
        frame_shift_ms=shift,
        window="hanning",
        low_hz=low_hz or 0.015 * rate,
        high_hz=high_hz or rate / 2,
        mean=0.0,
        std=0.5,
    )


def find_background(vocabulary: LabelVocabulary, name: str) -> int | None:
    """The class that `name` means, or the one that is called like a background. Raises `UserError` for an unknown name."""
    if name == "none":
        return None
    if name:
        if name not in vocabulary.names:
            raise UserError(f"--background names {name!r}, which no row has; {nearest(name, list(vocabulary.names))}")
        return vocabulary.names.index(name)
    usual = [place for place, label in enumerate(vocabulary.names) if label.strip().lower().replace(" ", "_") in BACKGROUNDS]
    return usual[0] if len(usual) == 1 else None


def _require_splits(rows: StudyRows) -> None:
    counts = {split: np.unique(rows.labels[rows.of_split(split)]) for split in ("train", "val", "test")}
    for split, classes in counts.items():
        if len(classes) < 2:
            raise UserError(
                f"the {split} part has {len(classes)} classes of {len(rows.vocabulary)} ({len(rows.manifest)} usable clips in "
                "all); a study needs two in each part: add clips, or name the parts in a column split"
            )
