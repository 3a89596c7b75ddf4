"""The tokenizers: golden files of the published quantiser, closed forms, a float64 version of the random projection."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import beats_jax
from beats_jax.config import TokenizerConfig
from beats_jax.models import registry
from beats_jax.models.masking import reduce_padding_mask
from beats_jax.models.pretraining import quantizer, random_projection
from beats_jax.models.pretraining.quantizer import Codebook
from beats_jax.models.pretraining.tokenizer import Tokenizer, parameter_depth
from beats_jax.weights.architecture import param_shapes

TINY = TokenizerConfig(
    embed_dim=16, encoder_layers=1, encoder_embed_dim=16, encoder_ffn_embed_dim=16, encoder_attention_heads=2, conv_pos=4,
    conv_pos_groups=2, num_buckets=8, max_distance=8, quant_n=6, quant_dim=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def golden(golden_files):
    return beats_jax.load(golden_files / "tiny_tokenizer.pt"), np.load(golden_files / "tiny_tokenizer.npz")


@pytest.fixture(scope="module")
def steps(golden_files):
    return np.load(golden_files / "quantizer_train.npz")


def codebook(embedding):
    size = embedding.shape[0]
    return Codebook(jnp.asarray(embedding), jnp.zeros(size), jnp.zeros(size), jnp.zeros_like(embedding), jnp.ones(1))


@pytest.mark.parametrize("tag", ["nomask", "mask"])
def test_codes_and_stages_follow_the_published_code(golden, tag):
    """Codes exactly: their smallest margin in the file is 4.7e-4, the projection's bound 2e-5."""
    model, file = golden
    padding = np.asarray(reduce_padding_mask(jnp.asarray(file["padding_mask_samples"]), 135))
    out = model.encode_fbank(file["fbank_normalised"], padding if tag == "mask" else None)
    assert (out.codes.dtype, out.codes.shape) == (jnp.int32, (2, 64))
    np.testing.assert_array_equal(np.ravel(out.codes), file[f"{tag}_labels_flat"])
    projected = Tokenizer(model.config).apply({"params": model.params}, out.features, method=Tokenizer.project)
    np.testing.assert_allclose(projected, file[f"{tag}_quantize_input"], rtol=0, atol=2e-5)
    quantized = quantizer.quantize(projected, model.params["quantizer"]["embedding"])
    np.testing.assert_array_equal(quantized.codes, out.codes)
    np.testing.assert_allclose(quantized.vectors, file[f"{tag}_quantize_feature"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(quantized.loss, file[f"{tag}_embed_loss"], rtol=2e-6)


def test_usage_is_counted_on_demand_and_inference_changes_nothing(golden):
    model, file = golden
    usage = model.params["quantizer"]["usage"]
    np.testing.assert_array_equal(usage, file["cluster_size_before"])
    for tag in ("nomask", "mask"):  # the published code counted one call after the other
        usage = quantizer.update_usage(usage, jnp.asarray(file[f"{tag}_labels_flat"]))
        np.testing.assert_allclose(usage, file[f"cluster_size_after_{tag}"], rtol=1e-6)
    model.encode_fbank(file["fbank_normalised"])
    np.testing.assert_array_equal(model.params["quantizer"]["usage"], file["cluster_size_before"])


def test_training_steps_follow_the_published_code(steps):
    @jax.jit
    def step(book, z, cotangent):
        def loss_of(z, embedding):
            out = quantizer.quantize(z, embedding)
            return jnp.sum(out.vectors * cotangent) + out.loss, out

        (_, out), gradients = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(z, book.embedding)
        return out, gradients, quantizer.update_codebook(book, z, out.codes)

    book = codebook(steps["weight0"])
    for i in (1, 2):
        out, (gradient, on_codes), book = step(book, steps[f"z{i}"], steps[f"cot{i}"])
        np.testing.assert_array_equal(np.ravel(out.codes), steps[f"idx{i}"])
        np.testing.assert_allclose(out.vectors, steps[f"zq{i}"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(out.loss, steps[f"loss{i}"], rtol=2e-6)
        np.testing.assert_allclose(gradient, steps[f"grad_z{i}"], rtol=0, atol=2e-6)
        assert not np.any(on_codes)
        np.testing.assert_allclose(book.embedding, steps[f"weight{i}"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(book.usage, steps[f"cluster_size{i}"], rtol=1e-6)


def test_kmeans_follows_the_published_code(steps):
    means, counts = quantizer.spherical_kmeans(jnp.asarray(steps["km_samples"]), jnp.asarray(steps["km_init"]))
    np.testing.assert_allclose(means, steps["km_means"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(counts, steps["km_bins"])


def test_a_start_finds_the_directions_in_the_data():
    directions = np.eye(4, dtype=np.float32)
    draw = np.random.default_rng(0)
    samples = np.concatenate([5 * d + 0.01 * draw.standard_normal((20, 4)) for d in directions]).astype(np.float32)
    starts, start = [], jax.jit(quantizer.start_codebook)
    for seed in range(4):
        book = start(codebook(np.zeros((4, 4), np.float32)), jax.random.key(seed), jnp.asarray(samples))
        np.testing.assert_allclose(np.linalg.norm(book.embedding, axis=1), 1.0, rtol=1e-6)
        assert (float(book.cluster_size.sum()), float(book.initted[0]), float(book.usage.sum())) == (80.0, 1.0, 0.0)
        starts.append(sorted(np.argmax(book.embedding, axis=1).tolist()) == [0, 1, 2, 3])
    few = start(codebook(np.zeros((4, 4), np.float32)), jax.random.key(0), jnp.asarray(samples[:3]))
    assert any(starts)
    assert np.isfinite(few.embedding).all()  # fewer vectors than codes: some start alike


def test_masked_tokens_count_for_nothing():
    draw = np.random.default_rng(1)
    book = codebook(np.asarray(quantizer.normalise(jnp.asarray(draw.standard_normal((5, 3)), jnp.float32))))
    z = draw.standard_normal((2, 6, 3)).astype(np.float32)
    real = draw.random((2, 6)) < 0.6
    spoilt = jnp.where(jnp.asarray(real)[:, :, None], z, jnp.nan)

    @jax.jit
    def step(z, real):
        loss, gradient = jax.value_and_grad(lambda z: quantizer.quantize(z, book.embedding, real).loss)(z)
        codes = quantizer.quantize(z, book.embedding, real).codes
        return loss, quantizer.update_codebook(book, z, codes, real), quantizer.update_usage(book.usage, codes, real), gradient

    loss, after, usage, gradient = step(spoilt, jnp.asarray(real))
    expected_loss, expected, _, expected_gradient = step(jnp.asarray(z[real]), None)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(gradient)[real], expected_gradient, rtol=0, atol=1e-6)
    for ours, theirs in zip(after, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(usage, expected.usage, rtol=1e-6)
    assert np.isfinite(step(jnp.zeros((1, 3)), None)[3]).all()  # at length 0 too


def test_ties_take_the_first_code_and_beta_scales_the_loss():
    embedding = jnp.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    z = jnp.asarray([[3.0, 0.0], [2.0, 2.0]])
    out, ten = jax.jit(lambda: (quantizer.quantize(z, embedding), quantizer.quantize(z, embedding, beta=10.0)))()
    assert out.codes.tolist() == [1, 0]
    np.testing.assert_allclose(out.loss, (2 - 2**0.5) / 4, rtol=1e-6)  # the second lies 45 degrees off, over 4 elements
    np.testing.assert_allclose(ten.loss, 10 * out.loss, rtol=1e-6)


def test_the_family_is_registered_with_its_constants():
    shapes = param_shapes(TINY)
    patterns = registry.family(TINY).constants
    held = {path for path in shapes if any(re.fullmatch(pattern, path) for pattern in patterns)}
    assert held == {f"quantizer/{name}" for name in Codebook._fields}
    assert shapes["quantizer/embedding"] == (6, 4)
    assert shapes["quantize_layer_2/kernel"] == (16, 4)
    paths = ("patch_embedding/kernel", "encoder/layers_0/fc1/kernel", "quantize_layer_0/bias")
    assert [parameter_depth(path, TINY) for path in paths] == [0, 1, 2]
    module = registry.build(TINY)
    fbank = jnp.asarray(np.random.default_rng(0).standard_normal((1, 32, 32)), jnp.float32)
    out, variables = jax.jit(module.init_with_output)(jax.random.key(0), fbank)
    assert not any(
        np.any(leaf) for leaf in flatten_dict(variables["params"]["quantizer"], sep="/").values()
    )  # empty until it is started
    assert out.codes.shape == (1, 4)


def numpy_codes(tensors, fbank):
    """The formulas of ESPnet's random tokenizer in float64, loops instead of reshapes."""

    def standardised(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    kernel, projection, codes, centre = (np.asarray(tensor, np.float64) for tensor in tensors)
    rows = []
    for clip in np.asarray(fbank, np.float64):
        cells = [clip[t : t + 16, m : m + 16].ravel() for t in range(0, len(clip) - 15, 16) for m in range(0, clip.shape[1], 16)]
        projected = standardised(standardised((np.array(cells) - centre) @ kernel) @ projection)
        rows.append(np.sum((projected[:, None] - codes[None]) ** 2, axis=-1))
    return np.argmin(rows, axis=-1), np.sort(rows, axis=-1)


def test_random_projection_follows_its_formulas():
    draw = np.random.default_rng(3)
    shapes = ((256, 24), (2, 24, 16), (2, 64, 16), (256,))
    tensors = random_projection.RandomProjection(*(draw.standard_normal(shape).astype(np.float32) for shape in shapes))
    tensors = tensors._replace(centre=0.1 * tensors.centre)
    first, second = (tensors._replace(projection=tensors.projection[i], codebook=tensors.codebook[i]) for i in (0, 1))
    fbank = 0.5 * np.random.default_rng(2).standard_normal((2, 53, 128)).astype(np.float32)
    expected, distances = (
        np.stack(parts, axis=2) for parts in zip(numpy_codes(first, fbank), numpy_codes(second, fbank), strict=True)
    )
    codes = jax.jit(random_projection.codes)
    found = codes(tensors, jnp.asarray(fbank), None)
    clear = distances[..., 1] - distances[..., 0] > 1e-3  # where rounding cannot decide
    assert clear.mean() > 0.95
    assert (found.dtype, found.shape) == (jnp.int32, (2, 24, 2))
    np.testing.assert_array_equal(np.asarray(found)[clear], expected[clear])
    assert len(np.unique(found)) > 16
    real = np.arange(24)[None, :] < np.array([[24], [16]])
    spoilt = fbank.copy()
    spoilt[1, 32:] = np.nan
    masked = codes(tensors, jnp.asarray(spoilt), jnp.asarray(real))
    np.testing.assert_array_equal(np.asarray(masked)[real], np.asarray(found)[real])
    assert (np.asarray(masked) >= 0).all()


def test_random_projection_is_a_function_of_its_key():
    init = jax.jit(random_projection.init)
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert [tensor.shape for tensor in first] == [(256, 512), (1, 512, 256), (1, 1024, 256), (256,)]
    for left, right, third in zip(first[:-1], again[:-1], other[:-1], strict=True):
        np.testing.assert_array_equal(left, right)
        assert np.any(left != third)
    assert not np.any(first.centre)  # as published
    scales = [float(jnp.std(tensor)) for tensor in first[:-1]]
    np.testing.assert_allclose(scales, [(2 / 131_328) ** 0.5, (2 / 768) ** 0.5, 1.0], rtol=0.01)  # Xavier, by torch's fans


@pytest.mark.slow
def test_a_fitted_projection_sees_equally_strong_components_and_nothing_else():
    draw = np.random.default_rng(0)
    level, tilt = (x - x.mean() for x in (8.0 * draw.standard_normal((500, 1)), draw.standard_normal((500, 1))))
    shapes = np.stack([np.ones(256), np.linspace(-1, 1, 256)])
    pixels = 5.0 + level * shapes[0] + tilt * shapes[1] + 0.01 * draw.standard_normal((500, 256))
    plain = jax.device_get(random_projection.init(jax.random.key(0), codes=64, width=8))
    fitted = random_projection.fit_projection(plain, pixels.mean(0), np.cov(pixels.T), 2)
    seen = (pixels - fitted.centre) @ fitted.patch_kernel
    assert np.linalg.matrix_rank(seen, tol=1e-3 * np.linalg.norm(seen)) == 2
    directions = np.linalg.lstsq(seen, np.hstack([level, tilt]), rcond=None)[0]
    np.testing.assert_allclose(seen @ directions, np.hstack([level, tilt]), atol=0.1)  # both are there
    cells = pixels.reshape(-1, 16, 16).astype(np.float32)

    def entropy(tensors):
        shares = np.bincount(np.asarray(random_projection.codes(tensors, jnp.asarray(cells))).ravel()) / len(cells)
        return -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()

    assert entropy(plain) < 2 < 2.5 < entropy(fitted)  # one code for loud, one for quiet; and now
    rotated = random_projection.fit_projection(plain, np.zeros(256), np.eye(256), 256)  # already white: nothing changes
    np.testing.assert_allclose(rotated.patch_kernel, plain.patch_kernel, atol=1e-5)
