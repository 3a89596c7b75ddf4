"""The findings of validation, as an object, as JSON and as a page of text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from beats_jax.audio.files import some
from beats_jax.audio.recording import AudioError
from beats_jax.datasets.manifest import SPLITS, Manifest, text_column
from beats_jax.datasets.splits import Leak, leakage

SHOWN = 10  # errors in the page of text; the JSON has all


@dataclass(frozen=True)
class Found:
    """Facts about F different files; seconds is NaN and the others 0 or "" for a bad one."""

    files: np.ndarray  # StringDType [F]
    seconds: np.ndarray  # float64 [F]
    sample_rates: np.ndarray  # int64 [F]
    channels: np.ndarray  # int64 [F]
    content: np.ndarray  # StringDType [F], hash of the bytes; "" where the file was not read
    encodings: dict[str, int]  # files per encoding
    sound: np.ndarray  # float64 [2, F], start and end of the sound; -inf and inf without `data.trim_below_dbfs`
    levels: np.ndarray  # float32 [F, LEVELS] of `audio.survey`; NaN where the file was not read or is too short


@dataclass(frozen=True)
class ValidationReport:
    """The outcome of `validation.validate`; durations, rates, channels and encodings are those of the good files."""

    manifest: Manifest  # the good rows, with metadata `seconds` and `content`
    errors: tuple[AudioError, ...]  # bad files and rows, in the order found
    rows_given: int
    files_given: int
    total_seconds: float
    shortest_seconds: float
    median_seconds: float
    longest_seconds: float
    sample_rates: dict[str, int]
    channels: dict[str, int]
    encodings: dict[str, int]
    labels: dict[str, int]  # rows per label
    repeated_rows: tuple[str, ...]  # given more than once, kept once
    cut_rows: int  # rows whose end lies behind the end of their file
    content_compared: bool  # whether files were hashed (`data.check` "decode")
    duplicate_files: tuple[tuple[str, ...], ...]  # groups of files with the same bytes
    copied_files: tuple[tuple[str, str], ...]  # same sound at another level, rate or format (`datasets.copies`)
    splits: dict[str, dict[str, int]]  # rows per label for each split; empty while rows have no split
    split_rows: dict[str, int]
    leaks: tuple[Leak, ...]  # files, groups or contents in more than one split

    def with_splits(self, manifest: Manifest) -> ValidationReport:
        """The report for the rows that `splits.assign_splits` returned."""
        return replace(self, manifest=manifest, leaks=leakage(manifest), **_split_counts(manifest))

    @property
    def absent_from_training(self) -> dict[str, tuple[str, ...]]:
        """Labels of val and test that no training row has, per split."""
        if not self.splits:
            return {}
        trained = self.splits["train"]
        absent = {name: tuple(sorted(set(self.splits[name]) - set(trained))) for name in ("val", "test")}
        return {name: labels for name, labels in absent.items() if labels}

    @property
    def classes_apart(self) -> bool:
        """Whether val and test have labels, and none of them is in training: a split for few-shot learning."""
        held_out = {label for name in ("val", "test") for label in self.splits.get(name, {})}
        return bool(held_out) and held_out.isdisjoint(self.splits["train"])

    @property
    def disputed_files(self) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
        """Groups of files with the same bytes and different labels, and those labels."""
        labels: dict[str, set[str]] = {file: set() for group in self.duplicate_files for file in group}
        if labels:
            for row in np.flatnonzero(np.isin(self.manifest.files, text_column(sorted(labels)))).tolist():
                labels[str(self.manifest.files[row])] |= set(self.manifest.labels[row])
        groups = [(group, [labels[file] for file in group]) for group in self.duplicate_files]
        return tuple((group, tuple(sorted(set().union(*sets)))) for group, sets in groups if any(one != sets[0] for one in sets))

    @property
    def similar_labels(self) -> tuple[tuple[str, ...], ...]:
        """Groups of labels that differ only in case, spaces or the composition of accents."""
        groups: dict[str, list[str]] = {}
        for name in sorted(self.labels):
            groups.setdefault(" ".join(unicodedata.normalize("NFC", name).casefold().split()), []).append(name)
        return tuple(tuple(names) for names in groups.values() if len(names) > 1)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each finding that the user should check."""
        lines = [f"{len(self.errors)} files or rows cannot be used and are left out"] if self.errors else []
        lines += self.manifest.notes
        for names in self.similar_labels:
            lines.append(f"classes differ only in case or spaces: {' and '.join(map(repr, names))}; are they one class?")
        if self.cut_rows:
            lines.append(f"{self.cut_rows} rows end behind the end of their file and are cut there")
        if self.classes_apart:
            lines.append("no class of val and test is in training: right for learning from few examples, else a mistake")
        disputed = [f"{' = '.join(group)} ({' and '.join(labels)})" for group, labels in self.disputed_files]
        found: list[tuple[str, Sequence[str]]] = [
            ("classes have a single example", [name for name, number in self.labels.items() if number == 1]),
            ("rows are given more than once", self.repeated_rows),
            ("groups of files have the same bytes", [" = ".join(group) for group in self.duplicate_files]),
            ("groups of files have the same bytes and different labels", disputed),
            ("pairs of files are one sound at another level, rate or format", [" ~ ".join(pair) for pair in self.copied_files]),
            *((f"classes of {split} are absent from training", labels) for split, labels in self.absent_from_training.items()),
            (
                "files, groups or contents are in more than one split",
                [f"{leak.kind} {leak.what} in {' and '.join(leak.splits)}" for leak in self.leaks],
            ),
        ]
        lines += [f"{len(names)} {what}: {some(names)}" for what, names in found if names]
        return tuple(lines)

    def to_json(self) -> str:
        """JSON text of everything but the rows themselves."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "manifest"}
        plain |= {name: round(plain[name], 6) for name in ("shortest_seconds", "median_seconds", "longest_seconds")}
        plain |= {
            "rows": len(self.manifest),
            "total_seconds": round(self.total_seconds, 3),
            "errors": [{"file": str(error.path), "reason": error.reason} for error in self.errors],
            "leaks": [asdict(leak) for leak in self.leaks],
            "similar_labels": self.similar_labels,
            "absent_from_training": self.absent_from_training,
            "warnings": self.warnings,
        }
        return json.dumps(plain, ensure_ascii=False, indent=1)

    def summary(self) -> str:
        """A page of plain text."""
        rates = ", ".join(f"{number} at {rate} Hz" for rate, number in self.sample_rates.items())
        lines = [
            f"{len(self.manifest)} of {self.rows_given} rows, {sum(self.sample_rates.values())} of {self.files_given} files, "
            f"{self.total_seconds / 3600:.2f} h",
            f"files last {self.shortest_seconds:.2f} to {self.longest_seconds:.2f} s, median {self.median_seconds:.2f} s",
            f"sample rates: {rates}; channels: {', '.join(f'{n} with {c}' for c, n in self.channels.items())}",
        ]
        if self.labels:
            lines.append(_class_table(self.labels, self.splits))
        else:
            sizes = ", ".join(f"{name} {number}" for name, number in self.split_rows.items())
            lines.append(f"no labels; rows: {sizes}" if sizes else "no labels")
        lines += [f"warning: {line}" for line in self.warnings]
        lines += [f"left out: {error}" for error in self.errors[:SHOWN]]
        if len(self.errors) > SHOWN:
            lines.append(f"left out: {len(self.errors) - SHOWN} more")
        return "\n".join(lines)


def describe(
    manifest: Manifest,
    found: Found,
    *,
    copies: list[tuple[int, int]],
    rows_given: int,
    repeated_rows: tuple[str, ...],
    cut_rows: int,
    errors: tuple[AudioError, ...],
) -> ValidationReport:
    """The report on the good rows and their files."""
    good = ~np.isnan(found.seconds)
    seconds = found.seconds[good]
    return ValidationReport(
        manifest=manifest,
        errors=errors,
        rows_given=rows_given,
        files_given=len(found.files),
        total_seconds=float(seconds.sum()),
        shortest_seconds=float(seconds.min()),
        median_seconds=float(np.median(seconds)),
        longest_seconds=float(seconds.max()),
        sample_rates=_tally(found.sample_rates[good]),
        channels=_tally(found.channels[good]),
        encodings=dict(sorted(found.encodings.items())),
        labels=manifest.labels.counts(),
        repeated_rows=repeated_rows,
        cut_rows=cut_rows,
        content_compared=bool((found.content != "").any()),
        duplicate_files=_same_content(found.files[good], found.content[good]),
        copied_files=tuple(sorted((str(found.files[a]), str(found.files[b])) for a, b in copies)),
        leaks=leakage(manifest),
        **_split_counts(manifest),
    )


def _same_content(files: np.ndarray, content: np.ndarray) -> tuple[tuple[str, ...], ...]:
    files, content = files[content != ""], content[content != ""]
    _, codes, number = np.unique(content, return_inverse=True, return_counts=True)
    groups: dict[int, list[str]] = {}
    for place in np.flatnonzero(number[codes] > 1):
        groups.setdefault(int(codes[place]), []).append(str(files[place]))
    return tuple(sorted(tuple(sorted(group)) for group in groups.values()))


def _split_counts(manifest: Manifest) -> dict[str, Any]:
    if not (manifest.splits != "").any():
        return {"splits": {}, "split_rows": {}}
    rows = {name: np.flatnonzero(manifest.splits == name) for name in SPLITS}
    return {
        "splits": {name: manifest.labels.take(chosen).counts() for name, chosen in rows.items()},
        "split_rows": {name: len(chosen) for name, chosen in rows.items()},
    }


def _tally(values: np.ndarray) -> dict[str, int]:
    kinds, number = np.unique(values, return_counts=True)
    return {str(kind): int(n) for kind, n in zip(kinds, number, strict=True)}


def _class_table(labels: dict[str, int], splits: dict[str, dict[str, int]]) -> str:
    """Rows per class: columns class, rows, and one per split."""
    width = max([len("class"), *map(len, labels)])
    names = SPLITS if splits else ()
    lines = ["  ".join([f"{'class':<{width}}", f"{'rows':>8}", *(f"{name:>8}" for name in names)])]
    for label, number in labels.items():
        counts = [splits[name].get(label, 0) for name in names]
        lines.append("  ".join([f"{label:<{width}}", f"{number:>8}", *(f"{n:>8}" for n in counts)]))
    return "\n".join(lines)
