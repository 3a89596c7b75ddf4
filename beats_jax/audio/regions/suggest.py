"""Settings that nobody gave: from the rate, and from how the sounds of a few stretches look.

The window follows the rate. In stretches of the recordings every piece that stands out is found without closing any gap; the
thresholds follow the loudest sounds, and lengths those of the pieces:

    seed_db       12 dB below the loudest pixel of a loud stretch, between 14 and 26 (upstream's): faint whales have seeds too,
                  and Gaussian noise reaches 14 dB above its median once in 80 million pixels
    edge_db       from 7 to 10 dB, with the seed
    join_seconds  nothing is closed in time, so that notes stay apart; but pieces of at most 5 frames are pulses of a trill,
                  which gaps of up to four times their length join
    min_seconds   a third of the typical piece, at least 2 frames, at most 10
    join_hz       6 rows
    range_db      what lies 66 dB below the loudest pixel is silence, whatever the gain; at most 125 dB, where 16 bits end
    depth_db      33 dB; 25 dB for ultrasound, whose loud calls have long echoes
    low_hz        1/200 of the rate (240 Hz at 48 kHz, 10 Hz at 2 kHz), 10 kHz for ultrasound recorders: below is wind
    high_hz       the highest row that holds more than digital silence: codecs and resampling cut off what lies above
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from beats_jax.audio.band import ULTRASOUND_RATE
from beats_jax.audio.regions.levels import Levels, Plan, levels_of, make_plan
from beats_jax.audio.regions.search import search
from beats_jax.audio.regions.settings import RegionSettings, given

LOUD_STRETCH = 90  # percentile of the stretches' loudest pixels
SEED_BELOW_DB, LEAST_SEED_DB, LARGEST_SEED_DB = 12.0, 14.0, 26.0
RANGE_BELOW_LOUDEST_DB, LARGEST_RANGE_DB, NO_SOUND_RANGE_DB = 66.0, 125.0, 96.0
DEPTH_DB, ULTRASOUND_DEPTH_DB = 33.0, 25.0
LEAST_EDGE_DB, LARGEST_EDGE_DB = 7.0, 10.0
PULSE_FRAMES = 5
JOIN_ROWS = 6
HEARD_SHARE = 0.9
LOW_SHARE, ULTRASOUND_LOW_HZ = 1 / 200, 10_000.0


def suggest(stretches: Sequence[np.ndarray], rate: int, settings: RegionSettings) -> RegionSettings:
    """The settings with every None replaced, for recordings of `rate` Hz of which these are stretches, float32 [n] each."""
    if settings.complete():
        return settings
    ultrasound = rate > ULTRASOUND_RATE
    settings = _fill(settings, fft_samples=window_samples(rate), join_harmonics=True)
    settings = _fill(settings, low_hz=ULTRASOUND_LOW_HZ if ultrasound else rate * LOW_SHARE)
    settings = _fill(settings, depth_db=ULTRASOUND_DEPTH_DB if ultrasound else DEPTH_DB)
    lowest, row_hz = given(settings.low_hz), rate / given(settings.fft_samples)
    settings = _fill(settings, join_hz=JOIN_ROWS * row_hz)
    # All of the sound, without closing any gap; what is not known yet has no part in the levels.
    open_band = replace(settings, high_hz=max(rate / 2, lowest + row_hz), range_db=LARGEST_RANGE_DB, join_seconds=0.0)
    open_band = replace(open_band, min_seconds=0.0, join_harmonics=False, seed_db=LARGEST_SEED_DB, edge_db=LARGEST_EDGE_DB)
    plan = make_plan(rate, open_band)
    heard = [levels_of(one, plan, open_band) for one in stretches if plan.frames(len(one)) and len(plan.hz)]
    top = max((_highest(levels.power, plan) for levels in heard), default=rate / 2)
    settings = _fill(settings, high_hz=max(top, lowest + row_hz))
    settings = _with_thresholds(heard, plan, settings)
    names = ("high_hz", "range_db", "seed_db", "edge_db")
    return _with_lengths(stretches, rate, settings, replace(open_band, **{name: getattr(settings, name) for name in names}))


def _with_thresholds(heard: Sequence[Levels], plan: Plan, settings: RegionSettings) -> RegionSettings:
    if not heard:
        return _fill(
            settings,
            range_db=NO_SOUND_RANGE_DB,
            seed_db=LARGEST_SEED_DB,
            edge_db=min(LARGEST_EDGE_DB, settings.seed_db or LARGEST_SEED_DB),
        )
    kept = plan.hz <= given(settings.high_hz)
    loudest = np.percentile([levels.power[:, kept].max() for levels in heard], LOUD_STRETCH)
    wanted = RANGE_BELOW_LOUDEST_DB - 10 * float(np.log10(loudest))
    settings = _fill(settings, range_db=min(wanted, LARGEST_RANGE_DB))
    floor = 10 ** (-given(settings.range_db) / 10)
    above = [(levels.power / np.maximum(levels.background, floor))[:, kept].max() for levels in heard]
    seed = 10 * float(np.log10(np.percentile(above, LOUD_STRETCH))) - SEED_BELOW_DB
    seed = min(max(seed, LEAST_SEED_DB, settings.edge_db or 0), LARGEST_SEED_DB)
    share = (seed - LEAST_SEED_DB) / (LARGEST_SEED_DB - LEAST_SEED_DB)
    settings = _fill(settings, seed_db=max(seed, settings.edge_db or 0))
    edge = LEAST_EDGE_DB + share * (LARGEST_EDGE_DB - LEAST_EDGE_DB)
    return _fill(settings, edge_db=min(edge, given(settings.seed_db)))


def window_samples(rate: int) -> int:
    """Samples of the window for a rate in Hz: 12 to 23 ms of audible sound, a millisecond of ultrasound, 128 ms at 2 kHz."""
    return 1024 if 44_000 <= rate <= ULTRASOUND_RATE else 512 if rate >= 11_000 else 256


def _with_lengths(stretches: Sequence[np.ndarray], rate: int, settings: RegionSettings, pieces: RegionSettings) -> RegionSettings:
    frame = make_plan(rate, pieces).frame_seconds
    typical = _typical_seconds(stretches, rate, pieces)
    if settings.join_seconds is None:
        pulses = 0 < typical <= (PULSE_FRAMES + 0.5) * frame
        settings = replace(settings, join_seconds=2 * typical if pulses else 0.0)
    if settings.join_seconds:
        typical = _typical_seconds(stretches, rate, replace(pieces, join_seconds=settings.join_seconds))
    return _fill(settings, min_seconds=min(max(typical / 3, 2 * frame), 10 * frame))


def _typical_seconds(stretches: Sequence[np.ndarray], rate: int, pieces: RegionSettings) -> float:
    """Median length of what is found; 0 if nothing is."""
    plan = make_plan(rate, pieces)
    if not len(plan.hz):
        return 0.0
    lengths = [one.end - one.start for stretch in stretches for one in search(iter([stretch]), plan, pieces)]
    return float(np.median(lengths)) if lengths else 0.0


def _highest(power: np.ndarray, plan: Plan) -> float:
    """Frequency of the highest row that is above digital silence nearly always: codecs switch those above on and off."""
    heard = np.flatnonzero(np.mean(power > 2 * plan.floor, axis=0) >= HEARD_SHARE)
    return float(plan.hz[heard[-1]] if len(heard) else plan.hz[-1])


def _fill(settings: RegionSettings, **values: object) -> RegionSettings:
    return replace(settings, **{name: value for name, value in values.items() if getattr(settings, name) is None})  # type: ignore[arg-type]
