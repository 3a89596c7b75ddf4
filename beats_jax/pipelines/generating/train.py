"""Trains a generator on images in memory, in the one training loop: `train_generator`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beats_jax.config import Experiment, GenerativeConfig, TrainingConfig, to_mapping
from beats_jax.errors import Preempted, UserError
from beats_jax.evaluation.embeddings.generative import kernel_distance, typical_gap
from beats_jax.objectives.images import ImageObjective
from beats_jax.parallel.exchange import fetch
from beats_jax.parallel.mesh import check_batch_size, make_mesh
from beats_jax.pipelines.generating.batches import image_batches
from beats_jax.pipelines.generating.embedding import embed_images
from beats_jax.pipelines.generating.generator import Generator, objective_of
from beats_jax.pipelines.generating.scaling import Scaling, fit_scaling
from beats_jax.training import optimizer as optimizers
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.loop import FitSettings, Hooks, fit, fit_settings
from beats_jax.training.progress import NonFinite
from beats_jax.training.writers import History, Writers, for_run

LEAST_IMAGES = 4
FINISHING = 1024  # training images of which the texture and the distribution of codes are measured
LEAST_SPREAD = 0.3  # of what is drawn, as a share of that of real images: below, they are all alike
LEAST_VARIETY = 0.5  # the same for distances to the nearest other image
LEAST_ACTIVE = 1  # units of a latent: fewer carry nothing
EVALUATIONS = 5  # of a run, where its settings do not say


class Diverged(UserError):
    """The training of a generator ran away; the message names step and figure."""


@dataclass(frozen=True)
class Images:
    """Images in the units of the networks, float32 [N, F, T], and the numbers of their classes, int32 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """A batch of these rows."""
        return {"images": self.images[rows], "labels": self.labels[rows]}


def train_generator(
    images: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    settings: Experiment,
    seed: int | None = None,
    *,
    held_out: tuple[np.ndarray, Sequence[str] | np.ndarray] | None = None,
    workdir: str | Path | None = None,
    quiet: bool = True,
) -> Generator:
    """Trains a generator of the classes of `labels`.

    Args:
      images: float [N, bands, frames] in any units (dB, say); sides are multiples of 16. The training rows and no others: their
        statistics become the scaling.
      labels: [N], the class of each image.
      settings: of `recipes.recipe("vae")`, say, or of configs/generative.py.
      seed: replaces `settings.training.seed`.
      held_out: further images with labels, by which `sample_loss` and the loss are measured during training; None = the training
        images themselves.
      workdir: folder for history.jsonl, tensorboard/ and checkpoints/; a run that stopped there goes on. None = nothing is kept.
      quiet: no lines on standard output and no tensorboard/.
    Raises:
      UserError: images or labels that cannot be used, or settings of another objective.
      Diverged: a loss became infinite or NaN. Preempted: a signal asked to stop.
    """
    names, numbers = _check(images, labels, settings)
    settings = _with_image_size(settings, images.shape[1:], seed)
    scaling = fit_scaling(images)
    train = Images(scaling.to_network(images), numbers)
    held = train if held_out is None else _held_out(held_out, names, scaling)
    return _Training(settings, names, train, held, scaling, watched=workdir is not None or not quiet).run(workdir, quiet)


