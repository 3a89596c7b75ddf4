"""Recordings as waveforms: read a window, stream hours, decode a stretch in blocks, read a header, write a WAV.

    file -> decoder (libsndfile for WAV and AIFF, PyAV for the rest; the content decides): float32 [n, channels] at its own rate
         -> channel: mean or one of them -> soxr, from the file's own rate -> waveform float32 [samples] at `sample_rate`

Times are seconds of sound: sample k of the result lies at k / sample_rate seconds. A window is resampled together with its
surroundings, so that it equals the same slice of the whole resampled file (to float rounding).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from beats_jax.audio.decoding.decoders import NO_SAMPLES, open_decoder
from beats_jax.audio.decoding.tfds_records import is_present, is_record, record_bytes
from beats_jax.audio.files import find_audio
from beats_jax.audio.recording import END, AnyPath, AudioError, AudioInfo, Decoder, name_surprises
from beats_jax.audio.resampling import native_range, resample, resample_stream, resampled_length
from beats_jax.errors import UserError
from beats_jax.files import write_bytes

__all__ = ["AudioError", "AudioInfo", "audio_info", "blocks", "find_audio", "is_present", "is_record"]
__all__ += ["mono_blocks", "raw_blocks", "read", "stream", "write_wav"]

LARGEST_SAMPLE = 2.0**16  # full scale is 1; floats in the scale of 16 bit integers pass, and `survey` reports them
RAW_BLOCK_BYTES = 1 << 20


def audio_info(path: AnyPath) -> AudioInfo:
    """Rate, channels, and the exact length, which a compressed file's header only estimates (up to 4 % off).

    WAV, AIFF and M4A need their header; FLAC, Ogg, MP3 and AAC a pass without decoding (milliseconds); WMA, Matroska and others
    are decoded whole (1 s for 20 minutes).

    Raises:
      AudioError: missing, empty, unreadable, no samples, or a container that holds less than it promises, where that shows.
    """
    with open_decoder(path) as decoder, name_surprises(path, "decoded"):
        info = decoder.count_samples()
        if info.frames <= 0:
            raise AudioError(path, NO_SAMPLES)
        return info


def read(
    path: AnyPath, *, sample_rate: int, start_seconds: float = 0.0, seconds: float | None = None, channel: str = "mean"
) -> np.ndarray:
    """Reads a window of a recording, and decodes only what codec and resampler need for it where the format allows that.

    Args:
      sample_rate: rate of the result in Hz.
      start_seconds: start of the window, rounded to a sample of the result.
      seconds: its length; None = to the end.
      channel: "mean" of all channels, or the number of one counted from "0".
    Returns:
      float32 [samples], samples = round(seconds * sample_rate), or fewer where the file ends earlier. Full scale is +-1; floats
      beyond it are not clipped.
    Raises:
      AudioError: as `audio_info`; NaN or infinite samples; fewer samples than promised; start past the end; no such channel.
      UserError: a negative start, a length that is not positive, or a channel that is neither "mean" nor a number.
    """
    _require_request(sample_rate, start_seconds=start_seconds, window_seconds=seconds, channel=channel)
    path = Path(path)
    first = round(start_seconds * sample_rate)
    last = END if seconds is None else first + round(seconds * sample_rate)
    with open_decoder(path) as decoder:
        native_rate = decoder.info.sample_rate
        start, stop = native_range(first, last, native_rate, sample_rate)
        blocks = list(_mono_blocks(path, decoder, start, stop, channel))
        native = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        if len(native) < stop - start:  # the end of the sound
            last = min(last, resampled_length(start + len(native), native_rate, sample_rate) if len(native) else 0)
        if first >= last:
            raise _past_the_end(path, decoder, start_seconds)
    offset = start * sample_rate // native_rate  # whole, see native_range
    return resample(native, native_rate, sample_rate)[first - offset : last - offset]


def stream(
    path: AnyPath, *, sample_rate: int, window_seconds: float, hop_seconds: float | None = None, channel: str = "mean"
) -> Iterator[tuple[float, np.ndarray]]:
    """Reads a recording of any length window by window, with memory for about two windows.

    Window k starts at round(k * hop_seconds * sample_rate) samples; `hop_seconds` None = `window_seconds`, and it may be larger.
    The last window is shorter when the sound ends within it; one that would only repeat the end of the one before is left out.

    Yields:
      (start in seconds, float32 [samples]).
    Raises:
      AudioError: as `read`, when the damage is reached.
      UserError: a length or hop that is not positive, or a bad channel.
    """
    hop_seconds = window_seconds if hop_seconds is None else hop_seconds
    _require_request(sample_rate, window_seconds=window_seconds, hop_seconds=hop_seconds, channel=channel)
    return _windows(Path(path), sample_rate, window_seconds, hop_seconds, channel)


def blocks(
    path: AnyPath, *, sample_rate: int, channel: str = "mean", start_seconds: float = 0.0, end_seconds: float | None = None
) -> Iterator[np.ndarray]:
    """Decodes a stretch of a recording once, in order and in constant memory.

    Args:
      end_seconds: end of the stretch, rounded to a sample of the result; None, or past the end of the sound = its end.
    Yields:
      float32 [n], n >= 1; joined they equal `read` of the same stretch (to float rounding).
    Raises:
      AudioError: as `read`, when the damage is reached.
      UserError: a negative start, an end that is not behind it, or a bad channel.
    """
    length = None if end_seconds is None else end_seconds - start_seconds
    _require_request(sample_rate, start_seconds=start_seconds, window_seconds=length, channel=channel)
    last = END if end_seconds is None else round(end_seconds * sample_rate)
    return _resampled_blocks(Path(path), sample_rate, channel, round(start_seconds * sample_rate), last)


@contextmanager
def mono_blocks(path: AnyPath, channel: str = "mean") -> Iterator[tuple[AudioInfo, Iterator[np.ndarray]]]:
    """The whole recording at its own rate: (info, blocks float32 [n]). Raises as `audio_info`, and while it is read as `read`."""
    _require_request(1, channel=channel)
    path = Path(path)
    with open_decoder(path) as decoder:
        with name_surprises(path, "decoded"):
            info = decoder.count_samples()
        yield info, _mono_blocks(path, decoder, 0, END, channel)


def raw_blocks(path: AnyPath) -> Iterator[bytes]:
    """The stored bytes of a recording, block by block. Raises `OSError`, or `AudioError` for a record of TFDS."""
    if is_record(path):
        yield record_bytes(path)
        return
    with open(path, "rb") as file:
        while block := file.read(RAW_BLOCK_BYTES):
            yield block


def write_wav(path: AnyPath, waveform: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Writes a WAV file, whole or not at all. Reading a file and writing it again changes nothing.

    Args:
      waveform: float [samples] or [samples, channels], full scale +-1.
      subtype: PCM_U8, PCM_16, PCM_24, PCM_32, FLOAT or DOUBLE.
    Raises:
      ValueError: unknown subtype, or NaN or infinity for an integer subtype.
      UserError: it cannot be written.
    """
    bits = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 0, "DOUBLE": 0}
    if subtype not in bits:
        raise ValueError(f"subtype is {subtype!r}; allowed: {', '.join(bits)}")
    waveform = np.asarray(waveform)
    if bits[subtype]:
        if not np.isfinite(waveform).all():
            raise ValueError(f"{path}: NaN or infinite samples cannot be written as {subtype}")
        scale = 2.0 ** (bits[subtype] - 1)
        integers = np.clip(np.rint(waveform.astype(np.float64) * scale), -scale, scale - 1).astype(np.int64)
        waveform = (integers << (32 - bits[subtype])).astype(np.int32)  # libsndfile keeps the upper bits
    encoded = io.BytesIO()
    soundfile.write(encoded, waveform, sample_rate, subtype=subtype, format="WAV")
    write_bytes(Path(path), encoded.getvalue())


