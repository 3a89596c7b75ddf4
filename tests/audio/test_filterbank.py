"""The filterbank against golden files, kaldi-native-fbank, a float64 derivation and its own invariances."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import kaldi_native_fbank as knf
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from beats_jax.audio import filterbank as fb
from beats_jax.config.schema import FilterbankConfig
from beats_jax.errors import UserError

TENTH = 1600  # samples in 0.1 s at 16 kHz


def noise(*shape, seed=0, level=0.1):
    return (np.random.default_rng(seed).standard_normal(shape) * level).astype(np.float32)


def float64_fbank(waveform, config):
    """The same transform written plainly in float64, bin by bin as Kaldi writes it: the truth of these tests."""
    x = np.asarray(waveform, np.float64) * config.waveform_scale
    size, hop, fft = config.frame_samples, config.hop_samples, 2 ** int(np.ceil(np.log2(config.frame_samples)))
    frames = np.stack([x[start : start + size] for start in range(0, len(x) - size + 1, hop)])
    frames = frames - frames.mean(1, keepdims=True)
    frames = frames - config.preemphasis * np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    power = np.abs(np.fft.rfft(frames * (hann**0.85 if config.window == "povey" else hann), fft)) ** 2
    high_hz = config.high_hz if config.high_hz > 0 else config.sample_rate / 2 + config.high_hz
    to_mel = lambda hz: 1127 * np.log(1 + hz / 700)  # noqa: E731
    edges = np.linspace(to_mel(config.low_hz), to_mel(high_hz), config.num_mel_bins + 2)
    weights = np.zeros((fft // 2, config.num_mel_bins))
    for band in range(config.num_mel_bins):
        left, centre, right = edges[band : band + 3]
        for bin_ in range(fft // 2):
            mel = to_mel(bin_ * config.sample_rate / fft)
            if left < mel < right:
                weights[bin_, band] = (mel - left) / (centre - left) if mel <= centre else (right - mel) / (right - centre)
    return np.log(np.maximum(power[:, : fft // 2] @ weights, np.finfo(np.float32).eps))


def kaldi_fbank(waveform, config):
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.frame_length_ms = config.frame_length_ms
    options.frame_opts.frame_shift_ms = config.frame_shift_ms
    options.frame_opts.dither = 0.0
    options.frame_opts.preemph_coeff = config.preemphasis
    options.frame_opts.window_type = config.window
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = config.num_mel_bins
    options.mel_opts.low_freq = config.low_hz
    options.mel_opts.high_freq = config.high_hz
    options.energy_floor = 0.0
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(config.sample_rate, (waveform * config.waveform_scale).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def normalised(raw, config):
    return (raw - config.mean) / (2 * config.std)


def test_golden_beats(golden_files):
    golden = np.load(golden_files / "fbank_parity.npz")
    ours = np.asarray(fb.beats_filterbank(golden["waveform"][None]))[0]
    assert ours.dtype == np.float32
    for oracle in ("np64", "knf", "torchaudio"):
        np.testing.assert_allclose(ours, golden[f"fbank_{oracle}_normalised"], atol=5e-4, rtol=0, err_msg=oracle)
    raw = fb.filterbank(golden["waveform"][None], None, replace(fb.BEATS, mean=0.0, std=0.5))[0][0]
    np.testing.assert_allclose(raw, golden["fbank_np64_raw"], atol=5e-3, rtol=0)


@pytest.mark.parametrize("name", ["tiny_plain", "tiny_finetuned"])
def test_golden_model_inputs(golden_files, name):
    golden = np.load(golden_files / f"{name}.npz")
    ours = fb.beats_filterbank(golden["waveform"])
    np.testing.assert_allclose(ours, golden["fbank_normalised"], atol=5e-4, rtol=0)


def test_golden_ast(golden_files):
    golden = np.load(golden_files / "ast_tiny_hf.npz")
    ours = fb.ast_filterbank(golden["waveform"], target_frames=128)
    np.testing.assert_allclose(ours, golden["input_values_full"], atol=5e-4, rtol=0)
    config = replace(fb.AST, target_frames=128)
    by_length, frame_mask = fb.filterbank(golden["waveform"], golden["waveform_lengths"], config)
    np.testing.assert_allclose(by_length, golden["input_values"], atol=5e-4, rtol=0)
    np.testing.assert_allclose(by_length, golden["input_values_numpy_fallback"], atol=5e-4, rtol=0)
    assert frame_mask.sum(1).tolist() == [128, 79]


@pytest.mark.parametrize(
    ("key", "config", "target_frames"),
    [
        ("audioset_len96", fb.EAT, 96),
        ("esc50_len96", fb.EAT_ESC50, 96),
        ("spcv2_len96", fb.EAT_SPEECH_COMMANDS, 96),
        ("audioset_len48", fb.EAT, 48),
    ],
)
def test_golden_eat(golden_files, key, config, target_frames):
    golden = np.load(golden_files / "eat_tiny.npz")
    waveforms = golden["frontend_waveform"][None]
    ours = fb.eat_filterbank(waveforms, target_frames=target_frames, mean=config.mean, std=config.std)
    np.testing.assert_allclose(ours[0], golden[f"frontend_normalised_{key}"], atol=5e-4, rtol=0)
    _, frame_mask = fb.filterbank(waveforms, None, replace(config, target_frames=target_frames))
    assert frame_mask.sum() == min(67, target_frames)


@pytest.mark.parametrize(
    "config",
    [
        FilterbankConfig(sample_rate=8000, num_mel_bins=40),
        FilterbankConfig(sample_rate=22_050, num_mel_bins=80, window="hanning"),
        FilterbankConfig(sample_rate=32_000, num_mel_bins=64, low_hz=50.0, high_hz=14_000.0),
        FilterbankConfig(sample_rate=44_100, num_mel_bins=127, high_hz=-2000.0),
        FilterbankConfig(sample_rate=48_000, num_mel_bins=23, frame_length_ms=40.0, frame_shift_ms=15.0, preemphasis=0.9),
        FilterbankConfig(num_mel_bins=128),
    ],
    ids=lambda c: f"{c.sample_rate}Hz-{c.num_mel_bins}",
)
@pytest.mark.parametrize("form", [fb.log_mel_by_fft, fb.log_mel_by_matrix], ids=["fft", "matrix"])
def test_any_rate_against_kaldi_and_float64(config, form):
    waveforms = noise(2, config.sample_rate // 4)
    ours = np.asarray(jax.jit(partial(form, config=config))(waveforms))
    for row, waveform in zip(ours, waveforms, strict=True):
        np.testing.assert_allclose(row, float64_fbank(waveform, config), atol=2e-3, rtol=0)
        np.testing.assert_allclose(row, kaldi_fbank(waveform, config), atol=2e-2, rtol=0)
    assert np.abs(ours[0] - float64_fbank(waveforms[0], config)).mean() < 5e-6
    assert ours.shape[1] == fb.num_frames(waveforms.shape[1], config)


@pytest.mark.parametrize("form", [fb.log_mel_by_fft, fb.log_mel_by_matrix], ids=["fft", "matrix"])
def test_small_sound_on_a_large_offset(form):
    """torchaudio and kaldi-native-fbank are off by about 1e-3 and 3e-3 here, for the frame mean is rounded."""
    waveform = noise(1, 16_000, level=1e-3) + np.float32(0.3)
    ours = jax.jit(partial(form, config=fb.BEATS))(waveform)[0]
    assert np.abs(normalised(ours, fb.BEATS) - normalised(float64_fbank(waveform[0], fb.BEATS), fb.BEATS)).max() < 1e-4


def test_frame_counts():
    counts = [fb.num_frames(n, fb.BEATS) for n in (399, 400, 559, 560, 160_000)]
    assert counts == [0, 1, 1, 2, 998]
    assert fb.num_frames(160_000, fb.AST) == 1024
    assert fb.beats_filterbank(noise(1, 400)).shape == (1, 1, 128)


def test_frame_mask_is_the_count_of_whole_frames():
    lengths = np.array([0, 399, 400, 559, 560, 1600, 9999])
    fbank, frame_mask = fb.filterbank(noise(7, 1600), lengths, fb.BEATS)
    assert frame_mask.sum(1).tolist() == [fb.num_frames(min(int(n), 1600), fb.BEATS) for n in lengths]
    assert (np.diff(np.asarray(frame_mask).astype(int), axis=1) <= 0).all()
    assert (np.asarray(fbank)[~np.asarray(frame_mask)] == 0).all()


@pytest.mark.parametrize("config", [fb.BEATS, replace(fb.AST, target_frames=40), replace(fb.EAT, target_frames=40)])
def test_padding_never_counts(config):
    """A clip alone equals the same clip in a padded batch, whatever stands in the padding."""
    lengths = [1600, 3333, 4800]
    waveforms = noise(3, 4800) + 0.05
    fbank, frame_mask = fb.filterbank(waveforms, np.array(lengths), config)
    for i, length in enumerate(lengths):
        alone, _ = fb.filterbank(waveforms[i : i + 1, :length], None, config)
        real = fb.frames_inside(length, config)
        assert frame_mask[i].sum() == real
        # the clip mean of EAT is summed in another order when the row is longer, and so is rounded otherwise
        np.testing.assert_allclose(fbank[i, :real], alone[0, :real], atol=2e-5 if config.subtract_clip_mean else 1e-6, rtol=0)
        if config.target_frames:
            np.testing.assert_allclose(fbank[i, real:], -config.mean / (2 * config.std), rtol=1e-6)


def test_target_frames_cuts():
    config = replace(fb.AST, target_frames=5)
    fbank, frame_mask = fb.filterbank(noise(2, 4800), np.array([4800, 800]), config)
    assert fbank.shape == (2, 5, 128)
    assert frame_mask.sum(1).tolist() == [5, 3]


def test_silence_is_the_floor_and_has_finite_gradients():
    fbank = fb.beats_filterbank(jnp.zeros((1, TENTH)))
    np.testing.assert_allclose(fbank, normalised(-15.942385, fb.BEATS), rtol=1e-6)
    for config in (fb.BEATS, fb.EAT):
        gradient = jax.grad(lambda x, c=config: fb.filterbank(x, jnp.array([900]), c)[0].sum())(jnp.zeros((1, TENTH)))
        assert np.isfinite(gradient).all()


def test_gradient_is_that_of_finite_differences():
    waveform, direction = noise(1, 800), noise(1, 800, seed=1)
    loss = lambda x: fb.beats_filterbank(x).mean()  # noqa: E731
    slope = jnp.vdot(jax.grad(loss)(waveform), direction)
    step = 1e-2
    expected = (loss(waveform + step * direction) - loss(waveform - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=2e-2)


def test_one_batch_over_eight_devices_is_the_same():
    waveforms, lengths = noise(8, TENTH), np.arange(900, 1700, 100)
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    compute = jax.jit(partial(fb.filterbank, config=fb.BEATS))
    alone = compute(waveforms, lengths)
    spread = compute(jax.device_put(waveforms, sharding), jax.device_put(lengths, sharding))
    np.testing.assert_allclose(alone[0], spread[0], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(alone[1], spread[1])


def test_matrix_form_needs_no_word_between_devices():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    waveforms = jax.device_put(noise(8, TENTH), NamedSharding(mesh, PartitionSpec("data")))
    program = jax.jit(partial(fb.log_mel_by_matrix, config=fb.BEATS)).lower(waveforms).compile().as_text()
    assert program is not None
    assert not any(word in program for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))


def test_named_settings_are_the_published_ones():
    named = ("AST", "AST_ESC50", "AST_SPEECH_COMMANDS", "EAT", "EAT_ESC50", "EAT_SPEECH_COMMANDS")
    padding = {name.lower(): -getattr(fb, name).mean / (2 * getattr(fb, name).std) for name in named}
    published = {"ast": 0.4670, "ast_esc50": 0.6183, "ast_speech_commands": 0.6150}
    published |= {"eat": 0.4671, "eat_esc50": 0.6183, "eat_speech_commands": 0.6151}
    assert padding == pytest.approx(published, abs=6e-5)


def test_what_the_user_can_mend_is_said():
    with pytest.raises(ValueError, match=r"399 samples.*400") as caught:
        fb.beats_filterbank(noise(1, 399))
    assert isinstance(caught.value, UserError)
    with pytest.raises(UserError, match="floating point"):
        fb.beats_filterbank(np.zeros((1, 800), np.int16))
    with pytest.raises(UserError, match="clips, samples"):
        fb.beats_filterbank(noise(800))
    with pytest.raises(UserError, match="within 0-8000 Hz"):
        fb.filterbank(noise(1, 800), None, FilterbankConfig(high_hz=9000.0))


def test_pcen_is_librosas_from_its_first_frame_on():
    import librosa
    from scipy.signal import lfiltic

    rng = np.random.default_rng(5)
    waveforms = jnp.asarray(rng.normal(size=(2, 16_000)) * np.geomspace(1e-3, 0.3, 16_000), jnp.float32)
    plain = FilterbankConfig(num_mel_bins=40, mean=0.0, std=0.5)
    energies = np.exp(np.asarray(fb.filterbank(waveforms, None, plain)[0], np.float64))
    found, frame_mask = fb.filterbank(waveforms, jnp.array([16_000, 9_000]), replace(plain, kind="pcen"))
    frames = 0.4 * 16_000 / 160
    share = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
    for ours, mask, own in zip(np.asarray(found), np.asarray(frame_mask), energies, strict=True):
        start = np.stack([lfiltic([share], [1, share - 1], [first]) for first in own[0]])  # the average before is the first frame
        theirs = librosa.pcen(own.T, sr=16_000, hop_length=160, zi=start).T
        np.testing.assert_allclose(ours[mask], theirs[mask], rtol=2e-4, atol=2e-5)
