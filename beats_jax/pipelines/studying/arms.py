"""What each arm of a study trains on. All arms of a size and seed have the same real examples, and the same number of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from beats_jax.audio.scenes import Call, cut_call, mix, quiet_background, random_snr
from beats_jax.errors import UserError
from beats_jax.objectives.losses.classification import balanced_weights
from beats_jax.pipelines.studying.classifier import Pool, Recipe, Weights, fit, predict
from beats_jax.pipelines.studying.networks import CNN
from beats_jax.pipelines.studying.pictures import Pictures, clip_blocks, fit_length, picture_of, samples_of
from beats_jax.pipelines.studying.rows import StudyRows
from beats_jax.pipelines.studying.settings import GATED, GENERATORS, StudySettings
from beats_jax.pipelines.studying.store import ALL, Fit

JITTER = 0.25  # deviation of the noise in each cell; that of a picture is 1
MOST_SYNTHETIC = 2000  # of a class
MOST_SOURCES = 1000  # calls, and backgrounds, that scenes are mixed of
CANDIDATES = 2  # pictures for each that a gate should let through


@dataclass(frozen=True)
class Made:
    """Synthetic examples: pictures float32 [K, F, M], labels int64 [K], those of a class in random order; share kept."""

    images: np.ndarray
    labels: np.ndarray
    kept: float = float("nan")

    def first(self, counts: np.ndarray) -> np.ndarray:
        """int64: `counts[c]` examples of each class c, again from the first where there are too few, none where there is none."""
        chosen = [
            np.resize(np.flatnonzero(self.labels == c), n) for c, n in enumerate(counts.tolist()) if (self.labels == c).any()
        ]
        return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


@dataclass
class Arms:
    """Makes the pools. What a size and seed share is made once, when first asked for.

    Attributes:
      train_generator: (kind, pictures, labels, classes, seed) → function (labels int64 [K], seed) → pictures.
      note: receives a sentence on what an arm could not do.
    """

    settings: StudySettings
    rows: StudyRows
    pictures: Pictures
    train_generator: Callable[..., Callable[[np.ndarray, int], np.ndarray]]
    note: Callable[[str], None]
    _made: dict[tuple[str, int, int], Made] = field(default_factory=dict)
    _gates: dict[tuple[int, int], Weights] = field(default_factory=dict)

    def real(self, size: int, seed: int) -> np.ndarray:
        """int64: the real training rows: all of the background, and of each other class the first `size` of the seed's order."""
        train = self.usable("train")
        chosen = []
        for c in range(len(self.rows.vocabulary)):
            own = train[self.rows.labels[train] == c]
            if c != self.rows.background and size != ALL:
                own = np.random.default_rng([seed, c]).permutation(own)[:size]
            chosen.append(own)
        return np.concatenate(chosen)

    def usable(self, split: str) -> np.ndarray:
        """int64: the readable rows of a split."""
        found = self.rows.of_split(split)
        return found[self.pictures.readable[found]]

    def pool(self, wanted: Fit) -> tuple[Pool, float]:
        """The examples of a fit, and the share of the synthetic ones that a gate kept (NaN without).

        Raises:
          FloatingPointError: a generator diverged. UserError: nothing synthetic can be made.
        """
        real = self.real(wanted.size, wanted.seed)
        labels, classes = self.rows.labels[real], len(self.rows.vocabulary)
        counts, ones = np.bincount(labels, minlength=classes), np.ones(classes, np.float32)
        if wanted.arm == "weighted":
            return Pool(self.pictures.images[real], labels, balanced_weights(counts)), np.nan
        if not wanted.ratio:
            return Pool(self.pictures.images[real], labels, ones, augmented=wanted.arm == "classic"), np.nan
        more = self._further(counts, wanted.ratio)
        made = self.made(wanted.arm, wanted.size, wanted.seed)
        chosen = made.first(more)
        if not len(chosen):
            raise UserError(f"no synthetic example could be made for the arm {wanted.arm}")
        images = np.concatenate([self.pictures.images[real], made.images[chosen]])
        return Pool(images, np.concatenate([labels, made.labels[chosen]]), ones), made.kept

    def _further(self, counts: np.ndarray, ratio: float) -> np.ndarray:
        more = np.minimum(np.round(ratio * counts), MOST_SYNTHETIC).astype(int)
        if self.rows.background is not None:
            more[self.rows.background] = 0
        return more

    def drawn(self, size: int) -> int:
        """Pictures that a generator draws for a size: enough for the largest ratio, and for a gate to choose from."""
        counts = np.bincount(self.rows.labels[self.real(size, 0)], minlength=len(self.rows.vocabulary))
        return CANDIDATES * int(self._further(counts, max(self.settings.ratios)).sum())

    def made(self, arm: str, size: int, seed: int) -> Made:
        """The synthetic examples of an arm, enough for the largest ratio; those of other sizes and seeds are forgotten."""
        key = (arm, size, seed)
        if key not in self._made:
            self._made = {old: made for old, made in self._made.items() if old[1:] == (size, seed)}
            self._made[key] = self._make(arm, size, seed)
        return self._made[key]

    def _make(self, arm: str, size: int, seed: int) -> Made:
        real = self.real(size, seed)
        real = real[self.rows.labels[real] != (-1 if self.rows.background is None else self.rows.background)]
        labels, rng = self.rows.labels[real], np.random.default_rng([seed, 7])
        counts = np.bincount(labels, minlength=len(self.rows.vocabulary))
        wanted = np.repeat(np.arange(len(counts)), self._further(counts, max(self.settings.ratios)))
        if arm in ("oversampled", "jitter"):
            chosen = Made(np.zeros(0), labels).first(np.bincount(wanted, minlength=len(counts)))
            images = self.pictures.images[real[chosen]]
            noise = rng.normal(0, JITTER, images.shape).astype(np.float32) if arm == "jitter" else 0.0
            return Made(images + noise, labels[chosen])
        if arm == "scenes":
            return self._scenes(real, labels, wanted, rng)
        if arm.endswith(GATED):
            return self._gated(arm.removesuffix(GATED), size, seed)
        candidates = CANDIDATES * len(wanted) if f"{arm}{GATED}" in self.settings.arms else len(wanted)
        wanted = np.resize(rng.permutation(wanted), candidates)
        draw = self.train_generator(arm, self.pictures.images[real], labels, len(counts), seed)
        images = draw(wanted, seed)
        if not np.isfinite(images).all():
            raise FloatingPointError(f"the generator {arm} gave values that are not finite")
        return Made(images, wanted)

    def _gated(self, generator: str, size: int, seed: int) -> Made:
        """The candidates whose class the gate, trained on the real training rows of this size and seed alone, recognises."""
        assert generator in GENERATORS
        made = self.made(generator, size, seed)
        if (size, seed) not in self._gates:
            pool, _ = self.pool(Fit(size, "weighted", 0.0, seed))
            self._gates = {(size, seed): fit(pool, self.recipe(), 10_000 + seed)}
        classes = len(self.rows.vocabulary)
        found = predict(self._gates[size, seed], CNN, classes, made.images).argmax(axis=1)
        good = found == made.labels
        return Made(made.images[good], made.labels[good], float(good.mean()))

    def recipe(self, augmented: bool = False) -> Recipe:
        """How every network of the arms is trained."""
        settings = self.settings
        return Recipe(CNN, len(self.rows.vocabulary), settings.steps, settings.batch_size, augmented)

    def _scenes(self, real: np.ndarray, labels: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> Made:
        """Calls of the real clips, mixed into backgrounds of the training rows."""
        rate, samples = self.rows.audio.sample_rate, samples_of(self.rows)
        chosen = real if len(real) <= MOST_SOURCES else rng.choice(real, MOST_SOURCES, replace=False)
        calls: dict[int, list[Call]] = {}
        sounds = self._sounds(chosen)
        for row, sound in sounds.items():
            call = cut_call(sound, rate)
            if call is not None:
                calls.setdefault(int(self.rows.labels[row]), []).append(call)
        lost = [self.rows.vocabulary.names[c] for c in np.unique(labels).tolist() if c not in calls]
        if lost:
            self.note(f"scenes: nothing rises over its background in the clips of {', '.join(lost)}; none are made of them")
        backgrounds = self._backgrounds(sounds, samples, rng)
        waveforms, kept = [], []
        for c in wanted.tolist():
            if c not in calls:
                continue
            call = calls[c][rng.integers(len(calls[c]))]
            background = backgrounds[rng.integers(len(backgrounds))]
            waveforms.append(mix(call, background, rate, random_snr(calls[c], rng), rng))
            kept.append(c)
        if not waveforms:
            raise UserError("scenes: no clip holds a call that rises over its background")
        order = rng.permutation(len(kept))
        images = picture_of(np.stack(waveforms), self.rows.audio.filterbank)
        return Made(images[order], np.array(kept, np.int64)[order])

    def _sounds(self, chosen: np.ndarray) -> dict[int, np.ndarray]:
        samples, found = samples_of(self.rows), {}
        for block, waveforms, errors in clip_blocks(self.rows, chosen):
            for error in errors:
                self.note(f"{error}")
            pairs = zip(block.tolist(), waveforms, strict=True)
            found |= {row: fit_length(waveform, samples) for row, waveform in pairs if waveform is not None}
        return found

    def _backgrounds(self, sounds: dict[int, np.ndarray], samples: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Clips of the background class; without one, noise with the spectra of the quiet stretches of the clips."""
        if self.rows.background is None:
            return [quiet_background(sound, rng) for sound in sounds.values()]
        train = self.usable("train")
        own = train[self.rows.labels[train] == self.rows.background]
        own = own if len(own) <= MOST_SOURCES else rng.choice(own, MOST_SOURCES, replace=False)
        return list(self._sounds(own).values())
