"""Images of sounds as darksound makes them, on the device: harmonic, percussive and delta parts of a mel spectrogram.

    waveforms f32 [B, S], lengths i32 [B] -> fades -> 3 s, centred -> mel power -> harmonic and percussive part, dB, delta
    -> each from 0 to 1 -> images f32 [B, 3, M, F], high frequencies first -> resized as a network reads them

Sources: ear-team/darksound `dataset.py` (V2), joachimpoutaraud/darksound `dataset/darksound.py` (V1), torchaudio transforms,
librosa decompose.hpss, util.softmask, amplitude_to_db and feature.delta. Some of its ways are kept for parity only: the fade goes
to the end of a sound that is then cut, and a power spectrogram is put through the formula for amplitudes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from beats_jax.config.rules import require
from beats_jax.config.schema import FilterbankConfig

SECONDS = 3.0
FADE_SECONDS = 0.1
HOP = 512  # samples
KERNEL = 31  # of the two median filters
MARGINS = (1.0, 5.0)  # by how much one part must exceed the other: harmonic, percussive
SMALLEST, RANGE_DB = 1e-5, 80.0
DELTA_FRAMES = 9
SHORT_SIDE, CROP = 256, 224  # torchvision's transform of the published ResNet-18
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Waveforms = Float[Array, "batch samples"]
Image = Float[Array, "bands frames"]


@dataclass(frozen=True)
class ImageVersion:
    """What differs between the two generations of darksound."""

    n_fft: int
    num_mel_bins: int
    channels: str  # in order: H harmonic, P percussive, D delta


V1 = ImageVersion(1024, 128, "HPD")
V2 = ImageVersion(2048, 256, "DHP")


def darksound_images(
    waveforms: Waveforms, lengths: Int[Array, " batch"], sample_rate: int, version: ImageVersion, *, hpss: bool = True
) -> Float[Array, "batch 3 bands frames"]:
    """Images of `SECONDS` of sound; at 48 kHz they have 282 frames.

    Args:
      waveforms: full scale +-1, any length. lengths: their real samples.
      hpss: False: the mel power in all three channels, without logarithm, as upstream gives it then.
    """
    sound = centred(faded(waveforms, lengths, int(sample_rate / 10)), lengths, round(SECONDS * sample_rate))
    mel = jax.vmap(lambda one: mel_power(one, sample_rate, version)[::-1])(sound)
    if not hpss:
        return jnp.repeat(mel[:, None], 3, axis=1)
    return jax.vmap(lambda one: separated(one, version.channels))(mel)


def faded(waveforms: Waveforms, lengths: Int[Array, " batch"], samples: int) -> Waveforms:
    """The first and last `samples` of every sound under a raised cosine (torchaudio's "half_sine"); zeros behind."""
    place = jnp.arange(waveforms.shape[1])[None]
    rise = [jnp.clip(at / (samples - 1), 0.0, 1.0) for at in (place, lengths[:, None] - 1 - place)]
    factors = [0.5 - 0.5 * jnp.cos(jnp.pi * x) for x in rise]
    return jnp.where(place < lengths[:, None], waveforms * factors[0] * factors[1], 0.0)


def centred(waveforms: Waveforms, lengths: Int[Array, " batch"], samples: int) -> Waveforms:
    """The first `samples` of a longer sound; a shorter one amid zeros, one more before than behind where they are odd."""
    padded = jnp.pad(waveforms, ((0, 0), (samples, samples)))
    left = jnp.maximum(samples - lengths + 1, 0) // 2
    return jax.vmap(lambda row, before: jax.lax.dynamic_slice(row, (samples - before,), (samples,)))(padded, left)


def mel_power(waveform: Float[Array, " samples"], sample_rate: int, version: ImageVersion) -> Image:
    """Mel power spectrogram, low frequencies first: centred frames with mirrored ends, HTK's scale, bands of equal area."""
    size, half = version.n_fft, version.n_fft // 2
    require(waveform.shape[0] > half, f"{waveform.shape[0]} samples are too few for frames of {size}; read at a higher rate")
    sound = jnp.pad(waveform, half, mode="reflect")
    count = 1 + waveform.shape[0] // HOP
    frames = sound[jnp.arange(count)[:, None] * HOP + jnp.arange(size)[None]]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    spectrum = jnp.fft.rfft(frames * window.astype(np.float32)[None])
    power = spectrum.real**2 + spectrum.imag**2
    return jnp.matmul(power, mel_weights(sample_rate, version), precision=jax.lax.Precision.HIGHEST).T


@lru_cache(maxsize=8)
def mel_weights(sample_rate: int, version: ImageVersion) -> np.ndarray:
    """f32 [n_fft / 2 + 1, M]: triangles that are linear in Hz between points equally spaced in mel = 2595 log10(1 + Hz / 700)."""
    nyquist = sample_rate / 2
    points = 700 * (10 ** (np.linspace(0, 2595 * math.log10(1 + nyquist / 700), version.num_mel_bins + 2) / 2595) - 1)
    hz = np.linspace(0, nyquist, version.n_fft // 2 + 1)[:, None]
    low, middle, high = points[None, :-2], points[None, 1:-1], points[None, 2:]
    triangles = np.maximum(0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
    return (triangles * 2 / (high - low)).astype(np.float32)


def separated(mel: Image, channels: str) -> Float[Array, "3 bands frames"]:
    """The parts of a spectrogram, each in dB below its maximum and stretched from 0 to 1; a part without contrast is 0."""
    harmonic, percussive = harmonic_percussive(mel)
    parts = {"H": decibels(harmonic), "P": decibels(percussive), "D": delta(decibels(mel))}
    return jnp.stack([_stretched(parts[name]) for name in channels])


def harmonic_percussive(spectrogram: Image) -> tuple[Image, Image]:
    """Parts that last in time and that spread in frequency, by medians along each axis and soft masks of power 2."""
    steady, sudden = median_along(spectrogram, axis=1), median_along(spectrogram, axis=0)
    return spectrogram * _soft_mask(steady, MARGINS[0] * sudden), spectrogram * _soft_mask(sudden, MARGINS[1] * steady)


def _soft_mask(own: Image, other: Image) -> Image:
    """own^2 / (own^2 + other^2); 0 where both are below the smallest normal number."""
    largest = jnp.maximum(own, other)
    some = largest >= np.finfo(np.float32).tiny
    scale = jnp.where(some, largest, 1.0)
    own, other = jnp.square(own / scale), jnp.square(other / scale)
    return jnp.where(some, own / jnp.where(some, own + other, 1.0), 0.0)


def decibels(amplitudes: Image) -> Image:
    """20 log10 relative to the maximum, at least -80; below 1e-5 an amplitude counts as that."""
    level = 20 * jnp.log10(jnp.maximum(amplitudes, SMALLEST))
    return jnp.maximum(level - jnp.max(level), -RANGE_DB)


def delta(image: Image) -> Image:
    """Slope of a line through 9 frames; the first and last four repeat that of the nearest whole window."""
    half = DELTA_FRAMES // 2
    require(image.shape[1] >= DELTA_FRAMES, f"{image.shape[1]} frames are too few for a delta of {DELTA_FRAMES}")
    weights = np.arange(-half, half + 1)
    inner = image.shape[1] - 2 * half
    slopes = sum(float(w) * image[:, half + w : half + w + inner] for w in weights.tolist()) / float(np.square(weights).sum())
    return jnp.pad(jnp.asarray(slopes), ((0, 0), (half, half)), mode="edge")


def _stretched(image: Image) -> Image:
    low, high = jnp.min(image), jnp.max(image)
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1.0), 0.0)


def median_along(image: Image, axis: int) -> Image:
    """Running median of `KERNEL` values; the ends are mirrored with the edge repeated (scipy's "reflect").

    The values are compared pairwise in a fixed order (Batcher's sorting network), whole images at a time, which needs no sorting
    of small rows: that is slow on every device.
    """
    half, length = KERNEL // 2, image.shape[axis]
    padded = jnp.pad(image, [(half, half) if at == axis else (0, 0) for at in (0, 1)], mode="symmetric")
    values = [jax.lax.slice_in_dim(padded, start, start + length, axis=axis) for start in range(KERNEL)]
    for low, high in median_network(KERNEL):
        values[low], values[high] = jnp.minimum(values[low], values[high]), jnp.maximum(values[low], values[high])
    return values[half]


@lru_cache(maxsize=4)
def median_network(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs (low, high) to compare in turn so that the middle place of an odd `count` of values holds their median.

    Of Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2 M) only what the middle depends on.
    """
    pairs = []
    step = top = 1 << (count - 1).bit_length() - 1
    while step:
        reach, offset, distance = top, 0, step
        while True:
            pairs += [(i, i + distance) for i in range(count - distance) if i & step == offset]
            if reach == step:
                break
            distance, offset = reach - step, step
            reach //= 2
        step //= 2
    needed, kept = {count // 2}, []
    for low, high in reversed(pairs):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return tuple(reversed(kept))


def image_frames(
    waveforms: Waveforms, lengths: Int[Array, " batch"] | None, config: FilterbankConfig
) -> Float[Array, "batch frames rows"]:
    """The front-end of `filterbank.kind` darksound_v1 and darksound_v2: whole images as frames, for a network of images.

    Returns:
      f32 [B, target_frames, 3 num_mel_bins]: of every column the rows of the three colours, high frequencies first, normalised by
      half of ImageNet's deviation, as every fbank is. All frames are real: the silence around a short sound belongs to its image.
    """
    lengths = jnp.full(waveforms.shape[0], waveforms.shape[1]) if lengths is None else lengths
    version = {"darksound_v1": V1, "darksound_v2": V2}[config.kind]
    images = at_size(darksound_images(waveforms, lengths, config.sample_rate, version), config.num_mel_bins, config.target_frames)
    return jnp.transpose(images / 2, (0, 2, 3, 1)).reshape(len(waveforms), config.target_frames, -1)


def as_published(images: Float[Array, "batch 3 bands frames"]) -> Float[Array, "batch rows columns 3"]:
    """Channels last, the short side resized to 256, the middle 224 x 224, normalised by ImageNet's colours.

    It cuts off part of the band and most of the time of a V1 image: for parity; `at_size` keeps all.
    """
    bands, frames = images.shape[2:]
    scale = SHORT_SIDE / min(bands, frames)
    sized = _resized(images, int(bands * scale), int(frames * scale))
    top, left = (round((side - CROP) / 2) for side in sized.shape[1:3])
    return _coloured(sized[:, top : top + CROP, left : left + CROP])


def at_size(images: Float[Array, "batch 3 bands frames"], rows: int, columns: int) -> Float[Array, "batch rows columns 3"]:
    """The whole image at the size that a network reads, channels last, normalised by ImageNet's colours."""
    return _coloured(_resized(images, rows, columns))


def _resized(images: jax.Array, rows: int, columns: int) -> jax.Array:
    """[B, 3, M, F] -> [B, rows, columns, 3], bilinear; what gets smaller is smoothed before (as PIL and torchvision do)."""
    last = jnp.moveaxis(images, 1, -1)
    return jax.image.resize(last, (images.shape[0], rows, columns, images.shape[1]), "linear", antialias=True)


def _coloured(images: jax.Array) -> jax.Array:
    mean, std = (np.array(values, np.float32)[None, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def constant_q(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """f32 [84, F]: magnitudes of the constant-Q transform (upstream's option `cqt`), high frequencies first, by librosa.

    Args:
      waveform: f32 [S], faded and padded as for the others.
    """
    import librosa

    return np.abs(librosa.cqt(waveform, sr=sample_rate))[::-1].astype(np.float32)
