"""The formulations for CPU against the plain ones: values, gradients, and gradients inside a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.models import cpu
from beats_jax.models.attention import attend
from beats_jax.models.cpu import Form, convolve_2d
from beats_jax.models.positions import conv_position


@pytest.mark.parametrize(("taps", "tokens"), [(8, 20), (7, 20), (8, 5)])
def test_split_convolution_has_the_gradients_of_the_grouped_one(taps, tokens):
    random = np.random.default_rng(0)
    x, cotangent = (jnp.asarray(random.standard_normal((2, 3, tokens, 12)), jnp.float32) for _ in range(2))
    kernel = jnp.asarray(random.standard_normal((taps, 4, 12)), jnp.float32)

    def gradients(form, x, cotangent):
        def total(x, kernel):
            return jnp.sum(conv_position(x, kernel, jnp.zeros(12), groups=3, form=form, dtype=jnp.float32) * cotangent)

        return jax.grad(total, (0, 1))(x, kernel)

    expected = jax.vmap(lambda x, c: gradients(Form.PLAIN, x, c))(x, cotangent)
    in_a_loop = jax.jit(lambda x, c: jax.lax.map(lambda item: gradients(Form.LOOPED, *item), (x, c)))(x, cotangent)
    for value, truth in zip(in_a_loop, expected, strict=True):
        np.testing.assert_allclose(value, truth, rtol=0, atol=2e-5)


def test_attention_by_clips_has_the_gradients_of_the_direct_form():
    random = np.random.default_rng(0)
    q, k, v, cotangent = (jnp.asarray(random.standard_normal((3, 2, 6, 4)), jnp.float32) for _ in range(4))
    bias = jnp.asarray(random.standard_normal((2, 6, 6)), jnp.float32)
    gate = jnp.asarray(random.standard_normal((3, 2, 6)), jnp.float32)
    mask = jnp.arange(6)[None, :] < jnp.array([6, 4, 1])[:, None]

    def gradients(form):
        def total(q, k, v, bias, gate):
            options = {"dropout_key": jax.random.key(0), "dropout_rate": 0.3, "form": form}
            return jnp.sum(attend(q, k, v, bias=bias, gate=gate, token_mask=mask, **options) * cotangent)

        return jax.jit(jax.grad(total, (0, 1, 2, 3, 4)))(q, k, v, bias, gate)

    for clips, direct in zip(gradients(Form.LOOPED), gradients(Form.PLAIN), strict=True):
        np.testing.assert_allclose(clips, direct, rtol=0, atol=1e-5)


def test_attention_by_heads_has_the_values_and_gradients_of_the_direct_form():
    random = np.random.default_rng(0)
    q, k, v, cotangent = (jnp.asarray(random.standard_normal((3, 2, 6, 4)), jnp.float32) for _ in range(4))
    mask = jnp.arange(6)[None, :] < jnp.array([6, 4, 1])[:, None]

    def run(form):
        value, back = jax.vjp(lambda q, k, v: attend(q, k, v, token_mask=mask, form=form), q, k, v)
        return value, *back(cotangent)

    for heads, direct in zip(run(Form.LOOPED), run(Form.PLAIN), strict=True):
        np.testing.assert_allclose(heads, direct, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("taps", "strides", "padding"),
    [((3, 3), (1, 1), ((1, 1), (1, 1))), ((5, 5), (2, 2), ((2, 2), (2, 2))), ((2, 3), (1, 2), ((0, 0), (1, 0)))],
)
def test_a_convolution_by_clips_has_the_gradients_of_the_plain_one_and_theirs(taps, strides, padding, monkeypatch):
    monkeypatch.setattr(cpu, "MOST_COLUMNS", 2000)  # several clips at a time, not all
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((6, 7, 8, 2)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((*taps, 2, 4)), jnp.float32)

    def run(form):
        def total(x, kernel):
            y = convolve_2d(x, kernel, strides, padding, form=form, dimension_numbers=("NHWC", "HWIO", "NHWC"))
            return jnp.sum(jnp.sin(y)), y

        def penalty(x, kernel):  # of a critic: the size of its gradient
            return jnp.sum(jax.grad(lambda x: total(x, kernel)[0])(x) ** 2)

        return total(x, kernel)[1], *jax.grad(total, (0, 1), has_aux=True)(x, kernel)[0], *jax.grad(penalty, (0, 1))(x, kernel)

    for clips, plain in zip(run(Form.LOOPED), run(Form.PLAIN), strict=True):
        np.testing.assert_allclose(clips, plain, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(plain))))


def test_on_one_processor_convolutions_are_by_clips(monkeypatch):
    axes = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def loops(devices, form=Form.AUTO):
        def total(kernel):
            y = convolve_2d(jnp.ones((2, 8, 8, 3)), kernel, (1, 1), ((1, 1), (1, 1)), form=form, **axes)
            return jnp.sum(y * y)

        monkeypatch.setattr(jax, "device_count", lambda backend: devices)
        return "scan" in str(jax.make_jaxpr(jax.grad(total))(jnp.ones((3, 3, 3, 4))))

    assert [loops(1), loops(8), loops(1, Form.PLAIN)] == [True, False, False]


@pytest.mark.parametrize("options", [{"feature_group_count": 3}, {"rhs_dilation": (2, 1)}])
def test_a_convolution_in_groups_or_dilated_is_refused_and_not_computed_otherwise(options):
    with pytest.raises(ValueError, match="neither groups nor dilation"):
        convolve_2d(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 6)), (1, 1), ((1, 1), (1, 1)), form=Form.LOOPED, **options)
