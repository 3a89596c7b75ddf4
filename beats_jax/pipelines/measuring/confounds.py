"""How well level and background alone predict the labels: a classifier that reads no call.

Level: root mean square and peak in dB. Background: the lower quartile over time of the power in each of `BANDS` bands, which a
call of less than three quarters of the clip hardly moves. Logistic regression, out of fold, recordings whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from beats_jax.audio.io import AudioError, read
from beats_jax.config import AudioConfig
from beats_jax.evaluation.predictions import PredictionTable

BANDS, FRAME, HOP = 32, 256, 128  # samples
QUARTILE, FOLDS = 25, 5
SILENCE = 1e-10  # power
LEVEL = 2  # the first features


def background_features(table: PredictionTable, audio: AudioConfig, threads: int) -> np.ndarray:
    """float64 [N, 2 + BANDS] of every row; NaN where it cannot be read."""

    def one(row: int) -> np.ndarray:
        start, end = float(np.nan_to_num(table.starts[row])), float(table.ends[row])
        span = {"start_seconds": start, "seconds": None if np.isnan(end) else end - start}
        try:
            sound = read(table.files[row], sample_rate=audio.sample_rate, channel=audio.channel, **span)
        except AudioError:
            return np.full(LEVEL + BANDS, np.nan)
        return features_of(sound)

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(one, range(len(table.files)))))


def features_of(sound: np.ndarray) -> np.ndarray:
    """Level and background in dB, float64 [2 + BANDS]."""
    sound = np.asarray(sound, np.float64)
    sound = np.pad(sound, (0, max(0, FRAME - len(sound))))
    level = 10 * np.log10(np.array([np.mean(sound**2), np.max(sound**2)]) + SILENCE)
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)[:, : FRAME // 2]) ** 2
    bands = power.reshape(len(power), BANDS, -1).mean(axis=2)
    return np.concatenate([level, 10 * np.log10(np.percentile(bands, QUARTILE, axis=0) + SILENCE)])


def confound_probabilities(features: np.ndarray, labels: np.ndarray, recordings: Sequence[object]) -> np.ndarray | None:
    """Out-of-fold probabilities float64 [N, C] of the classes 0 .. C - 1, from features without NaN.

    None where no division of whole recordings leaves every class for training: a class is all in one recording, say.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    groups = np.unique(np.asarray(recordings), return_inverse=True)[1]
    classes = np.unique(labels)
    count = min(FOLDS, *(min((labels == c).sum(), len(np.unique(groups[labels == c]))) for c in classes))
    if count < 2:
        return None
    folds = list(StratifiedGroupKFold(int(count), shuffle=True, random_state=0).split(features, labels, groups))
    if any(len(np.unique(labels[train])) < len(classes) for train, _ in folds):
        return None
    return np.asarray(cross_val_predict(model, features, labels, cv=folds, method="predict_proba"))