def _mono_blocks(path: Path, decoder: Decoder, start: int, stop: int, channel: str) -> Iterator[np.ndarray]:
    """Yields float32 [n] of native frames start..stop, or to the end. Raises `AudioError` for samples that no sound can have."""
    info = decoder.info
    if channel != "mean" and int(channel) >= info.channels:
        raise AudioError(path, f"has no channel {channel}: it has {info.channels}, counted from 0")
    position = start
    decoded = decoder.blocks(start, stop)
    while True:
        with name_surprises(path, "decoded"):
            block = next(decoded, None)
        if block is None:
            return
        with np.errstate(invalid="ignore", over="ignore"):  # reported below
            mono = block.mean(axis=1, dtype=np.float32) if channel == "mean" else block[:, int(channel)]
            largest = np.abs(mono).max(initial=0)  # NaN where one is
        if not largest <= LARGEST_SAMPLE:
            bad = int(np.argmin(np.abs(mono) <= LARGEST_SAMPLE))
            if bad:  # the sound before the damage is good
                yield np.ascontiguousarray(mono[:bad])
            raise AudioError(path, _unusable(float(mono[bad]), (position + bad) / info.sample_rate))
        position += len(mono)
        yield np.ascontiguousarray(mono)


def _unusable(sample: float, seconds: float) -> str:
    if not math.isfinite(sample):
        return f"NaN or infinite samples, first at {seconds:.3f} s"
    return f"sample {sample:g} at {seconds:.3f} s: full scale is 1, beyond {LARGEST_SAMPLE:g} is no sound; write the file again"


