"""Synthetic recordings: animal calls at a chosen signal-to-noise ratio over field noise, with the times of every call.

They need no download and are the same everywhere for the same seed; quickstart and the tests learn from them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from beats_jax.audio.io import write_wav
from beats_jax.audio.recording import AnyPath
from beats_jax.audio.synthetic_sounds import BACKGROUNDS, CALLS
from beats_jax.config.schema import SyntheticConfig, require
from beats_jax.errors import UserError
from beats_jax.files import whole_folder

__all__ = ["BACKGROUNDS", "CALLS", "Event", "SyntheticClip", "synthesize", "write_dataset"]

BACKGROUND_LEVEL = 0.02  # root mean square of the background: -34 dB of full scale
PEAK = 0.95  # louder clips are turned down as a whole
CALL_SECONDS = (0.5, 1.2)  # shortest and longest call, as far as the clip allows
LARGEST_SHARE = 0.8  # of the clip that one call may take


@dataclass(frozen=True)
class Event:
    """One call: its class and its place in the clip."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class SyntheticClip:
    """waveform: float32 [samples], |x| <= 0.95; events: one per label, in their order."""

    waveform: np.ndarray
    sample_rate: int
    events: tuple[Event, ...]


def synthesize(
    seed: int | Sequence[int],
    *,
    labels: Sequence[str],
    seconds: float,
    sample_rate: int,
    snr_db: float,
    background: str | None = None,
) -> SyntheticClip:
    """Makes one clip.

    Args:
      seed: not negative. It alone decides the background, so the clip with no labels is the background of the others.
      labels: names in `CALLS`, none for noise only; calls have their own places and lengths, and may overlap.
      seconds, sample_rate: the clip has round(seconds * sample_rate) samples.
      snr_db: 10 log10 of the power of a call over that of the background during the call.
      background: a name in `BACKGROUNDS`; None = one of them by chance.
    Raises:
      UserError: an unknown call or background, or a clip of less than 25 ms.
    """
    samples = round(seconds * sample_rate)
    require(samples >= 2 and seconds >= 0.025, f"a synthetic clip of {seconds:g} s at {sample_rate} Hz is too short (25 ms)")
    for label in labels:
        require(label in CALLS, f"no synthetic call is named {label!r}; there are: {', '.join(CALLS)}")
    noise_seed, *call_seeds = np.random.SeedSequence(seed).spawn(1 + len(labels))
    rng = np.random.default_rng(noise_seed)
    chosen = str(rng.choice(list(BACKGROUNDS)))  # drawn always, so that naming a background changes nothing else
    background = chosen if background is None else background
    require(background in BACKGROUNDS, f"no background is named {background!r}; there are: {', '.join(BACKGROUNDS)}")
    noise = BACKGROUND_LEVEL * BACKGROUNDS[background](rng, samples, sample_rate)
    clip = noise.astype(np.float64)
    events = []
    for label, call_seed in zip(labels, call_seeds, strict=True):
        rng = np.random.default_rng(call_seed)
        shortest, longest = min(CALL_SECONDS[0], LARGEST_SHARE * seconds / 2), min(CALL_SECONDS[1], LARGEST_SHARE * seconds)
        call = CALLS[label](rng, rng.uniform(shortest, longest), sample_rate)
        start = int(rng.integers(samples - len(call) + 1))
        stop = start + len(call)
        power = np.mean(np.square(noise[start:stop], dtype=np.float64))
        clip[start:stop] += call * float(np.sqrt(10 ** (snr_db / 10) * power / np.mean(np.square(call))))
        events.append(Event(label, start / sample_rate, stop / sample_rate))
    clip *= min(1.0, PEAK / np.abs(clip).max())
    return SyntheticClip(clip.astype(np.float32), sample_rate, tuple(events))


def write_dataset(root: AnyPath, config: SyntheticConfig) -> Path:
    """Writes a labelled data set, whole or not at all: the same bytes for the same settings. Returns `root`.

    `audio/clip_00000.wav` ... (16 bit); `labels.csv` (filename,label: path from `root`, labels joined by ";"); `events.csv`
    (filename,start,end,label: seconds); `synthetic.json` (the settings). Classes are the first `num_classes` of `CALLS`, equally
    often. With `calls_per_clip` above 1 a clip has one to that many different calls. A `root` that already holds the data set of
    the same settings stays unchanged.

    Raises:
      UserError: settings out of range, or a `root` with something else in it.
    """
    root = Path(root)
    _require_settings(config)
    settings = json.dumps(asdict(config), indent=2) + "\n"
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        written = root / "synthetic.json"
        require(written.is_file() and written.read_text() == settings, f"{root} holds something else; give a new folder")
        return root
    with whole_folder(root) as temporary:
        (temporary / "audio").mkdir()
        _write_clips(temporary, config)
        (temporary / "synthetic.json").write_text(settings)
    return root


def _write_clips(root: Path, config: SyntheticConfig) -> None:
    labels_table, events_table = ["filename,label"], ["filename,start,end,label"]
    for number in range(config.num_classes * config.clips_per_class):
        rng = np.random.default_rng([config.seed, number, 0])
        labels = _labels(rng, number, config)
        clip = synthesize(
            [config.seed, number, 1],
            labels=labels,
            seconds=config.seconds,
            sample_rate=config.sample_rate,
            snr_db=rng.uniform(config.snr_db_low, config.snr_db_high),
        )
        name = f"audio/clip_{number:05d}.wav"
        write_wav(root / name, clip.waveform, config.sample_rate)
        labels_table.append(f"{name},{';'.join(labels)}")
        events_table += [f"{name},{event.start_seconds:.6f},{event.end_seconds:.6f},{event.label}" for event in clip.events]
    (root / "labels.csv").write_text("\n".join(labels_table) + "\n")
    (root / "events.csv").write_text("\n".join(events_table) + "\n")


def _labels(rng: np.random.Generator, number: int, config: SyntheticConfig) -> list[str]:
    """The clip's own class, and with `calls_per_clip` above 1 some of the others by chance."""
    classes = list(CALLS)[: config.num_classes]
    own = classes.pop(number % config.num_classes)
    more = rng.integers(min(config.calls_per_clip, config.num_classes))
    return [own, *(str(name) for name in rng.permutation(classes)[:more])]


def _require_settings(config: SyntheticConfig) -> None:
    classes, low, high = config.num_classes, config.snr_db_low, config.snr_db_high
    if not 1 <= classes <= len(CALLS):
        raise UserError(f"data.synthetic.num_classes is {classes}; there are {len(CALLS)} calls, so it must be 1 to {len(CALLS)}")
    for name in ("clips_per_class", "sample_rate", "calls_per_clip"):
        require(getattr(config, name) >= 1, f"data.synthetic.{name} is {getattr(config, name)}; it must be at least 1")
    require(config.seconds >= 0.025, f"data.synthetic.seconds is {config.seconds}; it must be at least 0.025")
    require(config.seed >= 0, f"data.synthetic.seed is {config.seed}; it must not be negative")
    require(low <= high, f"data.synthetic.snr_db_low {low:g} is above snr_db_high {high:g}")
