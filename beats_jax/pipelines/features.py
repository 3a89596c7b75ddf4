"""One vector for each file, whatever their lengths: decoded in threads while the device computes, padded without effect.

files → windows (a file longer than `window_seconds` is cut into equal parts) → batches of similar length → `Model.embed` with
lengths → windows of a file put together: float32 [N, D]
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from beats_jax.audio.io import AudioError, audio_info, read
from beats_jax.errors import UserError
from beats_jax.models import registry
from beats_jax.weights.model import Model

PADDED_TO = 0.125  # batches are padded to powers of 1 + this, so that few lengths are compiled and little padding is computed
READ_AHEAD = 2  # batches
Files = Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class FileEmbeddings:
    """Vectors of N files.

    Attributes:
      vectors: float32 [N, D]; NaN where the file could not be read.
      seconds: float64 [N]; NaN likewise.
      errors: what was wrong with those.
    """

    vectors: np.ndarray
    seconds: np.ndarray
    errors: tuple[AudioError, ...]


def embed_files(
    model: Model,
    files: Files,
    *,
    pooling: str = "mean",
    layer: int = -1,
    batch_size: int = 8,
    window_seconds: float = 30.0,
    num_threads: int = 2,
) -> FileEmbeddings:
    """Embeds every file.

    Args:
      pooling, layer: as in `Model.embed`. Windows of one file are put together as its tokens would be: a mean of their means,
        weighted by their length; the larger of their maxima; the first one's first token; the last one's last.
      window_seconds: longest stretch that the model hears at once; a model that reads one number of frames hears that much.
    Raises:
      UserError: no files, or an unknown pooling or layer.
    """
    if not len(files):
        raise UserError("the list of files is empty; give at least one audio file")
    if batch_size < 1 or window_seconds <= 0:
        raise UserError(f"batch_size is {batch_size} and window_seconds {window_seconds}; both must be positive")
    parts: dict[int, np.ndarray] = {}
    errors: dict[int, AudioError] = {}
    with ThreadPoolExecutor(max(1, num_threads)) as threads:
        found = list(threads.map(_seconds_of, files))
        errors |= {i: value for i, value in enumerate(found) if isinstance(value, AudioError)}
        seconds = np.array([np.nan if isinstance(value, AudioError) else value for value in found], np.float64)
        windows = _Windows(seconds, min(window_seconds, _longest(model)))
        for chosen, sounds in _read_ahead(threads, model, files, windows, batch_size):
            good = [(w, sound) for w, sound in zip(chosen.tolist(), sounds, strict=True) if not isinstance(sound, AudioError)]
            for w, sound in zip(chosen.tolist(), sounds, strict=True):
                if isinstance(sound, AudioError):
                    errors.setdefault(int(windows.file[w]), sound)
            if good:
                embedded = np.asarray(model.embed(*_padded([sound for _, sound in good], model), pooling, layer))
                parts |= {w: vector for (w, _), vector in zip(good, embedded[: len(good)], strict=True)}
    vectors = np.full((len(files), model.num_features), np.nan, np.float32)
    for i in sorted(set(range(len(files))) - set(errors)):
        own = np.flatnonzero(windows.file == i)
        vectors[i] = _put_together(np.stack([parts[int(w)] for w in own]), windows.seconds[own], pooling)
    return FileEmbeddings(vectors, seconds, tuple(errors[i] for i in sorted(errors)))


class _Windows:
    """Equal parts of every file, none longer than `longest` seconds: `file` int [W], `start` and `seconds` float64 [W]."""

    def __init__(self, seconds: np.ndarray, longest: float) -> None:
        counts = np.where(np.isnan(seconds), 0, np.maximum(np.ceil(np.nan_to_num(seconds) / longest - 1e-9), 1)).astype(np.int64)
        self.file = np.repeat(np.arange(len(seconds)), counts)
        place = np.arange(len(self.file)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.seconds = seconds[self.file] / np.maximum(counts, 1)[self.file]
        self.start = place * self.seconds


def _longest(model: Model) -> float:
    """Seconds that a model hears at once at most: its fixed number of frames, else without limit."""
    settings = model.audio.filterbank
    frames = registry.fixed_frames(model.config) or settings.target_frames
    return (settings.frame_samples + (frames - 1) * settings.hop_samples) / settings.sample_rate if frames else np.inf


def _seconds_of(path: str | os.PathLike[str]) -> float | AudioError:
    try:
        return audio_info(path).seconds
    except AudioError as error:
        return error


def _read_ahead(
    threads: ThreadPoolExecutor, model: Model, files: Files, windows: _Windows, batch_size: int
) -> Iterator[tuple[np.ndarray, list[np.ndarray | AudioError]]]:
    """Batches of window numbers and their sounds, windows of similar length together, the longest first."""
    order = np.argsort(-windows.seconds, kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def sound(window: int) -> np.ndarray | AudioError:
        path, start, seconds = files[windows.file[window]], float(windows.start[window]), float(windows.seconds[window])
        try:
            return read(path, sample_rate=model.sample_rate, start_seconds=start, seconds=seconds, channel=model.audio.channel)
        except AudioError as error:
            return error
        except OSError as error:  # the file went away after its header was read
            return AudioError(path, f"cannot be read: {error.strerror or error}")

    pending: deque[tuple[np.ndarray, list[Future[np.ndarray | AudioError]]]] = deque()
    for batch in batches:
        pending.append((batch, [threads.submit(sound, int(window)) for window in batch]))
        if len(pending) > READ_AHEAD:
            chosen, futures = pending.popleft()
            yield chosen, [future.result() for future in futures]
    for chosen, futures in pending:
        yield chosen, [future.result() for future in futures]


def _padded(sounds: list[np.ndarray], model: Model) -> tuple[np.ndarray, np.ndarray]:
    """float32 [B, S] and int32 [B]: zeros behind every sound and empty rows at the end, B and S from short lists of sizes."""
    longest = max(model.min_samples, *(len(sound) for sound in sounds))
    steps = np.ceil(np.log(longest / model.min_samples) / np.log(1 + PADDED_TO) - 1e-9)
    samples = max(longest, int(np.ceil(model.min_samples * (1 + PADDED_TO) ** steps)))
    rows = 1 << (len(sounds) - 1).bit_length()
    waveforms, lengths = np.zeros((rows, samples), np.float32), np.zeros(rows, np.int32)
    for row, sound in enumerate(sounds):
        waveforms[row, : len(sound)], lengths[row] = sound, len(sound)
    return waveforms, lengths


def _put_together(parts: np.ndarray, seconds: np.ndarray, pooling: str) -> np.ndarray:
    """[W, D] vectors of the windows of one file, in their order → [D]."""
    if pooling == "max":
        return parts.max(axis=0)
    if pooling in ("first", "last"):
        return parts[0 if pooling == "first" else -1]
    return np.average(parts, axis=0, weights=seconds) if len(parts) > 1 else parts[0]
