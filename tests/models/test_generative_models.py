"""Generators' pure functions against closed forms: spectral norms, the diffusion of normal images, divergences, textures."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from beats_jax.errors import UserError
from beats_jax.models.generative import autoencoder, diffusion, gan
from beats_jax.models.generative.layers import fold, halvings, unfold
from beats_jax.objectives.autoencoder import active_units, draw_texture, measure_codes, measure_texture

RANDOM = np.random.default_rng(0)


def test_unfold_is_the_inverse_of_fold_and_keeps_neighbours_together():
    x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    np.testing.assert_array_equal(unfold(fold(x)), x)
    np.testing.assert_array_equal(fold(x)[0, 0, 0], x[0, :2, :2].reshape(-1))


def test_halvings_end_at_four_pixels():
    assert [halvings(64, 64), halvings(128, 64), halvings(16, 16)] == [4, 4, 2]
    with pytest.raises(UserError, match="16 bands"):
        halvings(6, 6)


def test_spectral_normalisation_sets_the_largest_singular_value():
    params = {"kernel": jnp.asarray(RANDOM.normal(size=(3, 3, 4, 6)), jnp.float32), "bias": jnp.ones(6)}
    vectors = gan.start_vectors(params, jax.random.key(0))
    for _ in range(100):
        normalised, vectors = gan.normalise(params, vectors)
    largest = np.linalg.svd(np.asarray(params["kernel"]).reshape(-1, 6), compute_uv=False)[0]
    np.testing.assert_allclose(normalised["kernel"], gan.GAIN * params["kernel"] / largest, rtol=1e-4)
    np.testing.assert_array_equal(normalised["bias"], params["bias"])


def test_the_critic_sees_how_far_the_images_of_a_group_differ():
    maps = RANDOM.normal(size=(2 * gan.GROUP, 5, 3)).astype(np.float32)
    maps[gan.GROUP :] = maps[-1]  # those of the second group are all alike
    found = np.asarray(gan.spread_in_groups(jnp.asarray(maps)))
    np.testing.assert_allclose(found[: gan.GROUP], [maps[: gan.GROUP].std(axis=0).mean(axis=0)] * gan.GROUP, rtol=1e-4)
    assert found[gan.GROUP :].max() < 0.002
    assert gan.spread_in_groups(jnp.asarray(maps[:3])).shape == (3, 3)


def test_images_are_moved_and_holed_before_the_critic():
    images = jnp.ones((64, 16, 32))
    found = np.asarray(gan.disturb(images, jax.random.key(0)))
    assert set(np.unique(found)) == {0, 1}
    shown = found.mean(axis=(1, 2))
    assert shown.min() > 0.55  # a hole of less than a quarter, and at most an eighth of each side moved out
    assert shown.std() > 0.02
    slopes = jax.grad(lambda x: jnp.sum(gan.disturb(x, jax.random.key(0))))(images)
    np.testing.assert_allclose(np.sum(slopes, axis=(1, 2)), found.sum(axis=(1, 2)))


def test_codes_and_noise_reach_the_image_of_a_generator():
    model = gan.Generator(4, 1, 16, 16)
    codes, noise = (jnp.asarray(RANDOM.normal(size=size), jnp.float32) for size in ((64, 4), (64, 16, 16)))
    labels = jnp.zeros(64, int)
    params = model.init(jax.random.key(0), codes, labels, noise)

    def draw(codes, noise):
        return np.asarray(model.apply(params, codes, labels, noise))

    assert draw(codes, 0 * noise).std(axis=0).mean() > 0.2
    assert draw(0 * codes, noise).std(axis=0).mean() > 0.2
    assert draw(codes, 0 * noise).mean(axis=(1, 2)).std() > 0.05  # the level of whole images


def ideal_denoiser(images, sigma):
    """The best estimate of normal images of the standard deviation SPREAD."""
    return images * diffusion.SPREAD**2 / (diffusion.SPREAD**2 + sigma**2)


def test_samplers_follow_the_closed_form_of_normal_images():
    """dx/dsigma = x sigma / (SPREAD^2 + sigma^2) has the solution x ~ sqrt(SPREAD^2 + sigma^2): exact up to the steps' error."""
    noise = jnp.asarray(RANDOM.normal(size=(4, 2, 2)), jnp.float32)
    exact = np.asarray(noise) * diffusion.HIGHEST * diffusion.SPREAD / np.hypot(diffusion.SPREAD, diffusion.HIGHEST)

    def error(sampler, steps):
        found = jax.jit(partial(sampler, ideal_denoiser, steps=steps))(noise)
        return float(np.abs(np.asarray(found) - exact).max() / np.abs(exact).max())

    second, first = (error(sampler, 18) for sampler in (diffusion.sample_heun, diffusion.sample_ddim))
    assert second < 0.06 < first < 0.2
    assert error(diffusion.sample_heun, 36) < second / 3.5
    assert first / 2.5 < error(diffusion.sample_ddim, 36) < first / 1.8


