"""Kaldi-compatible log-mel filterbank as one batched function on the device (and, by `kind`, the spectra of `audio.floor`).

    waveforms f32 [B, S], lengths i32 [B] (samples)  ->  fbank f32 [B, F, M], normalised; frame_mask bool [B, F], True = real

Per frame, in Kaldi's order: remove the mean, pre-emphasis (the first sample is its own predecessor), window, zero-pad to the
next power of two, power spectrum, mel triangles (linear in mel, no area norm, Nyquist bin unused), ln of at least 1.1920929e-07.
No dither, frames only where they fit whole ("snip edges"). Sources: kaldi feat/feature-window.cc, feature-fbank.cc and
mel-computations.cc; unilm/beats/BEATs.py `preprocess`; YuanGongND/ast dataloader.py; cwx-worst-one/EAT raw_audio_dataset.py.

CPUs take an FFT mapped over clips: measured fastest on two cores (benchmarks/filterbank.py), because a clip stays in the cache.
Accelerators take the DFT as a matrix product: XLA splits it over devices, which it does not do with an FFT; it is about twice as
exact.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.audio.floor import floor_spectrum, frames_in
from beats_jax.audio.pcen import pcen
from beats_jax.audio.spectral_images import image_frames
from beats_jax.config.schema import FilterbankConfig
from beats_jax.errors import UserError

FLOOR = 1.1920929e-07  # float32 epsilon: Kaldi's smallest mel energy; its logarithm is -15.942385
MEL_GROUPS = 4  # the mel matrix is nearly diagonal: four blocks of it are half the work of the whole (measured: 6.0 -> 3.2 ms)
EXACT = jax.lax.Precision.HIGHEST  # accelerators would otherwise round the factors to bfloat16 or TF32

BEATS = FilterbankConfig()
AST = FilterbankConfig(window="hanning", waveform_scale=1.0, mean=-4.2677393, std=4.5689974, target_frames=1024)
AST_ESC50 = replace(AST, mean=-6.6268077, std=5.358466, target_frames=512)
AST_SPEECH_COMMANDS = replace(AST, mean=-6.845978, std=5.5654526, target_frames=128)
EAT = replace(AST, subtract_clip_mean=True, mean=-4.268, std=4.569)
EAT_ESC50 = replace(EAT, mean=-6.627, std=5.359, target_frames=512)
EAT_SPEECH_COMMANDS = replace(EAT, mean=-6.846, std=5.565, target_frames=128)


def filterbank(
    waveforms: jax.Array | np.ndarray, lengths: jax.Array | np.ndarray | None, config: FilterbankConfig
) -> tuple[jax.Array, jax.Array]:
    """Normalised log-mel filterbank, aware of where each clip ends.

    Args:
      waveforms: floating point [B, S] at `config.sample_rate`, full scale +-1; samples past a clip's length do not count.
      lengths: i32 [B], real samples of each clip; None = all S.
      config: settings; static under `jax.jit`.
    Returns:
      fbank: f32 [B, F, M], (log-mel - mean) / (2 std), F = `num_frames(S, config)`. Frames not wholly inside real sound are 0
        (the mean of the training data). With `target_frames` they are 0 before normalisation, so -mean / (2 std) after it: the
        published rule that AST and EAT were trained with.
      frame_mask: bool [B, F], True for frames wholly inside real sound: f < 1 + (length - frame) // hop.
    Raises:
      UserError: S is shorter than one frame, or waveforms is not a batch of floating point rows.
    """
    waveforms = _check_waveforms(waveforms, config)
    return _filterbank(waveforms, None if lengths is None else jnp.asarray(lengths), config)


def beats_filterbank(waveforms: jax.Array | np.ndarray, *, mean: float = BEATS.mean, std: float = BEATS.std) -> jax.Array:
    """The filterbank that BEATs was trained with: Povey window, waveforms scaled to int16 counts.

    Args:
      waveforms: floating point [B, S], 16 kHz, full scale +-1, S >= 400 (one 25 ms frame).
    Returns:
      f32 [B, F, 128], F = 1 + (S - 400) // 160, equal to (log-mel - mean) / (2 std).
    Raises:
      UserError (a ValueError): S < 400.
    """
    return filterbank(waveforms, None, replace(BEATS, mean=float(mean), std=float(std)))[0]


def ast_filterbank(
    waveforms: jax.Array | np.ndarray, *, target_frames: int = AST.target_frames, mean: float = AST.mean, std: float = AST.std
) -> jax.Array:
    """The filterbank of the Audio Spectrogram Transformer: Hann window, padded with raw zeros or cut to `target_frames`.

    As `beats_filterbank`, but f32 [B, target_frames, 128]; `target_frames` 0 = as many frames as the sound has.
    """
    return filterbank(waveforms, None, replace(AST, mean=float(mean), std=float(std), target_frames=target_frames))[0]


def eat_filterbank(
    waveforms: jax.Array | np.ndarray, *, target_frames: int = EAT.target_frames, mean: float = EAT.mean, std: float = EAT.std
) -> jax.Array:
    """The filterbank of EAT: `ast_filterbank` of waveforms without their mean over the clip."""
    return filterbank(waveforms, None, replace(EAT, mean=float(mean), std=float(std), target_frames=target_frames))[0]


def num_frames(samples: int, config: FilterbankConfig) -> int:
    """Frames that `filterbank` returns for `samples` samples: `target_frames` where set, else those that fit wholly."""
    return config.target_frames or frames_inside(samples, config)


def frames_inside(samples: int, config: FilterbankConfig) -> int:
    """Frames of `samples` samples: those that fit wholly, 1 + (samples - frame) // hop or 0; `floor`: the whole hops."""
    if config.kind == "floor":
        return int(frames_in(samples, config))
    if config.is_image:
        return config.target_frames
    return max(0, 1 + (samples - config.frame_samples) // config.hop_samples)


def _check_waveforms(waveforms: jax.Array | np.ndarray, config: FilterbankConfig) -> jax.Array:
    shape, dtype = np.shape(waveforms), jnp.result_type(waveforms)
    if len(shape) != 2 or not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(f"waveforms have shape {shape} and type {dtype}; they must be floating point [clips, samples] within +-1")
    if shape[1] < config.frame_samples:
        raise UserError(
            f"waveforms have {shape[1]} samples; the shortest length accepted is {config.frame_samples} samples "
            f"({config.frame_length_ms:g} ms at {config.sample_rate} Hz): pad them or leave them out"
        )
    return jnp.asarray(waveforms, jnp.float32)


@partial(jax.jit, static_argnames="config")
def _filterbank(waveforms: jax.Array, lengths: jax.Array | None, config: FilterbankConfig) -> tuple[jax.Array, jax.Array]:
    if config.is_image:
        fbank = image_frames(waveforms, lengths, config)
        return fbank, jnp.ones(fbank.shape[:2], bool)
    raw = _raw_filterbank(waveforms, lengths, config)
    batch, frames = raw.shape[:2]
    if lengths is None:
        frame_mask = jnp.ones((batch, frames), bool)
    else:
        lengths = lengths.astype(jnp.int32)
        inside = 1 + (lengths - config.frame_samples) // config.hop_samples
        if config.kind == "floor":
            inside = frames_in(lengths, config)
        frame_mask = jnp.arange(frames)[None, :] < inside[:, None]
    if not config.target_frames:
        fbank = (raw - config.mean) / (2 * config.std)
        return jnp.where(frame_mask[:, :, None], fbank, 0.0), frame_mask
    raw = jnp.where(frame_mask[:, :, None], raw, 0.0)[:, : config.target_frames]
    frame_mask = frame_mask[:, : config.target_frames]
    missing = config.target_frames - raw.shape[1]
    raw = jnp.pad(raw, ((0, 0), (0, missing), (0, 0)))
    return (raw - config.mean) / (2 * config.std), jnp.pad(frame_mask, ((0, 0), (0, missing)))


@partial(jax.jit, static_argnames="config")
def _raw_filterbank(waveforms: jax.Array, lengths: jax.Array | None, config: FilterbankConfig) -> jax.Array:
    if config.kind == "floor":
        return floor_spectrum(waveforms, lengths, config)
    if config.subtract_clip_mean:
        waveforms = _without_clip_mean(waveforms, lengths)
    return jax.lax.platform_dependent(
        waveforms, cpu=partial(log_mel_by_fft, config=config), default=partial(log_mel_by_matrix, config=config)
    )


def log_mel_by_fft(waveforms: jax.Array, config: FilterbankConfig) -> jax.Array:
    """f32 [B, S] -> f32 [B, F, M], natural log; the form for CPUs: a real FFT, one clip after the other."""
    size = fft_samples(config)

    def one_clip(waveform: jax.Array) -> jax.Array:
        spectrum = jnp.fft.rfft(_window_frames(waveform, config), size)[:, : size // 2]
        return _log_mel(spectrum.real**2 + spectrum.imag**2, config)

    return jax.lax.map(one_clip, waveforms)


def log_mel_by_matrix(waveforms: jax.Array, config: FilterbankConfig) -> jax.Array:
    """f32 [B, S] -> f32 [B, F, M], natural log; the form for accelerators: the DFT as a matrix product, all clips at once."""
    half = fft_samples(config) // 2
    matrix = jnp.asarray(_dft_matrix(config))

    def one_clip(waveform: jax.Array) -> jax.Array:
        spectrum = jnp.matmul(_window_frames(waveform, config), matrix, precision=EXACT)
        return _log_mel(spectrum[:, :half] ** 2 + spectrum[:, half:] ** 2, config)

    return jax.vmap(one_clip)(waveforms)


def _without_clip_mean(waveforms: jax.Array, lengths: jax.Array | None) -> jax.Array:
    samples = waveforms.shape[1]
    if lengths is None:
        return waveforms - waveforms.mean(1, keepdims=True)
    real = jnp.arange(samples)[None, :] < lengths[:, None]
    count = jnp.clip(lengths, 1, samples).astype(jnp.float32)
    mean = jnp.where(real, waveforms, 0.0).sum(1) / count
    return jnp.where(real, waveforms - mean[:, None], 0.0)


def _window_frames(waveform: jax.Array, config: FilterbankConfig) -> jax.Array:
    """[S] -> [F, frame]: frames without mean, pre-emphasised, windowed, at the scale that the model was trained with."""
    frames = _frames(waveform, config)
    # Two steps, for a quiet sound on a large offset: subtracting the first sample does not round, and a dot product adds many
    # partial sums where a plain sum runs along the row (error on 1e-3 noise at an offset of 0.3: 6e-3 -> 2e-5).
    frames = frames - frames[:, :1]
    average = np.full((config.frame_samples, 1), 1 / config.frame_samples, np.float32)
    frames = frames - jnp.matmul(frames, average, precision=EXACT)
    first = (1 - config.preemphasis) * frames[:, :1]
    emphasised = jnp.concatenate([first, frames[:, 1:] - config.preemphasis * frames[:, :-1]], axis=1)
    return emphasised * _window(config)[None, :]


def _frames(waveform: jax.Array, config: FilterbankConfig) -> jax.Array:
    """[S] -> [F, frame] by reshaping at each multiple of the hop, which copies whole rows; a gather goes sample by sample."""
    size, hop = config.frame_samples, config.hop_samples
    count = frames_inside(waveform.shape[0], config)
    parts = []
    for start in range(0, size, hop):
        rows = waveform[start : start + count * hop]
        rows = jnp.pad(rows, (0, count * hop - rows.shape[0])).reshape(count, hop)
        parts.append(rows[:, : size - start])
    return jnp.concatenate(parts, axis=1)


def _log_mel(power: jax.Array, config: FilterbankConfig) -> jax.Array:
    """[F, fft / 2] -> [F, M]; of kind "pcen" not the logarithm but `audio.pcen`."""
    parts = [jnp.matmul(power[:, low:high], weights, precision=EXACT) for low, high, weights in _mel_blocks(config)]
    energies = jnp.maximum(jnp.concatenate(parts, axis=1), FLOOR)
    return pcen(energies, config) if config.kind == "pcen" else jnp.log(energies)


def fft_samples(config: FilterbankConfig) -> int:
    """Length of the transform: the smallest power of two that holds a frame (Kaldi's `round_to_power_of_two`)."""
    return 1 << (config.frame_samples - 1).bit_length()


@lru_cache(maxsize=64)
def _window(config: FilterbankConfig) -> np.ndarray:
    """f32 [frame]: symmetric Hann, to the power of 0.85 for Povey's; times the waveform scale, because all before is linear."""
    size = config.frame_samples
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    if config.window == "povey":
        window = window**0.85
    return (window * config.waveform_scale).astype(np.float32)


@lru_cache(maxsize=64)
def _dft_matrix(config: FilterbankConfig) -> np.ndarray:
    """f32 [frame, fft]: cosines of the bins 0 .. fft/2 - 1, then their sines."""
    size = fft_samples(config)
    # integers drop whole turns, so that the angles are exact to float64
    turns = (np.arange(config.frame_samples)[:, None] * np.arange(size // 2)[None, :]) % size
    angles = 2 * np.pi * turns / size
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def mel_matrix(config: FilterbankConfig) -> np.ndarray:
    """f64 [fft / 2, M]: triangles equally spaced and linear in mel = 1127 ln(1 + Hz / 700); the Nyquist bin is left out.

    Raises:
      UserError: the band from `low_hz` to `high_hz` (0 = Nyquist, negative = offset from it) is empty or leaves 0 .. Nyquist.
    """
    nyquist = config.sample_rate / 2
    high_hz = config.high_hz if config.high_hz > 0 else nyquist + config.high_hz
    if not 0 <= config.low_hz < high_hz <= nyquist:
        raise UserError(
            f"filterbank.low_hz {config.low_hz:g} and high_hz {config.high_hz:g} give the band {config.low_hz:g}-{high_hz:g} Hz; "
            f"it must lie within 0-{nyquist:g} Hz, with low_hz below high_hz"
        )
    size = fft_samples(config)
    low, high = _mel(np.array([config.low_hz, high_hz]))
    step = (high - low) / (config.num_mel_bins + 1)
    left = (low + step * np.arange(config.num_mel_bins))[None, :]
    mel = _mel(np.arange(size // 2) * config.sample_rate / size)[:, None]
    return np.maximum(0.0, np.minimum(mel - left, left + 2 * step - mel) / step)


def _mel(hz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(hz / 700.0)


@lru_cache(maxsize=64)
def _mel_blocks(config: FilterbankConfig) -> tuple[tuple[int, int, np.ndarray], ...]:
    """(first bin, bin after the last, f32 [bins, bands]) of each group of neighbouring bands of the mel matrix."""
    matrix = mel_matrix(config)
    blocks = []
    width = math.ceil(config.num_mel_bins / MEL_GROUPS)
    for start in range(0, config.num_mel_bins, width):
        group = matrix[:, start : start + width]
        used = np.flatnonzero(group.any(axis=1))
        low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)  # narrow bands may hold no bin at all
        blocks.append((low, high, group[low:high].astype(np.float32)))
    return tuple(blocks)
