"""Decoding, resampling, windows and WAV writing against closed forms, soundfile and soxr themselves."""

import math
import pickle
import struct
import tracemalloc

import audio_cases
import numpy as np
import pytest
import soundfile
import soxr

from beats_jax.audio import io
from beats_jax.audio.survey import survey
from beats_jax.errors import UserError

RATES = (2_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_001, 250_000)
LOSSLESS = 2e-4  # a 16 bit step and the resampler's pass band, on a sweep of half full scale


@pytest.fixture(scope="module")
def noise_files(tmp_path_factory):
    """{rate: path}: two seconds and a bit of float noise at every rate."""
    root = tmp_path_factory.mktemp("noise")
    paths = {}
    for rate in RATES:
        noise = np.random.default_rng(rate).uniform(-0.9, 0.9, round(2.1234 * rate)).astype(np.float32)
        paths[rate] = root / f"{rate}.wav"
        soundfile.write(paths[rate], noise, rate, subtype="FLOAT")
    return paths


@pytest.mark.parametrize("rate", RATES)
def test_a_whole_file_is_one_call_of_soxr(noise_files, rate):
    native, _ = soundfile.read(noise_files[rate], dtype="float32")
    waveform = io.read(noise_files[rate], sample_rate=16_000)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, soxr.resample(native, rate, 16_000))
    assert len(waveform) == math.floor(len(native) * 16_000 / rate + 0.5)


@pytest.mark.parametrize("rate", [*RATES, 16_000])
@pytest.mark.parametrize(("start", "seconds"), [(0.0, 0.5), (0.333, 1.0), (1.0001, 0.777), (1.9, 5.0)])
def test_a_window_is_a_slice_of_the_whole(noise_files, tmp_path, rate, start, seconds):
    path = noise_files.get(rate)
    if path is None:
        path = tmp_path / "same_rate.wav"
        soundfile.write(path, np.random.default_rng(0).uniform(-0.9, 0.9, 34_000), rate, subtype="FLOAT")
    whole = io.read(path, sample_rate=16_000)
    window = io.read(path, sample_rate=16_000, start_seconds=start, seconds=seconds)
    first = round(start * 16_000)
    expected = whole[first : first + round(seconds * 16_000)]
    assert len(window) == len(expected)
    np.testing.assert_allclose(window, expected, atol=4e-6)  # float32 sums in another order; measured 8.4e-7


def test_ten_seconds_are_ten_seconds_at_any_rate(tmp_path):
    for rate in (2_000, 44_100, 48_000):
        path = tmp_path / f"{rate}.wav"
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(12 * rate) / rate), rate)
        waveform = io.read(path, sample_rate=16_000, start_seconds=1.0, seconds=10.0)
        assert len(waveform) == 160_000
        assert np.argmax(np.abs(np.fft.rfft(waveform))) == 4_400  # 440 Hz in bins of 0.1 Hz


def test_integer_depths_have_their_closed_form(tmp_path):
    values = np.array([-1.0, -0.5, -1 / 128, 0.0, 1 / 128, 0.5, 127 / 128])
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        path = tmp_path / f"{subtype}.wav"
        content = values if subtype in ("FLOAT", "DOUBLE") else (values * 2.0**31).astype(np.int64).astype(np.int32)
        soundfile.write(path, content, 8_000, subtype=subtype)
        np.testing.assert_array_equal(io.read(path, sample_rate=8_000), values.astype(np.float32))
    fine = tmp_path / "fine.wav"  # one step of 24 bits survives
    soundfile.write(fine, np.array([-256, 256, 0, 512], np.int32), 8_000, subtype="PCM_24")
    np.testing.assert_array_equal(io.read(fine, sample_rate=8_000), np.array([-1, 1, 0, 2], np.float32) / 2**23)


