"""Settings that nobody gave: from the rate, and from how the sounds look."""

from __future__ import annotations

from dataclasses import replace

from beats_jax.audio.regions.settings import RegionSettings


def suggest(rate: int, settings: RegionSettings) -> RegionSettings:
    """The settings with every None replaced, for sound of `rate` Hz."""
    fft = settings.fft_samples or (1024 if rate >= 30_000 else 512 if rate >= 11_000 else 256)
    given = {
        "low_hz": 0.0,
        "high_hz": rate / 2,
        "fft_samples": fft,
        "join_seconds": 0.1,
        "join_hz": 250.0,
        "join_harmonics": False,
        "min_seconds": 0.05,
    }
    return replace(settings, **{name: value for name, value in given.items() if getattr(settings, name) is None})
