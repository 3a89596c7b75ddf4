"""Regions of generated sounds: closed forms, invariances, and input that is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from golden.calls import RATE, calls_in_noise

from beats_jax.audio.io import write_wav
from beats_jax.audio.recording import AudioError
from beats_jax.audio.regions import BAMBIRD, Region, RegionSettings, find_regions, stream_regions, suggested_settings
from beats_jax.audio.regions.joining import Found, join_harmonics
from beats_jax.audio.regions.levels import Levels, make_plan
from beats_jax.audio.regions.search import Joiner
from beats_jax.audio.regions.settings import BAMBIRD_NAMES
from beats_jax.errors import UserError

PLAIN = RegionSettings(
    low_hz=200.0,
    high_hz=12_000.0,
    fft_samples=512,
    range_db=125.0,
    seed_db=26.0,
    edge_db=10.0,
    depth_db=33.0,
    join_seconds=0.02,
    join_hz=200.0,
    join_harmonics=True,
    min_seconds=0.03,
)
APART = replace(PLAIN, join_harmonics=False)


def noise(seconds: float, rate: int = RATE, level: float = 1e-3) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(round(seconds * rate))


def add_tone(sound: np.ndarray, rate: int, start: float, seconds: float, hz: float, amplitude: float = 0.1) -> None:
    """A tone with ramps of a tenth of its length."""
    first, length = round(start * rate), round(seconds * rate)
    ramp = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.1 * length))
    sound[first : first + length] += amplitude * ramp * np.sin(2 * np.pi * hz * np.arange(length) / rate)


def only(found: pd.DataFrame) -> Region:
    """The single row."""
    assert len(found) == 1
    return Region(*found.to_numpy()[0].tolist())


@pytest.mark.parametrize("harmonics", [False, True])
def test_pieces_of_a_stream_give_the_boxes_of_the_whole(harmonics: bool) -> None:
    """Random pictures, cut at random frames: no box is cut, lost or seen twice, and they come by start."""
    settings = replace(PLAIN, join_harmonics=harmonics, max_seconds=1000.0)
    plan = make_plan(RATE, settings)
    draw = np.random.default_rng(1)
    many = 0
    for _ in range(6):
        power = draw.exponential(0.02, (400, len(plan.hz))).astype(np.float32)
        for _ in range(40):
            start, row = draw.integers(0, 390), draw.integers(0, len(plan.hz) - 8)
            power[start : start + draw.integers(1, 80), row : row + draw.integers(1, 8)] *= 10 ** draw.uniform(2, 8)
        background = np.full(len(plan.hz), 0.01, np.float32)
        whole, pieces = Joiner(plan, settings), Joiner(plan, settings)
        wanted = [*whole.add(Levels(power, background)), *whole.finish()]
        found = []
        for part in np.split(power, np.sort(draw.choice(400, 12, replace=False))):
            found += pieces.add(Levels(part, background)) if len(part) else []
        found += pieces.finish()
        bounds = [[(one.first, one.last, one.low, one.high) for one in boxes] for boxes in (wanted, found)]
        assert bounds[0] == bounds[1]
        np.testing.assert_allclose([one.signal for one in found], [one.signal for one in wanted], rtol=1e-5)
        many += len(wanted)
    assert many > 60


def test_a_call_goes_on_where_stretches_meet() -> None:
    sound = noise(12)
    add_tone(sound, RATE, 3.5, 1.0, 3000)
    settings = replace(APART, chunk_seconds=4.0)
    one = only(find_regions(sound, settings, sample_rate=RATE))
    assert (one.start, one.end) == pytest.approx((3.5, 4.5), abs=0.05)
    assert one.low_hz < 3000 < one.high_hz
    assert len(find_regions(sound, settings, sample_rate=RATE, separate_chunks=True)) == 2


def test_longest_region_is_cut_in_bounded_memory() -> None:
    sound = noise(60)
    for second in range(1, 50):  # half of each second, so that the background stays
        add_tone(sound, RATE, second, 0.5, 3000)
    settings = replace(APART, join_seconds=0.4, max_seconds=15.0, chunk_seconds=5.0)
    found = find_regions(sound, settings, sample_rate=RATE)
    lengths = (found.end - found.start).to_numpy()
    assert len(found) >= 3
    assert (lengths <= 21).all()
    assert lengths.sum() > 40


def test_snr_is_power_of_the_sound_over_that_of_the_noise_in_the_box() -> None:
    """A tone of amplitude A over white noise of variance v: (A² / 2) / (v · share of the rows)."""
    for amplitude in (0.03, 0.3):
        sound = noise(10)
        add_tone(sound, RATE, 4, 0.5, 3000, amplitude)
        one = only(find_regions(sound, replace(APART, depth_db=0.0), sample_rate=RATE))
        rows = (one.high_hz - one.low_hz) / (RATE / 512) + 1
        seconds = one.end - one.start + 256 / RATE  # the box counts whole frames
        energy = amplitude**2 / 2 * 0.5 * (0.8 + 0.2 / 3)  # with the ramps
        wanted = 10 * np.log10(energy / seconds / (1e-6 * rows * 2 / 512))
        assert one.snr_db == pytest.approx(wanted, abs=0.5)  # the tone itself raises the median by 0.3 dB


@pytest.mark.parametrize("rate", [2_000, 8_000, 48_000, 384_000, 500_000])
def test_every_rate_has_its_scale(rate: int) -> None:
    """Two sweeps as long as 30 windows at a tenth and a fifth of the rate are two boxes by suggested settings."""
    unit = {2_000: 1.0, 8_000: 0.5}.get(rate, 12_000 / rate)
    sound = noise(20 * unit, rate)
    for start, share in ((4, 0.1), (12, 0.2)):
        add_tone(sound, rate, start * unit, unit, share * rate)
    found = find_regions(sound, sample_rate=rate)
    assert np.round(found.start / unit).tolist() == [4, 12]
    np.testing.assert_allclose(found.end - found.start, unit, rtol=0.15)
    assert (found.low_hz < np.array([0.1, 0.2]) * rate).all()
    assert (found.high_hz > np.array([0.1, 0.2]) * rate).all()


def test_the_same_samples_at_another_rate_are_the_same_boxes() -> None:
    sound = calls_in_noise(0)
    slow = find_regions(sound, APART, sample_rate=RATE)
    scaled = {name: getattr(APART, name) * 10 for name in ("low_hz", "high_hz", "join_hz")}
    times = {name: getattr(APART, name) / 10 for name in ("join_seconds", "min_seconds", "chunk_seconds")}
    fast = find_regions(sound, replace(APART, **scaled, **times), sample_rate=10 * RATE)
    assert len(slow) > 15
    np.testing.assert_allclose(fast.to_numpy(), slow.to_numpy() * [0.1, 0.1, 10, 10, 1], rtol=1e-6)


def test_the_scale_of_the_samples_does_not_matter() -> None:
    """Floats in the scale of 16 bit integers, and a recording at a third of the gain."""
    sound = calls_in_noise(0)
    plain, large, small = (find_regions(scale * sound, sample_rate=RATE).to_numpy() for scale in (1.0, 32768.0, 0.3))
    assert len(plain) > 15
    np.testing.assert_allclose(large, plain, rtol=1e-3)
    np.testing.assert_allclose(small, plain, rtol=1e-3)


def test_notes_stay_apart_and_pulses_of_a_trill_do_not() -> None:
    notes, trill = noise(6), noise(6)
    for place in range(12):
        add_tone(notes, RATE, 2 + 0.13 * place, 0.09, 3000)
    for place in range(25):
        add_tone(trill, RATE, 2 + 0.08 * place, 0.03, 3000)
    assert len(find_regions(notes, sample_rate=RATE)) == 12
    one = only(find_regions(trill, sample_rate=RATE))
    assert (one.start, one.end) == pytest.approx((2, 3.95), abs=0.05)


def test_harmonics_are_one_sound() -> None:
    sound = noise(6)
    for number in range(1, 5):
        add_tone(sound, RATE, 2, 0.3, 1500 * number, 0.1 / number)
    add_tone(sound, RATE, 3, 0.3, 1500)
    found = find_regions(sound, PLAIN, sample_rate=RATE)
    assert found.start.round(1).tolist() == [2, 3]
    assert found.high_hz[0] > 5900
    assert len(find_regions(sound, APART, sample_rate=RATE)) == 5


def test_only_sounds_that_share_their_time_are_joined() -> None:
    long, short, other = Found(0, 99, 0, 9, 100.0, 1.0), Found(50, 60, 20, 29, 90.0, 1.0), Found(60, 159, 40, 49, 50.0, 1.0)
    assert len(join_harmonics([long, short, other])) == 3
    weak = replace(short, first=50, last=75, signal=5.0)  # a fragment of the first
    assert join_harmonics([long, weak]) == [Found(0, 99, 0, 29, 105.0, 2.0)]


@pytest.mark.parametrize("sound", [noise(5), np.zeros(5 * RATE), np.full(5 * RATE, 0.5), np.zeros(100), noise(0.5)])
def test_no_region(sound: np.ndarray) -> None:
    found = find_regions(sound, sample_rate=RATE)
    assert found.columns.tolist() == ["start", "end", "low_hz", "high_hz", "snr_db"]
    assert found.shape == (0, 5)
    assert {str(kind) for kind in found.dtypes} == {"float64"}


def test_thousands_of_regions_in_order() -> None:
    rate = 8_000
    sound = noise(600, rate)
    for place in range(2400):
        add_tone(sound, rate, 0.2 + 0.249 * place, 0.12, 500 + 37 * (place % 80))
    found = find_regions(sound, sample_rate=rate)
    assert len(found) == 2400
    assert found.start.is_monotonic_increasing


@pytest.mark.parametrize(
    ("sound", "options", "message"),
    [
        (np.zeros((2, 100)), {"sample_rate": 8000}, "floats"),
        (np.zeros(100, np.int16), {"sample_rate": 8000}, "int16"),
        (np.zeros(0), {"sample_rate": 8000}, "samples"),
        (np.zeros(100), {}, "sample_rate"),
        (np.array([0.0, np.nan]), {"sample_rate": 8000}, "NaN"),
        (np.zeros(9000), {"sample_rate": 8000, "low_hz": 5000.0}, "ends at 4000 Hz; lower low_hz"),
        (np.zeros(9000), {"sample_rate": 8000, "LOW_FREQ": 5000.0, "HIGH_FREQ": 4000.0}, "must be below"),
        (np.zeros(9000), {"sample_rate": 8000, "low_hertz": 1}, "did you mean 'low_hz'"),
        (np.zeros(9000), {"sample_rate": 8000, "low_hz": 1, "LOW_FREQ": 2}, "twice"),
        (np.zeros(9000), {"sample_rate": 8000, "min_seconds": -1.0}, "negative"),
        (np.zeros(9000), {"sample_rate": 8000, "seed_db": 5.0, "edge_db": 9.0}, "above seed_db"),
        (np.zeros(9000), {"sample_rate": 8000, "background": "low"}, "allowed"),
    ],
)
def test_what_cannot_be_searched_is_refused(sound: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_regions(sound, **options)


def test_a_band_above_half_the_rate(tmp_path: Path) -> None:
    """What lies above does not exist: the rest is searched, and a file without a rest is an error of that file."""
    sound = noise(5, 8000)
    add_tone(sound, 8000, 2, 0.5, 3000)
    path = tmp_path / "owl.wav"
    write_wav(path, sound, 8000)
    cut, over = (find_regions(path, high_hz=high, low_hz=250.0, seed_db=20.0) for high in (4_000.0, 12_000.0))
    assert len(cut) == 1
    np.testing.assert_array_equal(cut, over)
    with pytest.raises(AudioError, match=r"owl.wav: of 8000 Hz has nothing in the band 9000 to"):
        list(stream_regions(path, RegionSettings(low_hz=9_000.0)))


def test_a_file_gives_what_its_waveform_gives(tmp_path: Path) -> None:
    path = tmp_path / "calls.wav"
    sound = calls_in_noise(1)
    write_wav(path, sound, RATE, "FLOAT")
    read, given = find_regions(path), find_regions(sound, sample_rate=RATE)
    assert len(read) > 10
    np.testing.assert_allclose(read, given, rtol=1e-9)
    (settings,) = suggested_settings([path, tmp_path / "absent.wav"]).values()
    assert settings.complete()
    np.testing.assert_allclose(find_regions(path, settings), read, rtol=1e-9)
    start = find_regions(path, settings, AUDIO_DURATION=5)
    assert 0 < len(start) < len(read)
    with pytest.raises(AudioError):
        find_regions(tmp_path / "absent.wav")


def test_upstreams_names_give_upstreams_way() -> None:
    """What is not given is as there, not suggested."""
    values = {name: getattr(BAMBIRD, ours) for name, ours in BAMBIRD_NAMES.items()}
    sound = calls_in_noise(0)
    chosen = find_regions(sound, BAMBIRD, sample_rate=RATE)
    assert len(chosen) > 2
    np.testing.assert_array_equal(find_regions(sound, sample_rate=RATE, **values, OVLP=0.5), chosen)
    np.testing.assert_array_equal(find_regions(sound, sample_rate=RATE, MASK_PARAM1=26), chosen)
    assert len(find_regions(sound, RegionSettings(), sample_rate=RATE, MASK_PARAM1=26)) > 2 * len(chosen)
