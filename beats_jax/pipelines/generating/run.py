"""A run of `train` that ends in a generator: images of the recordings, training, quality, sounds, report.

WORKDIR/generator/ is what `load_generator` reads; WORKDIR/sounds/ holds drawn sounds as WAV, at their own speed and faster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.audio.io import write_wav
from beats_jax.audio.resampling import resample
from beats_jax.config import Experiment, to_mapping
from beats_jax.errors import UserError
from beats_jax.evaluation.predictions import write_metrics
from beats_jax.evaluation.report.generation import PLAYED_RATE, Sound, generation_page
from beats_jax.evaluation.report.page import write_page
from beats_jax.pipelines.generating.generator import Generator
from beats_jax.pipelines.generating.images import LabelledImages, read_images, require_generative, transform_of
from beats_jax.pipelines.generating.pictures import pictures_of
from beats_jax.pipelines.generating.quality import Quality, measure_quality
from beats_jax.pipelines.generating.train import train_generator
from beats_jax.pipelines.measuring.write import REPORT_FILE, data_facts, read_history, versions
from beats_jax.pipelines.training.preparation import DATA_REPORT_FILE, PreparedData
from beats_jax.pipelines.training.workdir import METRICS_FILE, write_text

LEAST_MEASURED = 16  # held-out images: with fewer, figures of quality say nothing
SOUNDS_PER_CLASS = 2
MOST_CLASSES = 8  # that are shown and sounded
FASTER = (4, 8)


def generate(experiment: Experiment, workdir: Path, data: PreparedData, *, command: str) -> dict[str, Any]:
    """Trains a generator on prepared recordings or resumes it; leaves generator/, sounds/, metrics.json and report.html.

    Returns:
      what metrics.json holds: figures of quality with intervals and floors, `steps`, and `spectral_convergence` of the sounds.
    """
    require_generative(experiment)
    if jax.process_count() > 1:
        raise UserError(f"objective {experiment.objective.name} trains in one process; this job has {jax.process_count()}")
    write_text(workdir / DATA_REPORT_FILE, data.report.to_json() + "\n")
    train, held, test = (read_images(experiment, data, split) for split in ("train", "val", "test"))
    print(f"images: {len(train)} to train, {len(held)} to watch, {len(test)} to measure; {_size_line(experiment)}", flush=True)
    if train.padded:
        print(f"warning: {_padded_line(train, experiment)}", flush=True)
    watched = (held.images, held.labels) if len(held) else None
    generator = train_generator(train.images, train.labels, experiment, held_out=watched, workdir=workdir, quiet=False)
    generator.save(workdir / "generator")
    measured = test if len(test) else held
    quality = _quality(generator, train, measured)
    sounds = make_sounds(generator, experiment, workdir / "sounds")
    return _write_results(workdir, experiment, data, generator, quality, sounds, (train, measured), command)


def make_sounds(generator: Generator, experiment: Experiment, folder: Path, seed: int = 0) -> list[Sound]:
    """Draws `SOUNDS_PER_CLASS` images of each class and writes their sounds: NAME.wav and NAME_4x.wav, NAME_8x.wav, faster."""
    transform, rate = transform_of(experiment), experiment.audio.sample_rate
    labels = [name for name in generator.classes[:MOST_CLASSES] for _ in range(SOUNDS_PER_CLASS)]
    waveforms, convergence = transform.waveforms(generator.sample(labels, seed), seed)
    folder.mkdir(parents=True, exist_ok=True)
    sounds = []
    for number, (label, waveform, distance) in enumerate(zip(labels, waveforms, convergence, strict=True)):
        loud = waveform / max(1e-9, float(np.abs(waveform).max())) * 0.9
        played = resample(loud, rate, PLAYED_RATE) if rate < PLAYED_RATE else loud
        name = f"{number:03d}_{''.join(letter if letter.isalnum() else '_' for letter in label)}"
        write_wav(folder / f"{name}.wav", played, max(rate, PLAYED_RATE))
        for times in FASTER:
            write_wav(folder / f"{name}_{times}x.wav", loud, rate * times)
        sounds.append(Sound(label, waveform, rate, float(distance)))
    return sounds


def _quality(generator: Generator, train: LabelledImages, measured: LabelledImages) -> Quality | None:
    if len(measured) < LEAST_MEASURED:
        return None
    print(f"measuring {len(measured)} held-out images against drawn ones ...", flush=True)
    return measure_quality(generator, (train.images, train.labels), (measured.images, measured.labels))


def _write_results(
    workdir: Path,
    experiment: Experiment,
    data: PreparedData,
    generator: Generator,
    quality: Quality | None,
    sounds: list[Sound],
    images: tuple[LabelledImages, LabelledImages],
    command: str,
) -> dict[str, Any]:
    settings = to_mapping(experiment)
    settings.pop("model")  # a generator's network is a part of its objective
    convergence = [sound.convergence for sound in sounds]
    metrics: dict[str, Any] = {} if quality is None else quality.as_metrics()
    metrics |= {"steps": generator.experiment.training.max_steps, "spectral_convergence": float(np.mean(convergence))}
    page = generation_page(
        title=f"{experiment.name}: {generator.kind}",
        kind=generator.kind,
        problems=generator.problems,
        quality=None if quality is None else vars(quality),
        history=read_history(workdir),
        pictures=pictures_of(generator, images, transform_of(experiment)),
        sounds=sounds,
        data_summary={**data_facts(data), "short windows": _padded_line(images[0], experiment)},
        settings=settings,
        errors=data.errors.rows(),
        versions=versions(),
        command=command,
    )
    write_page(workdir / REPORT_FILE, page)
    write_metrics(workdir / METRICS_FILE, metrics)
    print("\n".join(page.findings))
    print(f"generator: {workdir / 'generator'}\nreport: {workdir / REPORT_FILE}", flush=True)
    return metrics


def _padded_line(train: LabelledImages, experiment: Experiment) -> str:
    return (
        f"{train.padded} of {len(train)} training images end in silence, as their sounds are shorter than the window of "
        f"{experiment.data.window_seconds:g} s (data.window_seconds)"
    )


def _size_line(experiment: Experiment) -> str:
    transform = transform_of(experiment)
    hz = transform.hz
    return (
        f"{transform.config.bands} bands from {hz[0]:.0f} to {hz[-1]:.0f} Hz, {transform.config.frames} frames of "
        f"{transform.size} samples every {transform.hop}"
    )
