"""Convolutional encoders: padding, batch statistics, time shifts, and the seam for evaluation by a batch's own statistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from beats_jax.config import CNNConfig, ModelConfig, ResNetConfig, from_mapping
from beats_jax.errors import UserError
from beats_jax.models import registry, statistics
from beats_jax.models.convnets import overlapping_max_pool

CONFIGS = {
    "cnn": CNNConfig(widths=(4, 6, 8), predictor_class=3),
    "resnet": ResNetConfig(width=2, predictor_class=3),
}
DRAW = np.random.default_rng(0)


def build(*args: Any) -> Any:
    return registry.build(*args)


def flat(tree: Any) -> dict[str, Any]:
    return flatten_dict(tree, sep="/")


def variables_of(config, bins=24):
    """Parameters with scales, biases and statistics that are not those of the start."""
    params = jax.jit(build(config).init)(jax.random.key(0), jnp.zeros((1, 64, bins)))["params"]
    return {"params": jax.tree.map(lambda x: x + DRAW.uniform(0.1, 0.5, x.shape).astype(np.float32) * (x.ndim < 2), params)}


@pytest.mark.parametrize("family", ["cnn", pytest.param("resnet", marks=pytest.mark.slow)])
def test_a_clip_gives_the_same_alone_and_in_a_padded_batch(family):
    """Also with time shifts, and with a last time step that is not whole; what lies in the padding does not matter."""
    config = from_mapping(ModelConfig, {**CONFIGS[family].__dict__, "time_shifts": 3}, "model")
    kind = registry.family(config)
    steps, patch = 3, kind.min_frames
    frames = np.array([steps * patch, 2 * patch, patch + patch // 2])
    fbank = DRAW.normal(size=(3, steps * patch, 24)).astype(np.float32)
    mask = kind.token_mask(jnp.arange(steps * patch)[None] < jnp.asarray(frames)[:, None], 24)
    module, variables = build(config), variables_of(config)
    apply = jax.jit(lambda fbank, mask: module.apply(variables, fbank, mask, layers=True))
    batch = apply(fbank, mask)
    assert batch.features.shape == (3, mask.shape[1], kind.num_features)
    assert batch.layers.shape == (kind.num_layers + 1, *batch.features.shape)
    np.testing.assert_allclose(batch.layers[-1], batch.features, rtol=1e-6)
    noise = apply(np.where(np.arange(steps * patch)[None, :, None] < frames[:, None, None] // patch * patch, fbank, 9.0), mask)
    np.testing.assert_array_equal(noise.logits, batch.logits)
    for i, count in enumerate(frames):
        alone = apply(fbank[i : i + 1, :count], None)
        tokens = alone.features.shape[1]
        np.testing.assert_allclose(batch.features[i, :tokens], alone.features[0], atol=1e-5)
        np.testing.assert_allclose(batch.layers[:, i, :tokens], alone.layers[:, 0], atol=1e-5)
        np.testing.assert_allclose(batch.logits[i], alone.logits[0], atol=1e-5)
        assert int(mask[i].sum()) == tokens
    half = jax.jit(build(config, "bfloat16").apply)(variables, jnp.asarray(fbank), mask)
    np.testing.assert_allclose(half.logits, batch.logits, atol=0.05 * np.abs(batch.logits).max())


@pytest.mark.parametrize("family", ["cnn", pytest.param("resnet", marks=pytest.mark.slow)])
def test_padding_enters_no_batch_statistics(family):
    """Statistics of three clips in a batch with padding, and of a row without any sound, are those of their sound."""
    config = CONFIGS[family]
    kind, module, variables = registry.family(config), build(config), variables_of(config)
    patch = kind.min_frames
    fbank = DRAW.normal(size=(3, 3 * patch, 24)).astype(np.float32)

    @jax.jit
    def train(fbank, mask):
        return module.apply(variables, fbank, mask, batch_statistics=True, mutable=[statistics.COLLECTION])

    frames = jnp.arange(3 * patch)[None] < jnp.array([2 * patch, 2 * patch, 0])[:, None]
    padded, moved = train(fbank, kind.token_mask(frames, 24))
    plain, expected = train(fbank[:2, : 2 * patch], None)
    np.testing.assert_allclose(padded.logits[:2], plain.logits, atol=1e-3)
    found, wanted = (flat(tree[statistics.COLLECTION]) for tree in (moved, expected))
    before = flat(variables["params"])
    for path, value in wanted.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-4, atol=1e-4, err_msg=path)
        assert not np.allclose(value, before[path]), path
    silent, kept = train(fbank, jnp.zeros_like(kind.token_mask(frames, 24)))
    assert np.isfinite(silent.logits).all()
    for path, value in flat(kept[statistics.COLLECTION]).items():
        np.testing.assert_allclose(value, np.asarray(before[path], value.dtype), err_msg=path)


def test_evaluation_by_the_statistics_of_the_batch():
    """The seam of few-shot evaluation: the first norm's output has mean `bias` and deviation `scale` over the batch's clips."""
    config = CONFIGS["cnn"]
    module, variables = build(config), variables_of(config)
    fbank = jnp.asarray(DRAW.normal(size=(4, 16, 24)), jnp.float32)
    _, seen = module.apply(
        variables,
        fbank,
        batch_statistics=True,
        capture_intermediates=lambda m, _: m.name == "stem_norm",
        mutable=["intermediates"],
    )
    y = np.asarray(seen["intermediates"]["stem_norm"]["__call__"][0])
    norm = variables["params"]["stem_norm"]
    np.testing.assert_allclose(y.mean((0, 1, 2)), norm["bias"], atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), norm["scale"], rtol=1e-3)
    running = jax.jit(module.apply)(variables, fbank).logits
    own = jax.jit(lambda fbank: module.apply(variables, fbank, batch_statistics=True))(fbank).logits
    assert np.abs(running - own).max() > 1e-3


def test_time_shifts_average_the_logits_of_turned_clips():
    config = CNNConfig(widths=(4, 8), predictor_class=2, time_shifts=3)
    variables = variables_of(config)
    fbank = DRAW.normal(size=(2, 12, 8)).astype(np.float32)
    one = jax.jit(build(CNNConfig(widths=(4, 8), predictor_class=2)).apply)
    expected = np.mean([one(variables, jnp.asarray(np.roll(fbank, k * 4, axis=1))).logits for k in range(3)], axis=0)
    found = jax.jit(build(config).apply)(variables, jnp.asarray(fbank))
    np.testing.assert_allclose(found.logits, expected, atol=1e-6)
    np.testing.assert_allclose(found.features, one(variables, jnp.asarray(fbank)).features, atol=1e-6)


@pytest.mark.parametrize("side", [6, 7])
def test_the_overlapping_maximum_is_that_of_xla(side):
    x = jnp.asarray(DRAW.normal(size=(2, side, side + 1, 3)), jnp.float32)
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    np.testing.assert_array_equal(overlapping_max_pool(x), expected)


def test_depths_follow_the_blocks():
    cnn, resnet = (registry.family(config) for config in CONFIGS.values())
    paths = ["stem/kernel", "stem_norm/mean", "blocks_0/conv/kernel", "blocks_1/norm/var", "predictor/kernel"]
    assert [cnn.depth_of(path) for path in paths] == [0, 0, 1, 2, 3]
    paths = ["conv1/kernel", "bn1/scale", "layer1_0/conv1/kernel", "layer4_1/bn2/mean", "predictor/bias"]
    assert [resnet.depth_of(path) for path in paths] == [0, 0, 1, 4, 5]


def test_wrong_sizes_are_refused():
    with pytest.raises(UserError, match="2 to 8 numbers of channels"):
        CNNConfig(widths=(4,))
    with pytest.raises(UserError, match="odd"):
        CNNConfig(kernel=4)
    with pytest.raises(UserError, match="multiple of 4"):
        CNNConfig(widths=(4, 6), head="attentive")
    assert CNNConfig(widths=(4, 6)).head == "own"