def test_noise_levels_fall_from_the_highest_to_zero():
    levels = np.asarray(diffusion.noise_levels(18))
    assert levels[0] == pytest.approx(80, rel=1e-5)
    assert levels[-2] == pytest.approx(0.002, rel=1e-2)
    assert levels[-1] == 0
    assert (np.diff(levels) < 0).all()


def test_a_network_of_zeros_has_the_loss_one_at_every_noise_level():
    """What the weights and the preconditioning of EDM are for (2206.00364, appendix B.6)."""
    images = jnp.asarray(diffusion.SPREAD * RANDOM.normal(size=(4000, 4, 4)), jnp.float32)
    noise = jnp.asarray(RANDOM.normal(size=images.shape), jnp.float32)
    for sigma in (0.01, 0.5, 20.0):
        levels = jnp.full(len(images), sigma)
        clean = diffusion.preconditioned(lambda x, _: jnp.zeros_like(x), images + sigma * noise, levels)
        loss = diffusion.loss_weight(levels)[:, None, None] * (clean - images) ** 2
        assert float(jnp.mean(loss)) == pytest.approx(1, abs=0.03)


def test_guidance_one_is_none():
    a, b = jnp.ones((1, 2, 2)), jnp.zeros((1, 2, 2))
    np.testing.assert_array_equal(diffusion.guided(a, b, 1.0), a)
    np.testing.assert_array_equal(diffusion.guided(a, b, 2.0), 2 * a)


def test_likelihood_and_divergence_are_those_of_scipy():
    images, means = (RANDOM.normal(size=(3, 2, 4)).astype(np.float32) for _ in range(2))
    log_deviation = np.array([-0.5, 0.3], np.float32)
    expected = -norm.logpdf(images, means, np.exp(log_deviation)[:, None]).sum(axis=(1, 2)) - 8 * np.log(2 * np.pi) / 2
    found = autoencoder.negative_log_likelihood(jnp.asarray(images), jnp.asarray(means), jnp.asarray(log_deviation))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    mean, log_variance = 0.7, -1.2
    x = np.linspace(-12, 12, 200_001)
    log_q = norm.logpdf(x, mean, np.exp(log_variance / 2))
    integral = np.trapezoid(np.exp(log_q) * (log_q - norm.logpdf(x)), x)
    posterior = autoencoder.Posterior(jnp.full((1, 1), mean), jnp.full((1, 1), log_variance))
    np.testing.assert_allclose(autoencoder.divergence_from_prior(posterior), [[integral]], rtol=1e-5)


def test_active_units_are_those_that_vary():
    means = jnp.asarray(RANDOM.normal(size=(64, 5)) * np.array([1, 1, 0.01, 0, 1]), jnp.float32)
    assert float(active_units(means)) == 3


def test_texture_repeats_spectrum_distribution_and_bands():
    white = RANDOM.normal(size=(400, 8, 16))
    smooth = white + np.roll(white, 1, axis=2)  # neighbours in time correlate by one half
    residuals = np.exp(smooth / 2) * np.arange(1, 9)[:, None] + 5.0  # skewed, and larger in high bands
    drawn = np.asarray(draw_texture(measure_texture(jnp.asarray(residuals, jnp.float32)), jax.random.key(0), 400))
    np.testing.assert_allclose(drawn.std(axis=(0, 2)), residuals.std(axis=(0, 2)), rtol=0.15)
    np.testing.assert_allclose(drawn.mean(axis=(0, 2)), residuals.mean(axis=(0, 2)), rtol=0.1)

    def neighbours(x):
        return np.corrcoef(x[:, 4, :-1].ravel(), x[:, 4, 1:].ravel())[0, 1]

    assert neighbours(drawn) == pytest.approx(neighbours(residuals), abs=0.12)  # of the mapped noise it is a little lower
    skew = lambda x: float((((x - x.mean()) / x.std()) ** 3).mean())  # noqa: E731
    assert skew(drawn[:, 4]) == pytest.approx(skew(residuals[:, 4]), rel=0.35)


def test_codes_of_each_class_and_of_a_class_without_images():
    codes = np.concatenate([RANDOM.normal(size=(500, 2)), RANDOM.normal(size=(500, 2)) @ np.array([[2, 0], [1, 1]]) + 3])
    found = measure_codes(jnp.asarray(codes, jnp.float32), jnp.asarray(np.repeat([0, 1], 500)), 3)
    np.testing.assert_allclose(found["mean"][1], codes[500:].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found["mean"][2], codes.mean(axis=0), rtol=1e-4)
    covariance = np.asarray(found["root"][1] @ found["root"][1].T)
    np.testing.assert_allclose(np.diag(covariance), codes[500:].var(axis=0), rtol=1e-3)