def test_channels(tmp_path):
    channels = np.random.default_rng(0).uniform(-0.5, 0.5, (4_000, 3)).astype(np.float32)
    path = tmp_path / "three.wav"
    soundfile.write(path, channels, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(io.read(path, sample_rate=16_000), channels.sum(1) / 3, atol=1e-7)
    for number in range(3):
        np.testing.assert_array_equal(io.read(path, sample_rate=16_000, channel=str(number)), channels[:, number])
    for call in (lambda: io.read(path, sample_rate=16_000, channel="3"), lambda: survey(path, channel="3")):
        with pytest.raises(io.AudioError, match="has no channel 3: it has 3, counted from 0"):
            call()
    with pytest.raises(UserError, match="channel is 'left'"):
        io.read(path, sample_rate=16_000, channel="left")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("window", [0.1003, 0.9, 7.0])
def test_streamed_windows_join_to_the_whole(noise_files, rate, window):
    whole = io.read(noise_files[rate], sample_rate=16_000)
    windows = list(io.stream(noise_files[rate], sample_rate=16_000, window_seconds=window))
    np.testing.assert_allclose([start for start, _ in windows], window * np.arange(len(windows)), atol=0.5 / 16_000)
    for number, (start, waveform) in enumerate(windows):
        first, last = round(number * window * 16_000), round(number * window * 16_000) + round(window * 16_000)
        assert round(start * 16_000) == first
        np.testing.assert_array_equal(waveform, whole[first:last])
    assert windows[-1][0] + len(windows[-1][1]) / 16_000 == pytest.approx(len(whole) / 16_000)


@pytest.mark.parametrize(
    ("window", "hop", "starts"), [(1.0, 0.5, [0, 0.5, 1.0, 1.5]), (1.0, 1.5, [0, 1.5]), (0.1, 1.1, [0, 1.1])]
)
def test_overlapping_and_distant_windows(noise_files, window, hop, starts):
    whole = io.read(noise_files[48_000], sample_rate=16_000)
    windows = list(io.stream(noise_files[48_000], sample_rate=16_000, window_seconds=window, hop_seconds=hop))
    assert [start for start, _ in windows] == pytest.approx(starts)
    for start, waveform in windows:
        first = round(start * 16_000)
        np.testing.assert_array_equal(waveform, whole[first : first + round(window * 16_000)])


@pytest.mark.parametrize("rate", [*RATES, 16_000])
@pytest.mark.parametrize(("start", "end"), [(0.0, None), (0.333, 1.25), (1.0001, 9.0), (2.1, None)])
def test_blocks_join_to_a_slice_of_the_whole(noise_files, tmp_path, rate, start, end):
    path = noise_files.get(rate)
    if path is None:
        path = tmp_path / "same_rate.wav"
        soundfile.write(path, np.random.default_rng(0).uniform(-0.9, 0.9, 34_000), rate, subtype="FLOAT")
    whole = io.read(path, sample_rate=16_000)
    blocks = list(io.blocks(path, sample_rate=16_000, start_seconds=start, end_seconds=end))
    assert all(len(block) for block in blocks)
    expected = whole[round(start * 16_000) : None if end is None else round(end * 16_000)]
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=2e-6)


def test_blocks_say_what_they_meet(bad_files, noise_files):
    with pytest.raises(io.AudioError, match="past the end at 2"):
        list(io.blocks(noise_files[8_000], sample_rate=16_000, start_seconds=2.2))
    for request in ({"start_seconds": -1.0}, {"end_seconds": 0.0}, {"start_seconds": 1.0, "end_seconds": 1.0}, {"channel": "x"}):
        with pytest.raises(UserError):
            io.blocks(noise_files[8_000], sample_rate=16_000, **request)
    for path, word in bad_files.items():
        if word not in ("silent", "too short"):
            with pytest.raises(io.AudioError, match=word):
                list(io.blocks(path, sample_rate=16_000))


