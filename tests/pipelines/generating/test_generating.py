"""Generators on small images: scaling, batches, training of every kind, drawing, keeping, and what goes wrong."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from beats_jax.config import AugmentConfig
from beats_jax.errors import Preempted, UserError
from beats_jax.pipelines.generating.batches import image_batches
from beats_jax.pipelines.generating.generator import load_generator
from beats_jax.pipelines.generating.pictures import arc
from beats_jax.pipelines.generating.quality import measure_quality
from beats_jax.pipelines.generating.recipes import recipe
from beats_jax.pipelines.generating.scaling import fit_scaling
from beats_jax.pipelines.generating.train import Diverged, problems_of, train_generator

SMALL = {
    "ae": {"width": 4, "latent": 4},
    "vae": {"width": 4, "latent": 4},
    "aae": {"width": 4, "latent": 4, "critic_width": 8},
    "gan": {"width": 4, "latent": 4, "disturb": True},
    "diffusion": {"width": 8, "blocks": 1},
}


def images_and_labels(count=48, seed=0):
    """Rising and falling ridges in noise, dB, 16 x 16 pixels."""
    random = np.random.default_rng(seed)
    images = random.normal(size=(count, 16, 16)) * 3 - 60
    labels = np.array(["up", "down"])[np.arange(count) % 2]
    for image, label in zip(images, labels, strict=True):
        for frame in range(12):
            image[2 + frame if label == "up" else 13 - frame, 2 + frame] += 20
    return images.astype(np.float32), labels


def small(kind, steps=4, **training):
    """The recipe of a kind for tiny networks."""
    settings = recipe(kind, steps=steps, drawn=16, **SMALL[kind])
    if kind == "diffusion":
        settings = replace(settings, objective=replace(settings.objective, steps=4))  # of its sampling
    data = replace(settings.data, batch_size=8)
    return replace(settings, data=data, training=replace(settings.training, **{"log_every_steps": 2, **training}))


def test_scaling_gives_back_what_it_does_not_clip():
    images = images_and_labels()[0]
    scaling = fit_scaling(images)
    scaled = scaling.to_network(images)
    assert np.abs(scaled).max() <= 1
    inside = np.abs(scaled) < 1
    np.testing.assert_allclose(scaling.from_network(scaled)[inside], images[inside], atol=1e-4)
    np.testing.assert_allclose(scaled.mean(axis=(0, 2)), 0, atol=0.02)
    constant = fit_scaling(np.full((3, 16, 16), -100.0))
    assert np.isfinite(constant.to_network(np.full((1, 16, 16), -100.0))).all()


def test_batches_are_a_function_of_seed_and_step_and_visit_every_image():
    images, labels = np.arange(10.0).reshape(10, 1, 1), np.array([0] * 8 + [1] * 2)

    def rows(**options):
        return [batch.arrays["rows"].tolist() for batch in islice(image_batches(images, labels, 4, seed=3, **options), 5)]

    found = rows()
    assert rows(start_step=2)[:3] == found[2:]
    assert sorted(np.ravel(found)[:10]) == list(range(10))
    even = np.ravel(rows(balanced=True))
    assert (labels[even] == 1).mean() == 0.5


@pytest.mark.slow
def test_a_vae_is_trained_drawn_from_kept_and_goes_on_where_it_stopped(tmp_path):
    images, labels = images_and_labels()
    generator = train_generator(images, labels, small("vae"), seed=1, workdir=tmp_path / "run")
    assert generator.classes == ("down", "up")
    drawn = generator.sample(["up", "down", "up"], seed=5)
    assert drawn.shape == (3, 16, 16)
    assert np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn, generator.sample([1, 0, 1], seed=5))
    assert np.abs(drawn - generator.sample(["up", "down", "up"], seed=6)).max() > 1
    generator.save(tmp_path / "kept")
    again = load_generator(tmp_path / "kept")
    np.testing.assert_array_equal(again.sample(["up", "down", "up"], seed=5), drawn)
    codes = again.encode(images[:3], labels[:3])
    assert codes.shape == (3, 4)
    assert again.decode(codes, labels[:3]).shape == (3, 16, 16)
    assert "sample_loss" in (tmp_path / "run" / "history.jsonl").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="did you mean 'up'"):
        generator.sample(["upp"], seed=0)
    finished = train_generator(images, labels, small("vae"), seed=1, workdir=tmp_path / "run")  # its checkpoint is the last step
    np.testing.assert_array_equal(finished.sample(["up", "down", "up"], seed=5), drawn)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["aae", "gan", "diffusion"])
def test_every_kind_trains_and_draws_images_like_those_it_was_shown(kind):
    """In level, for all; that a class looks like itself holds for the autoencoder alone (docs/generative.md)."""
    images, labels = images_and_labels(64)
    settings = small(kind, steps=120)
    generator = train_generator(images, labels, replace(settings, training=replace(settings.training, ema_decay=0.9)), seed=0)
    wanted = np.repeat(["up", "down"], 32)
    drawn = generator.sample(wanted, seed=0)
    assert generator.problems == ()
    assert abs(drawn.mean() - images.mean()) < 3
    mean = {name: images[labels == name].mean(axis=0) for name in ("up", "down")}
    gap = mean["up"] - mean["down"]
    sides = ((drawn - images.mean(axis=0)) * gap).sum(axis=(1, 2)) > 0
    assert kind != "aae" or (sides == (wanted == "up")).mean() > 0.65


@pytest.mark.slow
def test_a_gan_draws_quiet_and_loud_images_of_one_class():
    """It drew one image of each class, whatever the code."""
    random = np.random.default_rng(0)
    levels = np.where(np.arange(64) % 2, -50.0, -70.0)
    images = (random.normal(size=(64, 16, 16)) * 5 + levels[:, None, None]).astype(np.float32)
    settings = small("gan", steps=150, ema_decay=0.9)
    settings = replace(settings, data=replace(settings.data, batch_size=16))
    generator = train_generator(images, ["sound"] * 64, settings, seed=0)
    drawn = generator.sample(["sound"] * 64, seed=0).mean(axis=(1, 2))
    assert generator.problems == ()
    assert drawn.std() > 4  # of real ones 10


@pytest.mark.slow
def test_quality_of_a_generator_stands_beside_its_floor():
    images, labels = images_and_labels(800)  # of a few dozen the embedding itself tells those that it was fitted to
    generator = train_generator(images[:400], labels[:400], small("ae", steps=20), seed=0)
    found = measure_quality(generator, (images[:400], labels[:400]), (images[400:], labels[400:]))
    assert found.figures.keys() == found.floor.keys()
    drawn, floor = found.figures["tell_apart"].value, found.floor["tell_apart"].value
    assert drawn is not None
    assert floor is not None
    assert floor < drawn  # the floor is not 0.5: the embedding was fitted to the training images
    metrics = found.as_metrics()
    assert {"frechet", "frechet_low", "frechet_high", "frechet_floor", "n"} <= metrics.keys()


@pytest.mark.slow
def test_a_run_that_diverges_says_so():
    images, labels = images_and_labels(16)
    with pytest.raises(Diverged, match="ae diverged: step"):
        train_generator(images, labels, small("ae", learning_rate=1e30, clip_norm=0.0, warmup_fraction=0.0), seed=0)


def test_collapse_is_put_into_words():
    settings = small("vae")
    assert problems_of({"spread": 1.0, "active_units": 4.0}, settings) == []
    assert "nearly all alike" in problems_of({"spread": 0.1}, settings)[0]
    assert "those of a class" in problems_of({"spread": 0.5, "variety": 0.01}, settings)[0]
    assert "0 of 4 units" in problems_of({"spread": 1.0, "active_units": 0.0}, settings)[0]
    assert "not finite" in problems_of({"spread": 1.0, "loss": float("nan")}, settings)[0]


def test_what_cannot_be_trained_on_is_refused(tmp_path):
    images, labels = images_and_labels(8)
    settings = small("vae")
    with pytest.raises(UserError, match="3 images are too few"):
        train_generator(images[:3], labels[:3], settings)
    with pytest.raises(UserError, match="not finite"):
        train_generator(images * np.nan, labels, settings)
    with pytest.raises(UserError, match="N labels"):
        train_generator(images, labels[:5], settings)
    with pytest.raises(UserError, match="multiple of 16"):
        train_generator(images[:, :12], labels, settings)
    with pytest.raises(UserError, match="augment has no effect"):
        train_generator(
            images, labels, replace(settings, objective=replace(settings.objective, augment=AugmentConfig(roll=True)))
        )
    with pytest.raises(UserError, match="no generator 'vea'; did you mean 'vae'"):
        recipe("vea")
    with pytest.raises(UserError, match=r"generator\.json is missing"):
        load_generator(tmp_path)


def test_the_way_between_codes_keeps_their_length():
    start, end = np.array([1.0, 0]), np.array([0, 1.0])
    found = arc(start, end, np.linspace(0, 1, 5)[:, None])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(arc(start, 2 * start, np.array([[0.5]])), [[1.5, 0]])


def test_a_signal_in_a_training_of_which_nothing_is_kept_names_no_folder(monkeypatch):
    monkeypatch.setattr("beats_jax.training.loop.StopSignals.should_stop", lambda self, step: step == 2)
    with pytest.raises(Preempted, match=r"^vae: stopped in its training, of which nothing is kept$") as stop:
        train_generator(*images_and_labels(16), small("vae"), seed=0)
    assert stop.value.status == 143
