"""Recordings with events of known time: sounds of `finch` and `birds` mixed into field noise of `soundscapes`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, sosfiltfilt

from beats_jax.audio.io import read
from beats_jax.datasets.tables.events import Events

RATE = 22_050  # of the noise; the mixtures have it too
FINCH_NOTES = ("0", "5", "6")  # the three with most renditions
BIRDS = ("Parus major", "Fringilla coelebs", "Corvus corone")
EXAMPLE_SNR = 12.0  # dB in band, as cut from a good moment of a field recording
PER_KIND = 15  # events of a kind in a recording
MARGIN = 0.05  # seconds of noise kept around a finch note


@dataclass(frozen=True)
class Problem:
    """Recordings to search, their true events, and a folder of examples for each label."""

    name: str
    recordings: list[Path]
    truth: Events
    examples: Path


def generated(data: Path, folder: Path, snrs: tuple[float, ...], seconds: float = 600.0, seed: int = 0) -> list[Problem]:
    """A problem for each SNR (dB in band): one recording of `seconds`, six kinds of events."""
    rng = np.random.default_rng(seed)
    kinds = {**finch_kinds(data), **bird_kinds(data)}
    clips = sorted((data / "soundscapes").glob("*.flac"))
    for_examples, for_mixtures = clips[::8], [clip for place, clip in enumerate(clips) if place % 8]
    examples = folder / "examples"
    few = 5
    for name, sounds in kinds.items():
        (examples / name).mkdir(parents=True, exist_ok=True)
        for number in range(few):
            call = variant(sounds, rng, number)
            noise = noise_of([for_examples[number % len(for_examples)]], len(call) / RATE, rng)
            soundfile.write(examples / name / f"{number}.flac", np.clip(mixed(noise, call, 0, EXAMPLE_SNR), -1, 1), RATE)
    problems = []
    for snr in snrs:
        sound = noise_of(list(rng.permutation(for_mixtures)), seconds, rng)  # type: ignore[arg-type]
        slots = np.sort(rng.choice(int(seconds / 2) - 2, len(kinds) * PER_KIND, replace=False)) * 2.0 + 1.0
        names = rng.permutation(np.repeat(list(kinds), PER_KIND)).tolist()
        counts = dict.fromkeys(kinds, few)  # renditions that the examples took are not used again
        rows = []
        for start, name in zip(slots, names, strict=True):
            call = variant(kinds[name], rng, counts[name])
            counts[name] += 1
            begin = int((start + rng.uniform(0, 0.3)) * RATE)
            mixed(sound, call, begin, snr)
            rows.append((begin / RATE, (begin + len(call)) / RATE, name))
        path = folder / f"snr{snr:g}.flac"
        soundfile.write(path, np.clip(sound, -1, 1), RATE)
        starts, ends, labels = zip(*rows, strict=True)
        problems.append(
            Problem(f"{snr:g} dB", [path], Events.from_columns([str(path)] * len(rows), starts, ends, labels), examples)
        )
    return problems


def finch_kinds(data: Path) -> dict[str, list[np.ndarray]]:
    """Renditions of three notes, each another one."""
    import pandas as pd

    table = pd.read_csv(data / "finch/annotations.csv", dtype={"label": str})
    kinds: dict[str, list[np.ndarray]] = {}
    for note in FINCH_NOTES:
        rows = table[table.label == note].iloc[:: max(1, (table.label == note).sum() // 60)].head(60)
        kinds[f"finch{note}"] = [
            cut(data / "finch/audio" / row.file, row.start, row.end) for row in rows.itertuples()  # type: ignore[arg-type]
        ]  # fmt: skip
    return kinds


def bird_kinds(data: Path) -> dict[str, list[np.ndarray]]:
    """The loudest half second of one recording a species; `variant` changes it for each event."""
    import pandas as pd

    table = pd.read_csv(data / "birds/labels.csv")
    kinds = {}
    for species in BIRDS:
        row = table[(table.species == species) & table.call_type.str.contains("call")].iloc[0]
        path = next(iter((data / "birds").rglob(row.filename)))
        sound = soxr.resample(read(path, sample_rate=RATE), RATE, RATE)
        sound = sosfiltfilt(butter(4, 500, "high", fs=RATE, output="sos"), sound)
        width = RATE // 2
        energy = np.convolve(sound**2, np.ones(width), "valid")
        first = int(energy.argmax())
        kinds[species.replace(" ", "_")] = [faded(sound[first : first + width])]
    return kinds


def cut(path: Path, start: float, end: float) -> np.ndarray:
    """A stretch of a file at `RATE`, with short fades."""
    return faded(read(path, sample_rate=RATE, start_seconds=start, seconds=end - start))


def faded(sound: np.ndarray) -> np.ndarray:
    edge = RATE // 200
    ramp = np.minimum(1, np.minimum(np.arange(len(sound)), np.arange(len(sound))[::-1]) / edge)
    return sound * ramp


def variant(sounds: list[np.ndarray], rng: np.random.Generator, number: int) -> np.ndarray:
    """Rendition `number`; where there is only one, it is played up to 4 % faster or slower."""
    if len(sounds) > 1:
        return sounds[number % len(sounds)]
    factor = float(rng.uniform(0.96, 1.04))
    return faded(soxr.resample(sounds[0], RATE, round(RATE * factor)))


def noise_of(clips: list[Path], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Clips one behind the other, each faded over 0.1 s into the next; repeated where they do not suffice."""
    samples, edge = round(seconds * RATE), RATE // 10
    result = np.zeros(samples + edge)
    place = number = 0
    while place < samples:
        clip = read(clips[number % len(clips)], sample_rate=RATE)
        if samples < len(clip) // 2:
            first = int(rng.integers(len(clip) - samples))
            return np.array(clip[first : first + samples], np.float64)
        ramp = np.clip(np.minimum(np.arange(len(clip)), np.arange(len(clip))[::-1]) / edge, 0, 1)
        part = (clip * ramp)[: len(result) - place]
        result[place : place + len(part)] += part
        place, number = place + len(clip) - edge, number + 1
    return result[:samples]


def mixed(noise: np.ndarray, call: np.ndarray, begin: int, snr: float) -> np.ndarray:
    """Adds a call so that its power in its own band (90 % of its energy) and the noise's differ by `snr` dB, in place."""
    here = noise[begin : begin + len(call)]
    call = call[: len(here)]
    power = np.abs(np.fft.rfft(call)) ** 2
    share = np.cumsum(power) / power.sum()
    band = slice(int(np.searchsorted(share, 0.05)), int(np.searchsorted(share, 0.95)) + 1)
    ratio = power[band].sum() / max(float((np.abs(np.fft.rfft(here)) ** 2)[band].sum()), 1e-12)
    noise[begin : begin + len(call)] = here + call * np.sqrt(10 ** (snr / 10) / ratio)
    return noise
