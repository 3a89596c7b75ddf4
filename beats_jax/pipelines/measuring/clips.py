"""The clips that a report shows, read again from disk: worst errors, frequent confusions, one of every class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np

from beats_jax.audio.filterbank import filterbank
from beats_jax.audio.io import AudioError, read
from beats_jax.config import Experiment
from beats_jax.evaluation.report.examples import ConfusedPair
from beats_jax.evaluation.report.page import Example
from beats_jax.pipelines.measuring.measure import Measured

PAIRS, CLIPS_OF_A_PAIR = 5, 2


class Clips:
    """Clips of measured rows; the experiment says how recordings are read."""

    def __init__(self, measured: Measured, experiment: Experiment) -> None:
        self.rows, self.result, self.peaks = measured.rows, measured.result, measured.peaks
        self.probabilities, self.experiment = measured.probabilities, experiment

    def worst_errors(self) -> list[Example]:
        """The most confident mistakes, as many as `evaluation.worst_errors`."""
        errors = self.result.worst_errors[: self.experiment.evaluation.worst_errors]
        return [self._example(error.index, error.wrong_class, error.probability) for error in errors]

    def confused_pairs(self) -> list[ConfusedPair]:
        """The most frequent confusions with the most confident of their clips; none for multi-label rows."""
        result = self.result
        if result.multi_label:
            return []
        wrong = result.confusion - np.diag(np.diag(result.confusion))
        largest = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
        pairs = []
        for true, given in zip(*np.unravel_index(largest, wrong.shape), strict=True):
            if wrong[true, given] > 0:
                names = result.class_names[int(true)], result.class_names[int(given)]
                errors = (error for error in result.worst_errors if error.wrong_class == names[1])
                found = [error for error in errors if self._is(error.index, names[0])][:CLIPS_OF_A_PAIR]
                examples = [self._example(error.index, names[1], error.probability) for error in found]
                pairs.append(ConfusedPair(*names, int(wrong[true, given]), int(result.confusion[true].sum()), tuple(examples)))
        return pairs

    def gallery(self) -> list[Example]:
        """The clip of every class that the model is surest of, with the model's own input."""
        model_input = self._model_input()
        examples = []
        for column, name in enumerate(self.result.class_names):
            own = [i for i in range(len(self.rows)) if self._is(i, name)]
            if own:
                best = max(own, key=lambda i, column=column: float(self.probabilities[i, column]))
                example = self._example(best, name, float(self.probabilities[best, column]))
                fbank = None if example.waveform is None else model_input(example.waveform)
                examples.append(example._replace(label=name, fbank=fbank))
        return examples

    def _is(self, row: int, name: str) -> bool:
        return name in self.rows.labels[row]

    def _example(self, i: int, prediction: str, probability: float) -> Example:
        """The window with the largest logit of the prediction."""
        rows, audio, seconds = self.rows, self.experiment.audio, self.experiment.data.heard_seconds
        start = float(np.nan_to_num(rows.starts[i]))
        if self.peaks is not None and prediction in self.result.class_names:
            start = float(self.peaks[i, self.result.class_names.index(prediction)])
        length = min(seconds, float(rows.ends[i]) - start) if np.isfinite(rows.ends[i]) else seconds
        file, label = str(rows.files[i]), ", ".join(rows.labels[i]) or "(none)"
        try:
            sound = read(file, sample_rate=audio.sample_rate, start_seconds=start, seconds=length, channel=audio.channel)
        except AudioError:
            sound = None  # the report lists the clip without it
        return Example(file, start, label, prediction, probability, sound, audio.sample_rate)

    def _model_input(self) -> Callable[[np.ndarray], np.ndarray]:
        """float [samples] → the normalised filterbank of its real frames, float32 [F, M]."""
        settings = replace(self.experiment.audio.filterbank, target_frames=0)
        samples = max(round(self.experiment.data.heard_seconds * settings.sample_rate), settings.frame_samples)
        compute = jax.jit(lambda waveforms, lengths: filterbank(waveforms, lengths, settings))

        def read_input(waveform: np.ndarray) -> np.ndarray:
            padded = np.zeros((1, samples), np.float32)
            padded[0, : len(waveform)] = waveform[:samples]
            fbank, frame_mask = compute(padded, np.array([min(len(waveform), samples)], np.int32))
            real = np.asarray(fbank)[0][np.asarray(frame_mask)[0]]
            return real if len(real) else np.asarray(fbank)[0][:1]

        return read_input
