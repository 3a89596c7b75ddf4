"""Sound of the recordings themselves: what a detector must not answer to, and how often it would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from beats_jax.audio.io import AudioError, read
from beats_jax.config import AudioConfig
from beats_jax.errors import UserError
from beats_jax.pipelines.window_plan import header_lengths

MOST_SECONDS = 600.0  # of background; more makes the rates of false alarms surer and costs time before the first window
QUANTILE = 0.9
STRETCH_SECONDS = 20.0  # read at once, so that the background is of many recordings and times


def background_stretches(recordings: Sequence[str], audio: AudioConfig) -> list[np.ndarray]:
    """Waveforms float32 [samples], spread evenly over the recordings in order; at most `MOST_SECONDS` together.

    Stretches that cannot be read are left out: their recordings are listed when their turn comes.

    Raises:
      UserError: none can be read.
    """
    seconds = header_lengths(recordings)
    places = [
        (file, start, min(STRETCH_SECONDS, length - start))
        for file, length in zip(recordings, seconds.tolist(), strict=True)
        for start in np.arange(0.0, length, STRETCH_SECONDS).tolist()
    ]
    wanted = int(MOST_SECONDS / STRETCH_SECONDS)
    chosen = [places[place] for place in np.unique(np.linspace(0, len(places) - 1, min(wanted, len(places))).astype(int))]
    found = []
    for file, start, length in chosen:
        try:
            sound = read(file, sample_rate=audio.sample_rate, channel=audio.channel, start_seconds=start, seconds=length)
        except (AudioError, OSError):
            continue
        if np.any(sound):  # digital silence has no level
            found.append(sound)
    if not found:
        raise UserError("none of the recordings can be read; the background of a detector is made of them")
    return found


@dataclass(frozen=True)
class FalseAlarms:
    """How often the background reaches a score: its windows, `per_hour` of them, are taken as normal with `mean` and `deviation`.

    That is a model of the tail, not a count: sounds that are like the call come on top.
    """

    mean: float
    deviation: float
    per_hour: float

    def score_at(self, rate: float) -> float:
        """The score that the background reaches `rate` times an hour."""
        return self.mean + self.deviation * float(norm.isf(min(rate / self.per_hour, 0.5)))

    def rate_at(self, score: float) -> float:
        """How many windows an hour reach the score."""
        return self.per_hour * float(norm.sf(score, self.mean, self.deviation))


def false_alarms(scores: np.ndarray, per_hour: float) -> FalseAlarms:
    """From the median and `QUANTILE`, which calls in a few of the windows do not move.

    Args:
      scores: float [W], of background windows. per_hour: windows in an hour.
    """
    middle, high = np.quantile(scores, (0.5, QUANTILE))
    return FalseAlarms(float(middle), max(float(high - middle) / float(norm.isf(1 - QUANTILE)), 1e-6), per_hour)
