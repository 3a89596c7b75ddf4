"""The report of a generator: real beside drawn images, quality beside its floor, maps, ways between codes, and sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from beats_jax.evaluation.metrics.result import Estimate, format_estimate
from beats_jax.evaluation.report.figures.curves import History, Panel, curve_panels, history_series, with_lines
from beats_jax.evaluation.report.figures.images import image_rows, point_maps
from beats_jax.evaluation.report.page import (
    Bold,
    Card,
    Cards,
    Cell,
    Example,
    Figure,
    Page,
    Paragraph,
    Section,
    Table,
    pairs_table,
)

FASTER = 8  # times the speed of the second player of a sound
PLAYED_RATE = 16_000  # Hz: browsers refuse rates below 3 kHz
ALIKE, EASY = 0.6, 0.9  # area under the curve of a classifier of real and drawn: below, hardly told apart; from there on, at once
COPIES = 0.05  # share of copies from which a generator counts as repeating what it learnt
# Name → what it is, and what is good
MEANINGS = {
    "frechet": ("Fréchet distance", "near the floor"),
    "frechet_infinity": ("Fréchet distance, extrapolated over the number of images", "near the floor"),
    "kid": ("kernel distance, polynomial (KID), unbiased", "near the floor"),
    "kad": ("kernel distance, Gaussian (KAD), unbiased", "near the floor"),
    "precision": ("precision: drawn among real ones", "high"),
    "recall": ("recall: real among drawn ones", "high"),
    "density": ("density: neighbourhoods of real ones that a drawn one is in", "near 1"),
    "coverage": ("coverage: real ones with a drawn one near", "high"),
    "tell_apart": ("AUC of a classifier of real and drawn", "0.5; 1 = told apart at once"),
    "train_synthetic_test_real": ("accuracy of a classifier that learns drawn images, on real ones", "near the floor"),
    "label_fidelity": ("accuracy of a classifier that learns real images, on drawn ones", "near the floor"),
    "copies": ("copies of training images", "0.01, which chance gives"),
    "duplicates": ("drawn images near another drawn one", "near the floor"),
    "nearest": ("distance to the nearest training image, over that of held-out ones", "near 1; far below = copies"),
}


class ClassGrid(NamedTuple):
    """Real and drawn images of a class, float [n, bands, frames], dB; either may be empty."""

    name: str
    real: np.ndarray
    drawn: np.ndarray


class Map(NamedTuple):
    """Places [N, 2] of N images and the group of each, text [N]."""

    title: str
    places: np.ndarray
    groups: np.ndarray


class Pictures(NamedTuple):
    """What the pictures show. `place`: lowest and highest Hz, and seconds, of an image."""

    grids: Sequence[ClassGrid]
    both: Sequence[Map]
    codes: Sequence[Map]
    ways: Sequence[ClassGrid]
    place: tuple[float, float, float]


class Sound(NamedTuple):
    """A drawn image as sound, float32 [samples]; `convergence`: spectral convergence of Griffin-Lim."""

    label: str
    waveform: np.ndarray
    sample_rate: int
    convergence: float


def generation_page(
    *,
    kind: str,
    problems: Sequence[str],
    quality: Mapping[str, Any] | None,
    history: History,
    pictures: Pictures,
    sounds: Sequence[Sound],
    data_summary: Mapping[str, object],
    **fields: Any,
) -> Page:
    """The page.

    Args:
      problems: sentences on what went wrong in training.
      quality: `figures` and `floor` (name → `Estimate`), `embedding`, `drawn`, `held_out`; None = too few images to measure.
      fields: title, settings, errors, command and versions of `Page`.
    """
    panels = _panels(history)
    sections = [
        _quality(quality),
        _grids(pictures),
        Section("Training", [Figure(partial(curve_panels, panels), "figures against the step")]) if panels else None,
        _maps("Real and drawn in one reduction", pictures.both, "Illustrations: distances between far groups mean little."),
        _maps("Codes of held-out images", pictures.codes, "Colours are classes; an encoder is told the class, so they may mix."),
        _ways(pictures),
        _sounds(sounds),
        Section("Data", [pairs_table(data_summary)]),
    ]
    return Page(findings=findings(kind, problems, quality), sections=sections, **fields)


def findings(kind: str, problems: Sequence[str], quality: Mapping[str, Any] | None) -> list[str]:
    """The outcome in sentences; alarms are marked."""
    found = [f"Alarm: {problem}" for problem in problems]
    if quality is None:
        return [*found, "Quality was not measured: there are too few held-out images."]
    figures, floor = quality["figures"], quality["floor"]
    found.append(f"A classifier tells drawn from real images with an AUC of {_text(figures['tell_apart'])}: {_verdict(figures)}.")
    found.append(
        f"Fréchet distance to real images {_text(figures['frechet'])}; real images held out have {_text(floor['frechet'])}."
    )
    if "label_fidelity" in figures:
        found.append(
            f"A classifier of real images gives {_text(figures['label_fidelity'])} of the drawn ones the class they were drawn "
            f"for; of held-out real ones {_text(floor['label_fidelity'])}."
        )
    if figures["copies"].value > COPIES:
        found.append(f"Alarm: {100 * figures['copies'].value:.0f} % of the drawn images are nearly training images ({kind}).")
    return found


def _verdict(figures: Mapping[str, Estimate]) -> str:
    area = figures["tell_apart"].value or 0.0
    return "hardly told apart" if area < ALIKE else "told apart at once" if area >= EASY else "told apart, but not always"


def _text(estimate: Estimate) -> str:
    return " ".join(filter(None, format_estimate(estimate)))


def _quality(quality: Mapping[str, Any] | None) -> Section | None:
    if quality is None:
        return None
    figures, floor = quality["figures"], quality["floor"]
    rows: list[list[Cell]] = []
    for name, (meaning, good) in MEANINGS.items():
        if name in figures:
            rows.append([meaning, figures[name], floor[name], good])
    note = (
        f"{quality['drawn']} drawn and {quality['held_out']} held-out images against as many training images; embedding: "
        f"{quality['embedding']}. Floor: the same figure of the held-out images."
    )
    header = ("figure", "drawn", "floor", "good is")
    return Section("Quality", [Table(header, rows), Paragraph(note, "note")])


def _grids(pictures: Pictures) -> Section | None:
    if not pictures.grids:
        return None
    limits = _limits(pictures.grids)
    figures = []
    for grid in pictures.grids:
        rows = [("real", grid.real), ("drawn", grid.drawn)]
        draw = partial(image_rows, rows, pictures.place, limits)
        figures.append(Figure(draw, f"real and drawn spectrograms of {grid.name}", f"{grid.name}: held-out above, drawn below"))
    return Section("Real and drawn", figures)


def _ways(pictures: Pictures) -> Section | None:
    if not pictures.ways:
        return None
    limits = _limits(pictures.grids or pictures.ways)
    rows = [(grid.name, grid.drawn) for grid in pictures.ways]
    note = "From the code of one image to that of another of the same class, without texture."
    return Section("Between two codes", [Figure(partial(image_rows, rows, pictures.place, limits), note, note)])


def _limits(grids: Sequence[ClassGrid]) -> tuple[float, float]:
    """dB of the darkest and the brightest colour, by the real images where there are some."""
    values = np.concatenate([(grid.real if len(grid.real) else grid.drawn).reshape(-1) for grid in grids])
    low, high = np.percentile(values, (2, 99.8))
    return float(low), float(max(high, low + 1e-6))


def _maps(title: str, maps: Sequence[Map], note: str) -> Section | None:
    return Section(title, [Figure(partial(point_maps, maps), title, note)]) if maps else None


def _sounds(sounds: Sequence[Sound]) -> Section | None:
    if not sounds:
        return None
    from beats_jax.audio.resampling import resample

    cards = []
    for number, sound in enumerate(sounds):
        loud = sound.waveform / max(1e-9, float(np.abs(sound.waveform).max())) * 0.9
        rate = sound.sample_rate
        plain = (resample(loud, rate, PLAYED_RATE), PLAYED_RATE) if rate < PLAYED_RATE else (loud, rate)
        story = [Bold(sound.label), f", spectral convergence {sound.convergence:.3f}"]
        for speed, (waveform, played) in (("own speed", plain), (f"{FASTER} times faster", (loud, rate * FASTER))):
            example = Example(f"drawn {number}, {speed}", 0.0, sound.label, "", 0.0, waveform, played)
            cards.append(Card([*story, f", {speed}"], example))
    note = (
        "Griffin-Lim gives phases to the drawn magnitudes (spectral convergence: 0 = exact). Low calls are audible when faster."
    )
    return Section("Sounds", [Cards(note, [("", cards)])])


def _panels(history: History) -> list[Panel]:
    names = sorted({key for row in history for key in row if key not in ("step", "train/learning_rate")})
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.partition("/")[2], []).append(name)
    words = {"train": "training", "val": "held out"}
    panels = []
    for kind, keys in kinds.items():
        lines = [(words.get(key.partition("/")[0], key), *history_series(history, key)) for key in keys]
        panels.append(Panel(kind.replace("_", " ").capitalize(), lines))
    return with_lines(panels)