def test_no_window_repeats_the_end_of_the_one_before(tmp_path):
    path = tmp_path / "two.wav"
    soundfile.write(path, audio_cases.sweep(2.0, 8_000), 8_000)
    starts = [start for start, _ in io.stream(path, sample_rate=8_000, window_seconds=1.0, hop_seconds=0.5)]
    assert starts == [0.0, 0.5, 1.0]


def test_an_hour_streams_in_the_memory_of_a_window(tmp_path):
    path = tmp_path / "hour.wav"
    soundfile.write(path, np.tile(audio_cases.sweep(10.0, 2_000, high_hz=900.0), 360), 2_000)
    tracemalloc.start()
    try:
        samples = sum(len(waveform) for _, waveform in io.stream(path, sample_rate=1_000, window_seconds=10.0))
        survey(path)
        io.read(path, sample_rate=1_000, start_seconds=3_000.0, seconds=10.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert samples == 3_600_000
    assert peak < 3e6  # the file is 28.8 MB as float32; measured 1.2 MB


@pytest.mark.parametrize(("codec", "name", "worst"), [("aac", "x.m4a", 0.06), ("alac", "y.m4a", 2e-5)])
def test_m4a_has_no_lag_and_no_tail(tmp_path, codec, name, worst):
    sound = audio_cases.sweep(3.0)
    audio_cases.write_pyav(tmp_path / name, sound, audio_cases.RATE, codec)
    assert io.audio_info(tmp_path / name).frames == len(sound)
    decoded = io.read(tmp_path / name, sample_rate=audio_cases.RATE)
    assert len(decoded) == len(sound)
    assert np.abs(decoded - sound).max() < worst  # to the first sample: the priming is decoded and cut
    part = io.read(tmp_path / name, sample_rate=audio_cases.RATE, start_seconds=1.7, seconds=0.5)
    first = round(1.7 * audio_cases.RATE)
    np.testing.assert_allclose(part, decoded[first : first + len(part)], atol=1e-4)


@pytest.mark.parametrize(("codec", "name", "container", "lag"), [("aac", "x.aac", "adts", 1024), ("wmav2", "x.wma", None, -1024)])
def test_containers_without_an_edit_list_are_whole_but_shifted(tmp_path, codec, name, container, lag):
    sound = audio_cases.sweep(3.0)
    audio_cases.write_pyav(tmp_path / name, sound, audio_cases.RATE, codec, container)
    decoded = io.read(tmp_path / name, sample_rate=audio_cases.RATE)
    assert abs(len(decoded) - len(sound)) <= 2_200
    middle = np.arange(10_000, 50_000)
    assert np.abs(decoded[middle + lag] - sound[middle]).max() < 0.03
    part = io.read(tmp_path / name, sample_rate=audio_cases.RATE, start_seconds=1.0, seconds=1.0)
    np.testing.assert_array_equal(part, decoded[audio_cases.RATE : 2 * audio_cases.RATE])
    info = io.audio_info(tmp_path / name)  # WMA's header gives milliseconds: what is decoded counts
    assert (info.frames, info.exact_length) == (len(decoded), True)
    with pytest.raises(io.AudioError, match=f"past the end at {info.seconds:g} s"):
        io.read(tmp_path / name, sample_rate=16_000, start_seconds=2.99 if container is None else 3.2)


@pytest.mark.parametrize(("suffix", "atol"), [("flac", 0), ("ogg", 1e-5), ("mp3", 1e-5), ("aiff", 0), ("opus", 1e-4)])
def test_a_window_of_a_compressed_file_is_that_of_libsndfile(tmp_path, suffix, atol):
    path = tmp_path / f"x.{suffix}"
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 240_000), 48_000, **options)
    whole, _ = soundfile.read(path, dtype="float32")
    part = io.read(path, sample_rate=48_000, start_seconds=3.21, seconds=0.7)
    np.testing.assert_allclose(part, whole[154_080:187_680], atol=atol)


