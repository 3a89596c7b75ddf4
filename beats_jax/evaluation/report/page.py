"""What a report shows, without how it looks: a page of plain blocks, which `html` and `markdown` turn into text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from beats_jax.evaluation.metrics.result import Estimate, format_estimate
from beats_jax.files import write_text

Cell = str | int | float | Estimate | None


class Bold(str):
    """A part of a sentence that is set in bold."""


@dataclass(frozen=True)
class Paragraph:
    """Plain text; "note": soft and small."""

    text: str
    style: Literal["plain", "note", "code"] = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list of plain sentences."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header, () = none; columns from `numbers_from` on are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers_from: int = 1
    last_is_total: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture. It is drawn (to a data URI) only where it can be shown; elsewhere the table `instead` stands, if any.

    Attributes:
      description: for screen readers. size: "half" figures stand side by side where there is room.
    """

    draw: Callable[[], str]
    description: str
    caption: str = ""
    instead: Table | None = None
    size: Literal["full", "half"] = "full"


class Example(NamedTuple):
    """A clip to be shown. `waveform`: float [samples], or None where the file could not be read again."""

    file: str
    start_seconds: float
    label: str
    prediction: str
    probability: float  # of an error the confidence in it (`result.WorstError`), otherwise that of the prediction
    waveform: np.ndarray | None
    sample_rate: int
    fbank: np.ndarray | None = None  # float [F, M], the model's input; None = not shown
    picture: bytes | None = None  # PNG or JPEG in place of the spectrogram that the page draws


class Card(NamedTuple):
    """A clip under its story, a sentence in parts."""

    story: Sequence[str]
    example: Example


@dataclass(frozen=True)
class Cards:
    """Clips with picture and player, in groups of (heading or "", cards)."""

    note: str
    groups: Sequence[tuple[str, Sequence[Card]]]


@dataclass(frozen=True)
class Settings:
    """Nested settings, folded."""

    values: Mapping[str, object]


Block = Paragraph | Bullets | Table | Figure | Cards | Settings


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
      subtitle: the facts in one line. tiles: headline metrics. note: on the tiles.
      findings: sentences. sections: what is particular to this report; None is left out.
      errors: (file, reason) of the files that could not be used; None = a report without such a list.
      settings: nested mappings; empty = none are shown.
      versions: package -> version. provenance: further facts, such as the state of the code.
    """

    title: str
    findings: Sequence[str]
    sections: Sequence[Section | None]
    command: str
    versions: Mapping[str, str]
    subtitle: str = ""
    tiles: Sequence[tuple[str, Estimate]] = ()
    note: str = ""
    errors: Sequence[tuple[str, str]] | None = None
    settings: Mapping[str, object] | None = None
    provenance: Mapping[str, str] | None = None

    def all_sections(self) -> list[Section]:
        """Findings, the report's own sections, bad files, settings and how it was made."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        facts = [f"{name}: {fact}" for name, fact in (self.provenance or {}).items()]
        made = [Paragraph(self.command, "code"), *(Paragraph(line, "note") for line in (versions, *facts))]
        return [
            Section("Findings", [Bullets(self.findings)]),
            *(section for section in self.sections if section is not None),
            *([] if self.errors is None else [_bad_files(self.errors)]),
            *([Section("Settings", [Settings(self.settings)])] if self.settings else []),
            Section("How this was made", made),
        ]


def _bad_files(errors: Sequence[tuple[str, str]]) -> Section:
    if not errors:
        return Section("Bad files", [Paragraph("None: every file could be used.")])
    return Section("Bad files", [Table(("file", "reason"), errors, numbers_from=2)])


def pairs_table(values: Mapping[str, object]) -> Table:
    """Names and values without a header; a mapping as value stands in one line."""

    def flat(value: object) -> str:
        return ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, Mapping) else str(value)

    return Table((), [(name, flat(value)) for name, value in values.items()], numbers_from=2)


def cell_texts(cell: Cell) -> tuple[str, str]:
    """(text, small text beside it): floats with three digits, an undefined number as "-", an interval in small print."""
    if isinstance(cell, Estimate):
        return format_estimate(cell)
    if cell is None:
        return "-", ""
    return (f"{cell:.3f}" if isinstance(cell, float) else str(cell)), ""


def flat_settings(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """(dotted name, value) of nested mappings."""
    pairs: list[tuple[str, object]] = []
    for name, value in settings.items():
        pairs += flat_settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return pairs


def write_page(path: str | Path, page: Page) -> None:
    """Writes the page at once or not at all: Markdown where the name ends in .md, otherwise one HTML file."""
    from beats_jax.evaluation.report import html, markdown

    render = markdown.render if Path(path).suffix == ".md" else html.render
    write_text(path, render(page))