class _Training:
    """One run on images in the units of the networks."""

    def __init__(
        self, settings: Experiment, names: tuple[str, ...], train: Images, held: Images, scaling: Scaling, *, watched: bool
    ) -> None:
        training, batch = settings.training, settings.data.batch_size
        self.mesh = make_mesh(training.mesh_data, training.mesh_fsdp)
        check_batch_size(self.mesh, batch, 1)
        epoch = -(-len(train) // batch)
        self.fit_settings = fit_settings(training, epoch, to_mapping(settings))
        # The objective's own schedules (beta) are shares of the steps, which only now are known
        settings = replace(settings, training=replace(training, max_steps=self.fit_settings.total_steps))
        self.fit_settings = _spaced(self.fit_settings, settings.training, watched)
        optimizer = optimizers.build(settings.training, self.fit_settings.total_steps, None, epoch)
        self.objective: ImageObjective = objective_of(settings, names, optimizer)
        self.settings, self.names, self.train, self.held, self.scaling = settings, names, train, held, scaling
        self.rate = optimizers.learning_rate(settings.training, self.fit_settings.total_steps, epoch)
        self._draw, self._finish = jax.jit(self.objective.draw), jax.jit(self.objective.finish)
        self._measure = jax.jit(self.objective.evaluate)
        drawn = min(settings.objective.drawn, len(held))  # type: ignore[attr-defined]
        self._shown = np.sort(np.random.default_rng(0).choice(len(held), drawn, replace=False))
        self._real = embed_images(held.images[self._shown])

    def run(self, workdir: str | Path | None, quiet: bool) -> Generator:
        with _folder(workdir) as folder, Checkpoints(folder / "checkpoints", say=_say(quiet)) as checkpoints:
            total = self.fit_settings.total_steps
            with Writers((History(folder / "history.jsonl"),)) if quiet else for_run(folder, total) as writers:
                try:
                    fitted = fit(
                        self.objective,
                        self.batches,
                        mesh=self.mesh,
                        checkpoints=checkpoints,
                        writers=writers,
                        settings=self.fit_settings,
                        evaluate=self.evaluate,
                        hooks=Hooks(schedules={"learning_rate": self.rate}),
                    )
                except NonFinite as error:
                    raise Diverged(f"{self.settings.name} diverged: {error}") from error
                except Preempted as stop:
                    if workdir is not None:
                        raise
                    raise Preempted(
                        f"{self.settings.name}: stopped in its training, of which nothing is kept", stop.status
                    ) from stop
            state = fitted.state
            if self.settings.training.select == "best" and fitted.best_step not in (None, fitted.steps):
                state = checkpoints.restore(fitted.best_step, fitted.state).state
            weights = fetch(self.finish(state.weights))
        figures = dict(fitted.last)
        return Generator(self.settings, self.names, weights, self.scaling, tuple(problems_of(figures, self.settings)))

    def batches(self, start_step: int) -> Iterator[Any]:
        data, seed = self.settings.data, self.settings.training.seed
        return image_batches(
            self.train.images, self.train.labels, data.batch_size, seed=seed, start_step=start_step, balanced=data.balanced
        )

    def finish(self, weights: Any) -> Any:
        """The weights with what drawing needs, measured on training images."""
        rows = np.random.default_rng(0).permutation(len(self.train))[:FINISHING]
        return self._finish(weights, self.train.take(np.sort(rows)))

    def evaluate(self, weights: Any, step: int) -> dict[str, float]:
        """`sample_loss` (unbiased squared kernel distance of drawn from held-out images), `spread` (deviation of each pixel) and
        `variety` (distance to the nearest other image) over those of the real ones, and the objective's own figures of them.
        """
        held = self.held.take(self._shown)
        with jax.set_mesh(self.mesh):
            drawn = np.asarray(self._draw(self.finish(weights), jax.random.key(step), held["labels"]))
            own = {name: float(total / count) for name, (total, count) in self._measure(weights, held).items()}
        spread = float(np.std(drawn, axis=0).mean() / max(1e-6, np.std(held["images"], axis=0).mean()))
        made = embed_images(np.clip(drawn, -1, 1))
        variety = typical_gap(made) / max(1e-9, typical_gap(self._real))
        return {"sample_loss": kernel_distance(self._real, made), "spread": spread, "variety": variety, **own}


def problems_of(figures: dict[str, float], settings: Experiment) -> list[str]:
    """Sentences on what the last evaluation shows to be wrong."""
    found = []
    spread, active = figures.get("spread", 1.0), figures.get("active_units")
    if not np.isfinite(list(figures.values())).all():
        found.append("Diverged: a figure of the last evaluation is not finite.")
    variety = figures.get("variety", 1.0)
    if spread < LEAST_SPREAD:
        found.append(f"Collapsed: drawn images vary {spread:.2f} times as much as real ones; they are nearly all alike.")
    elif variety < LEAST_VARIETY:
        found.append(
            f"Collapsed: a drawn image lies {variety:.2f} times as far from the next one as real images do; those of a class are "
            "nearly all alike."
        )
    if active is not None and active < LEAST_ACTIVE:
        config: Any = settings.objective
        remedy = "train longer, or lower objective.beta" if config.kind == "vae" else "train longer"
        found.append(f"The latent has collapsed: {active:.0f} of {config.latent} units carry anything; {remedy}.")
    return found


def _check(images: np.ndarray, labels: Any, settings: Experiment) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes' names, sorted, and the number of each image's; raises `UserError` for what cannot be trained on."""
    config = settings.objective
    if not isinstance(config, GenerativeConfig):
        raise UserError(f"objective {config.name} is no generator; take autoencoder, gan or diffusion")
    if images.ndim != 3 or len(images) != len(labels):
        raise UserError(f"a generator takes images [N, bands, frames] and N labels, not {images.shape} and {len(labels)}")
    if len(images) < LEAST_IMAGES:
        raise UserError(f"{len(images)} images are too few for a generator; it needs {LEAST_IMAGES} at least")
    if not np.isfinite(images).all():
        raise UserError("some images hold values that are not finite")
    texts = np.asarray(labels).astype(str)
    names, numbers = np.unique(texts, return_inverse=True)
    return tuple(str(name) for name in names), numbers.astype(np.int32)


def _with_image_size(settings: Experiment, size: tuple[int, ...], seed: int | None) -> Experiment:
    """The settings with the size of the images and the seed."""
    config = settings.objective
    assert isinstance(config, GenerativeConfig)
    image = replace(config.image, bands=size[0], frames=size[1])
    training = settings.training if seed is None else replace(settings.training, seed=seed)
    return replace(settings, objective=replace(config, image=image), training=training)


def _held_out(given: tuple[np.ndarray, Any], names: tuple[str, ...], scaling: Scaling) -> Images:
    images, labels = given[0], np.asarray(given[1]).astype(str)
    known = np.isin(labels, names)
    numbers = np.searchsorted(np.array(names), labels[known])
    if not len(numbers):
        raise UserError("no held-out image has a class that the generator learns")
    return Images(scaling.to_network(images[known]), numbers.astype(np.int32))


def _spaced(found: FitSettings, training: TrainingConfig, watched: bool) -> FitSettings:
    """Evaluations at shares of the run, since epochs of few images would be too short for them; one, at the end, where nobody
    reads them in between and none chooses the weights.
    """
    total = found.total_steps
    if not watched and training.select == "last" and not training.patience:
        return replace(found, evaluate_every=total, checkpoint_every=total)
    every = max(found.evaluate_every, -(-total // EVALUATIONS))
    return replace(found, evaluate_every=every, checkpoint_every=found.checkpoint_every or every)


@contextmanager
def _folder(workdir: str | Path | None) -> Iterator[Path]:
    if workdir is not None:
        Path(workdir).mkdir(parents=True, exist_ok=True)
        yield Path(workdir)
        return
    with tempfile.TemporaryDirectory(prefix="generator_") as folder:
        yield Path(folder)


def _say(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else partial(print, flush=True)
