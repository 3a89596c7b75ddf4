"""Windows as pictures and as sound for a browser, whatever their rate: whales at 2 kHz, bats at 300 kHz.

file ─ audio.io.read at its own rate ─> Clip ─> spectrogram (PNG, decibels) | WAV, slower or faster where nobody could hear it
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beats_jax.audio.io import audio_info, read
from beats_jax.audio.resampling import resample

LONGEST_SECONDS = 60.0  # of a clip; more is no picture and no page
COLUMNS, ROWS = 800, 256  # of a picture
RANGE_DB = 70.0
FRAMES_AT_ONCE = 4096
AUDIBLE = (8_000, 48_000)  # sample rates, Hz, that every browser plays
SPEEDS = (1.0, 0.1, 4.0)


@dataclass(frozen=True)
class Clip:
    """Mono sound, float32 [samples], at the rate of its file; `start` is its place in the file in seconds."""

    waveform: np.ndarray
    sample_rate: int
    start: float

    @property
    def end(self) -> float:
        """Where it ends in its file, in seconds."""
        return self.start + len(self.waveform) / self.sample_rate


@dataclass(frozen=True)
class Picture:
    """A spectrogram as PNG, from `start` to `end` seconds and from 0 to `high_hz`; the first row is the highest frequency."""

    png: bytes
    start: float
    end: float
    high_hz: float


def read_clip(path: Path, start: float, end: float, context: float = 0.0) -> Clip:
    """A window with so many seconds of its recording before and behind; at most `LONGEST_SECONDS` from its start on.

    Raises:
      AudioError: the file is missing, or no sound can be read from it.
    """
    rate = audio_info(path).sample_rate
    first = max(0.0, start - context)
    seconds = min(end + context - first, LONGEST_SECONDS)
    return Clip(read(path, sample_rate=rate, start_seconds=first, seconds=max(seconds, 1 / rate)), rate, first)


def spectrogram(clip: Clip, high_hz: float = 0.0, columns: int = COLUMNS, rows: int = ROWS) -> Picture:
    """A clip in decibels, over frequencies that are evenly spaced.

    Short-time Fourier transform with a Hann window of about 23 ms (shorter at high rates), half overlapping; a column and a row
    of the picture hold the largest value of theirs, so that no short sound vanishes.

    Args:
      high_hz: highest frequency; 0 = half the sample rate.
    """
    power = _power(clip)
    high_hz = min(high_hz or np.inf, clip.sample_rate / 2)
    kept = power[: max(2, round((len(power) - 1) * high_hz / (clip.sample_rate / 2)) + 1)]
    level = 10 * np.log10(_largest(_largest(kept, rows, 0), columns, 1) + 1e-12)
    # The hum of wind and amplifiers is far above all calls, so that not the peak but most of the picture sets the range
    floor, top = (float(value) for value in np.percentile(level, (20, 99.9)))
    floor = min(max(top - RANGE_DB, floor), top - 1)
    shades = np.clip((level - floor) / (top - floor) * 255, 0, 255).astype(np.uint8)
    return Picture(_png(shades[::-1]), clip.start, clip.end, float(high_hz))


def usual_speed(sample_rate: int) -> float:
    """The speed of the player: ultrasound ten times slower, infrasound four times faster."""
    return 0.1 if sample_rate > 96_000 else 4.0 if sample_rate <= 4_000 else 1.0


def playable_wav(clip: Clip, speed: float = 1.0) -> bytes:
    """A clip as 16 bit WAV that every browser plays, at its peak just below full scale; `speed` changes its pitch, too."""
    playable = int(np.clip(round(clip.sample_rate * speed), *AUDIBLE))
    counts = np.round(playable_sound(clip, speed, playable) * 32767).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(playable)
        file.writeframes(counts.tobytes())
    return stream.getvalue()


def playable_sound(clip: Clip, speed: float, sample_rate: int) -> np.ndarray:
    """A clip at a speed as float32 [samples] of this rate, with its peak just below full scale."""
    rate = max(1, round(clip.sample_rate * speed))
    sound = clip.waveform if sample_rate == rate else resample(clip.waveform, rate, sample_rate)
    return sound / max(float(np.abs(sound).max(initial=0.0)), 1e-6) * 0.9


def _png(shades: np.ndarray) -> bytes:
    """Indices into 256 colours as PNG: a third of the bytes of one with three values a pixel."""
    import matplotlib
    from PIL import Image

    picture = Image.fromarray(shades, "P")
    colours = matplotlib.colormaps["magma"](np.arange(256))[:, :3]
    picture.putpalette((colours * 255).astype(np.uint8).tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def _power(clip: Clip) -> np.ndarray:
    """float32 [bins, frames] of squared magnitudes."""
    from scipy.fft import rfft  # numpy's computes in double precision, twice as long

    size = 2 ** int(np.clip(round(np.log2(clip.sample_rate * 0.023)), 6, 11))
    sound = np.pad(clip.waveform.astype(np.float32), (0, max(0, size - len(clip.waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[:: size // 2]
    window = np.hanning(size).astype(np.float32)
    parts = np.array_split(frames, -(-len(frames) // FRAMES_AT_ONCE))
    return np.concatenate([np.square(np.abs(np.asarray(rfft(part * window, workers=2)))) for part in parts]).T


def _largest(values: np.ndarray, most: int, axis: int) -> np.ndarray:
    """At most `most` entries along an axis: the largest of each group of neighbours."""
    if values.shape[axis] <= most:
        return values
    return np.maximum.reduceat(values, np.linspace(0, values.shape[axis], most, endpoint=False).astype(int), axis=axis)