def _past_the_end(path: Path, decoder: Decoder, start_seconds: float) -> AudioError:
    with name_surprises(path, "decoded"):
        info = decoder.count_samples()
    if info.frames <= 0:
        return AudioError(path, NO_SAMPLES)
    return AudioError(path, f"window starts at {start_seconds:g} s, past the end at {info.seconds:g} s")


def _resampled_blocks(path: Path, sample_rate: int, channel: str, first: int = 0, last: int = END) -> Iterator[np.ndarray]:
    """Yields samples first..last of the file at `sample_rate`; equal to resampling the whole file in one call."""
    with open_decoder(path) as decoder:
        native_rate = decoder.info.sample_rate
        start, stop = native_range(first, last, native_rate, sample_rate)
        position = start * sample_rate // native_rate  # whole, see native_range
        for block in resample_stream(_mono_blocks(path, decoder, start, stop, channel), native_rate, sample_rate):
            kept = block[max(0, first - position) : max(0, last - position)]
            position += len(block)
            if len(kept):
                yield kept
        if position <= first:
            raise _past_the_end(path, decoder, first / sample_rate)


def _windows(
    path: Path, sample_rate: int, window_seconds: float, hop_seconds: float, channel: str
) -> Iterator[tuple[float, np.ndarray]]:
    length = round(window_seconds * sample_rate)
    held = np.zeros(0, np.float32)  # samples position .. position + len(held)
    waiting: list[np.ndarray] = []
    position = number = covered = 0
    for block in _resampled_blocks(path, sample_rate, channel):
        waiting.append(block)
        start = round(number * hop_seconds * sample_rate)
        end = position + len(held) + sum(map(len, waiting))
        if end <= start:  # a hop longer than the window: drop the sound between
            held, waiting, position = held[:0], [], end
        if end < start + length:
            continue
        held = np.concatenate([held, *waiting])
        waiting = []
        while position + len(held) >= start + length:
            covered = start + length
            yield start / sample_rate, held[start - position : covered - position].copy()
            number += 1
            start = round(number * hop_seconds * sample_rate)
        dropped = min(start - position, len(held))
        held, position = held[dropped:].copy(), position + dropped
    held = np.concatenate([held, *waiting])
    start = round(number * hop_seconds * sample_rate)
    if position + len(held) > max(start, covered):
        yield start / sample_rate, held[start - position :]


def _require_request(
    sample_rate: int,
    *,
    channel: str,
    start_seconds: float = 0.0,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
) -> None:
    if sample_rate < 1:
        raise UserError(f"sample_rate is {sample_rate}; it must be at least 1 Hz")
    if channel != "mean" and not (channel.isascii() and channel.isdecimal()):
        raise UserError(f"channel is {channel!r}; it must be 'mean' or a channel number counted from 0")
    if not (0 <= start_seconds < math.inf):
        raise UserError(f"start_seconds is {start_seconds}; it must not be negative")
    for name, value in (("length of a window", window_seconds), ("hop", hop_seconds)):
        if value is not None and not (0.5 < value * sample_rate < math.inf):
            raise UserError(f"{name} is {value} s; it must be at least one sample")