def test_odd_but_good_files_are_good(tmp_path):
    paths = audio_cases.write_odd_but_good_files(tmp_path / "good")
    found, errors = io.find_audio(tmp_path / "good")
    assert (found, errors) == (paths, [])
    sound = audio_cases.sweep()
    for path in paths:
        info = survey(path).info
        waveform = io.read(path, sample_rate=16_000)
        assert info.seconds == pytest.approx(1.0, abs=0.12), path
        assert len(waveform) == pytest.approx(16_000, abs=2_000), path
        assert 0.4 < np.abs(waveform).max() < 0.6 or path.name == "stereo.wav", path
        if path.suffix in (".wav", ".flac", ".aiff", ".aif") and info.sample_rate == audio_cases.RATE and "u" not in path.stem:
            gain = 0.75 if path.name == "stereo.wav" else 1.0
            expected = gain * soxr.resample(sound, audio_cases.RATE, 16_000)
            np.testing.assert_allclose(waveform, expected, atol=LOSSLESS, err_msg=str(path))


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    return audio_cases.write_bad_files(tmp_path_factory.mktemp("bad") / "audio")


def test_every_kind_of_damage_is_named(bad_files):
    assert len(bad_files) >= 20
    for path, word in bad_files.items():
        with pytest.raises(io.AudioError) as caught:
            survey(path)
        assert word in caught.value.reason, (path.name, caught.value.reason)
        assert caught.value.path == path
        assert str(caught.value) == f"{path}: {caught.value.reason}"
        assert "\n" not in caught.value.reason
        assert len(caught.value.reason) < 140


def test_read_and_stream_meet_the_same_damage(bad_files):
    unseen = {"silent", "too short"}  # no reader's business
    for path, word in bad_files.items():
        if word in unseen:
            continue
        with pytest.raises(io.AudioError, match=word):
            io.read(path, sample_rate=16_000)
        with pytest.raises(io.AudioError, match=word):
            list(io.stream(path, sample_rate=16_000, window_seconds=0.5))


def test_missing_and_locked(tmp_path, monkeypatch):
    with pytest.raises(io.AudioError, match="no such file"):
        survey(tmp_path / "nothing.wav")
    path = tmp_path / "x.wav"
    soundfile.write(path, audio_cases.sweep(), 22_050)

    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # as root, a mode of 0 stops nobody
    with pytest.raises(io.AudioError, match="no permission"):
        io.audio_info(path)


def test_read_says_what_it_meets(tmp_path):
    path = tmp_path / "x.wav"
    sound = audio_cases.sweep(2.0, 16_000)
    sound[24_000] = np.nan
    soundfile.write(path, sound, 16_000, subtype="FLOAT")
    assert len(io.read(path, sample_rate=16_000, seconds=1.0)) == 16_000
    with pytest.raises(io.AudioError, match=r"NaN or infinite samples, first at 1\.500 s"):
        io.read(path, sample_rate=16_000, start_seconds=1.0)
    with pytest.raises(io.AudioError, match="starts at 2 s, past the end at 2 s"):
        io.read(path, sample_rate=16_000, start_seconds=2.0)
    for request in ({"start_seconds": -1.0}, {"seconds": 0.0}, {"seconds": math.nan}, {"start_seconds": math.nan}):
        with pytest.raises(UserError):
            io.read(path, sample_rate=16_000, **request)
    with pytest.raises(UserError, match="hop"):
        io.stream(path, sample_rate=16_000, window_seconds=1.0, hop_seconds=0.0)


def test_the_part_before_the_damage_can_be_read(bad_files):
    path = next(path for path in bad_files if path.name == "truncated.mp3")
    assert len(io.read(path, sample_rate=16_000, seconds=0.5)) == 8_000
    with pytest.raises(io.AudioError, match="truncated"):
        io.read(path, sample_rate=16_000, start_seconds=2.5)


