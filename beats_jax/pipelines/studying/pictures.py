"""One pass over the recordings: a log-mel picture of each, classical features, and facts of its level. Kept in one file.

Pictures are what a run of the same front-end reads (`audio.floor`), so that what is made of them can go to `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from beats_jax.audio.filterbank import filterbank, num_frames
from beats_jax.audio.io import AudioError, read
from beats_jax.config.schema import AudioConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.files import whole_file
from beats_jax.pipelines.studying.features import FACTS, PSD_BINS, clip_facts, clip_features, feature_names
from beats_jax.pipelines.studying.rows import StudyRows

BLOCK = 128  # clips at a time
THREADS = 4


@dataclass(frozen=True)
class Pictures:
    """Of N clips, in the order of the rows.

    Attributes:
      images: float32 [N, frames, bands], standardised clip by clip. features: float32 [N, K]. facts: float32 [N, len(FACTS)].
      psd: float32 [N, P], dB. readable: bool [N], False for a clip that could not be read: its other values are 0.
    """

    images: np.ndarray
    features: np.ndarray
    facts: np.ndarray
    psd: np.ndarray
    readable: np.ndarray


def make_pictures(rows: StudyRows, note: Callable[[AudioError], None], progress: Callable[[int, int], None]) -> Pictures:
    """Reads every clip once; `note` receives those that cannot be read any more."""
    number, config = len(rows.manifest), rows.audio.filterbank
    images = np.zeros((number, num_frames(samples_of(rows), config), config.num_mel_bins), np.float32)
    names = feature_names(config.sample_rate)
    features, facts = np.zeros((number, len(names)), np.float32), np.zeros((number, len(FACTS)), np.float32)
    psd, readable = np.zeros((number, PSD_BINS), np.float32), np.zeros(number, bool)
    for block, waveforms, errors in clip_blocks(rows, np.arange(number)):
        for error in errors:
            note(error)
        good = np.array([waveform is not None for waveform in waveforms])
        sounds = [waveform for waveform in waveforms if waveform is not None]
        if sounds:
            kept = block[good]
            images[kept] = picture_of(np.stack([fit_length(sound, samples_of(rows)) for sound in sounds]), config)
            for row, sound in zip(kept.tolist(), sounds, strict=True):
                features[row], psd[row] = clip_features(sound, config.sample_rate)
                facts[row] = clip_facts(sound, config.sample_rate)
            readable[kept] = True
        progress(int(block[-1]) + 1, number)
    return Pictures(images, features, facts, psd, readable)


def clip_blocks(rows: StudyRows, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, list[np.ndarray | None], list[AudioError]]]:
    """(rows int64 [b], their waveforms or None, errors), block by block, in order."""
    starts, _ = rows.manifest.bounds()

    def one(row: int) -> np.ndarray | AudioError:
        file, start = str(rows.manifest.files[row]), float(starts[row])
        end = float(rows.manifest.ends[row])
        seconds = rows.seconds if np.isnan(end) else min(rows.seconds, end - start)
        try:
            return read_clip(file, rows.audio, start, seconds)
        except (AudioError, OSError) as error:
            return error if isinstance(error, AudioError) else AudioError(file, f"cannot be read: {error.strerror or error}")

    with ThreadPoolExecutor(THREADS) as pool:
        for begin in range(0, len(chosen), BLOCK):
            block = chosen[begin : begin + BLOCK]
            found = list(pool.map(one, block.tolist()))
            yield (
                block,
                [x if isinstance(x, np.ndarray) else None for x in found],
                [x for x in found if isinstance(x, AudioError)],
            )


def read_clip(file: str, audio: AudioConfig, start: float, seconds: float) -> np.ndarray:
    """float32 [samples], one at least. Raises `AudioError` and `OSError` as `audio.io.read`."""
    sound = read(file, sample_rate=audio.sample_rate, start_seconds=start, seconds=seconds, channel=audio.channel)
    if not len(sound):
        raise AudioError(file, f"no sound at {start:g} s")
    return sound


def samples_of(rows: StudyRows) -> int:
    """Samples of a clip whose picture is made."""
    return max(1, round(rows.seconds * rows.audio.sample_rate))


def fit_length(sound: np.ndarray, samples: int) -> np.ndarray:
    """float32 [samples]: a shorter sound is repeated, so that no silence betrays its length."""
    return np.resize(sound, samples).astype(np.float32)


def picture_of(waveforms: np.ndarray, config: FilterbankConfig) -> np.ndarray:
    """float32 [B, frames, bands] of waveforms float32 [B, samples]; a constant sound gives zeros."""
    full = np.zeros((BLOCK, waveforms.shape[1]), np.float32)  # one compiled shape
    images = []
    for begin in range(0, len(waveforms), BLOCK):
        part = waveforms[begin : begin + BLOCK]
        full[: len(part)] = part
        images.append(np.asarray(filterbank(jnp.asarray(full), None, config)[0])[: len(part)])
    return np.concatenate(images)


def save_pictures(path: Path, pictures: Pictures) -> None:
    """Writes the pictures, whole or not at all; half precision holds them to 0.01."""
    arrays = {field.name: getattr(pictures, field.name) for field in fields(Pictures)}
    arrays["images"] = arrays["images"].astype(np.float16)
    with whole_file(path) as file:
        np.savez(file, **arrays)


def load_pictures(path: Path, number: int) -> Pictures | None:
    """The pictures of `number` clips; None where there are none yet. Raises `UserError` for a damaged file."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {field.name: stored[field.name] for field in fields(Pictures)}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it, and the pictures are made anew") from error
    if len(arrays["images"]) != number:
        raise UserError(f"{path} holds {len(arrays['images'])} pictures for {number} clips; delete it, and they are made anew")
    return Pictures(**{**arrays, "images": arrays["images"].astype(np.float32)})
