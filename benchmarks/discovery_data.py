"""Sounds of kinds that are known to us and not to the method: regions of `birds`, clips of ESC-10, generated calls in noise."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.audio.io import read, write_wav
from beats_jax.audio.regions import RegionSettings, find_regions, suggested_settings
from beats_jax.audio.synth import BACKGROUNDS, CALLS, synthesize

RATE = 16_000
DISTRACTOR = "distractor"  # sounds of no kind: no two are alike
MARGIN = 0.1  # seconds of a recording kept before and behind a region
LONGEST = 3.0  # seconds of a region
PER_RECORDING = 6  # regions of a bird's recording, the loudest


@dataclass(frozen=True)
class Problem:
    """N sounds. files: WAVs of 16 kHz. labels: what people call them. recordings: the recording of each."""

    name: str
    files: list[Path]
    labels: np.ndarray
    recordings: np.ndarray

    def take(self, rows: np.ndarray) -> Problem:
        """Some of the sounds."""
        return Problem(self.name, [self.files[row] for row in rows], self.labels[rows], self.recordings[rows])


def birds(data: Path, folder: Path) -> Problem:
    """Regions of all recordings of all 20 species, with the settings that are suggested for the whole folder."""
    rows = list(csv.DictReader((data / "birds" / "labels.csv").open(encoding="utf-8")))
    paths = [data / "birds" / "audio" / row["filename"] for row in rows]
    settings = next(iter(suggested_settings(paths[::4], RegionSettings(sample_rate=RATE)).values()))
    found: list[tuple[np.ndarray, str, str]] = []
    for row, path in zip(rows, paths, strict=True):
        regions = find_regions(path, settings).nlargest(PER_RECORDING, "snr_db").sort_values("start")
        sound = read(path, sample_rate=RATE)
        for start, end in zip(regions["start"], regions["end"], strict=True):
            end = min(end, start + LONGEST)
            cut = sound[max(0, int((start - MARGIN) * RATE)) : int((end + MARGIN) * RATE)]
            found.append((cut, row["species"], row["recording"]))
    return _written("birds", found, folder)


def esc10(data: Path, folder: Path) -> Problem:
    """All clips of ESC-10, of 5 s."""
    rows = [row for row in csv.DictReader((data / "esc10" / "meta" / "esc50.csv").open()) if row["esc10"] == "True"]
    places = [data / "esc10" / "audio" / row["filename"] for row in rows]
    sounds = [read(path, sample_rate=RATE) for path in places]
    named = [(sound, row["category"], row["src_file"]) for sound, row in zip(sounds, rows, strict=True)]
    return _written("esc10", named, folder)


def calls(folder: Path, seed: int, per_kind: int = 30, distractors: int = 100, snr_db: tuple[float, float] = (0, 10)) -> Problem:
    """Ten kinds of generated calls over four kinds of noise, and sounds that are like no other, cut where they sound."""
    rng = np.random.default_rng([seed, 18])
    found: list[tuple[np.ndarray, str, str]] = []
    for number in range(len(CALLS) * per_kind):
        label = list(CALLS)[number % len(CALLS)]
        clip = synthesize([seed, number], labels=[label], seconds=2.0, sample_rate=RATE, snr_db=rng.uniform(*snr_db))
        event = clip.events[0]
        begin, stop = int((event.start_seconds - MARGIN) * RATE), int((event.end_seconds + MARGIN) * RATE)
        found.append((clip.waveform[max(0, begin) : stop], label, str(number)))
    for number in range(distractors):
        found.append((_distractor(rng, rng.uniform(*snr_db)), DISTRACTOR, f"d{number}"))
    return _written("calls", found, folder)


def _distractor(rng: np.random.Generator, snr_db: float) -> np.ndarray:
    """A burst of noise of a random band, rhythm and slope over background."""
    samples = int(rng.uniform(0.6, 1.3) * RATE)
    noise = BACKGROUNDS[str(rng.choice(list(BACKGROUNDS)))](rng, samples, RATE).astype(np.float64)
    time = np.arange(samples) / RATE
    low, high = np.sort(rng.uniform(200, 7500, 2))
    centre = low + (high - low) * (time / time[-1]) ** rng.uniform(0.3, 3)
    if rng.random() < 0.5:
        centre = centre[::-1]
    width = rng.uniform(0, 800)
    jitter = np.cumsum(rng.standard_normal(samples)) / np.sqrt(RATE) * width
    tone = np.sin(2 * np.pi * np.cumsum(centre + jitter) / RATE)
    rhythm = (np.sin(2 * np.pi * rng.uniform(0.5, 12) * time + rng.uniform(0, 6.3)) > rng.uniform(-1, 0.7)).astype(float)
    burst = (
        tone * np.convolve(rhythm, np.hanning(160) / 80, mode="same") * np.sin(np.pi * np.linspace(0, 1, samples)).clip(0) ** 0.3
    )
    burst *= np.sqrt(10 ** (snr_db / 10) * np.mean(noise**2) / max(np.mean(burst**2), 1e-9))
    both = noise + burst
    return (0.3 * both / np.abs(both).max()).astype(np.float32)


def half(problem: Problem, seed: int) -> Problem:
    """The sounds of half of the kinds, which stand for those that no encoder has met: another half for each seed."""
    kinds = np.unique(problem.labels)
    chosen = np.random.default_rng(seed).permutation(kinds)[: len(kinds) // 2]
    return problem.take(np.flatnonzero(np.isin(problem.labels, chosen)))


def known(name: str, folder: Path) -> Problem | None:
    """A problem that `folder` holds already."""
    table = folder / "problem.csv"
    if not table.is_file():
        return None
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    labels, recordings = (np.array([row[column] for row in rows]) for column in ("label", "recording"))
    return Problem(name, [folder / row["filename"] for row in rows], labels, recordings)


def _written(name: str, sounds: list[tuple[np.ndarray, str, str]], folder: Path) -> Problem:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (sound, label, _) in enumerate(sounds):
        files.append(folder / f"{number:05d}_{label.replace(' ', '_')}.wav")
        if not files[-1].is_file():
            write_wav(files[-1], np.asarray(sound, np.float32), RATE)
    with (folder / "problem.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "label", "recording"])
        table.writerows((path.name, label, recording) for path, (_, label, recording) in zip(files, sounds, strict=True))
    return Problem(name, files, np.array([each[1] for each in sounds]), np.array([each[2] for each in sounds]))