def w64_head(bytes_of_sound):
    """What stands before the sound of a Wave64 file of 16 bits and 48 kHz; sizes count their own chunk's name and size."""
    rest = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    form = b"fmt " + rest + struct.pack("<QHHIIHH", 40, 1, 1, 48_000, 96_000, 2, 16)
    riff = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000") + struct.pack("<Q", 40 + len(form) + 24 + bytes_of_sound)
    return riff + b"wave" + rest + form + b"data" + rest + struct.pack("<Q", 24 + bytes_of_sound)


def test_lengths_beyond_four_gigabytes(tmp_path):
    bytes_of_sound = (1 << 32) + 200_000
    format_chunk = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 48_000, 96_000, 2, 16)
    long_sizes = b"ds64" + struct.pack("<IQQQI", 28, bytes_of_sound + 72, bytes_of_sound, bytes_of_sound // 2, 0)
    wrapped = bytes_of_sound % (1 << 32)
    for name, head, size in (
        ("plain.wav", b"RIFF" + struct.pack("<I", wrapped + 36) + b"WAVE", wrapped),
        ("x.w64", w64_head(bytes_of_sound), None),
        ("rf64.wav", b"RF64" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + long_sizes, 0xFFFFFFFF),
    ):
        with (tmp_path / name).open("wb") as file:
            file.write(head if size is None else head + format_chunk + b"data" + struct.pack("<I", size))
            file.truncate(file.tell() + bytes_of_sound)  # sparse: takes no room
    for name in ("rf64.wav", "x.w64"):
        assert io.audio_info(tmp_path / name).frames == bytes_of_sound // 2
    with pytest.raises(io.AudioError, match="4 GB"):
        io.audio_info(tmp_path / "plain.wav")


def test_audio_info_meets_a_cut_end_without_decoding_the_rest(bad_files):
    for name in ("truncated.flac", "truncated.mp3", "truncated.ogg", "truncated.wav"):
        with pytest.raises(io.AudioError):
            io.audio_info(next(path for path in bad_files if path.name == name))
    info = io.audio_info(next(path for path in bad_files if path.name == "corrupt_middle.m4a"))
    assert (info.frames, info.sample_rate, info.channels, info.encoding) == (3 * 22_050, 22_050, 1, "MOV AAC")
    assert info.seconds == 3.0


def test_audio_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(io.AudioError("a/b.wav", "two\nlines")))
    assert (str(error), error.reason) == ("a/b.wav: two lines", "two lines")
    assert isinstance(error, UserError)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24)])
def test_write_wav_keeps_every_integer(tmp_path, subtype, bits):
    steps = np.unique(np.linspace(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 5_000).round())
    path = tmp_path / "x.wav"
    io.write_wav(path, (steps / 2 ** (bits - 1)).astype(np.float32), 8_000, subtype)
    waveform = io.read(path, sample_rate=8_000)
    np.testing.assert_array_equal(waveform * 2 ** (bits - 1), steps)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.wav"]


def test_write_wav_clips_refuses_and_leaves_nothing(tmp_path):
    io.write_wav(tmp_path / "x.wav", np.array([[2.0, -2.0], [0.0, 0.25]]), 8_000)
    stereo, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    np.testing.assert_array_equal(stereo, [[32767, -32768], [0, 8192]])
    for waveform, subtype in ((np.array([np.nan]), "PCM_16"), (np.zeros(3), "MP3"), (np.zeros((2, 2, 2)), "FLOAT")):
        with pytest.raises(ValueError, match=r".+"):
            io.write_wav(tmp_path / "y.wav", waveform, 8_000, subtype)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize("rate", RATES)
def test_resampled_length_is_soxr_s(rate):
    for frames in (1, 2, 3, 10, 99, 1_000, 1_001, 12_345):
        assert io.resampled_length(frames, rate, 16_000) == len(soxr.resample(np.zeros(frames, np.float32), rate, 16_000))


def test_real_recordings_are_good(real_recordings):
    paths, errors = io.find_audio(real_recordings / "soundscapes")
    assert not errors
    for path in paths[:5]:
        assert survey(path).info.seconds == pytest.approx(10.0, abs=0.1)
