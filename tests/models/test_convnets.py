"""ResNet-18 against torchvision on seeded random weights (golden/README.md, section ResNet), and what needs no golden numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from beats_jax.config import ResNetConfig
from beats_jax.errors import UserError
from beats_jax.models.convnets import BatchNorm, ResNet18
from beats_jax.weights.families import resnet
from beats_jax.weights.torch_writer import write_torch_file


@pytest.fixture(scope="module")
def golden(golden_files):
    return np.load(golden_files / "resnet_tiny.npz")


@pytest.fixture(scope="module")
def tiny(golden_files):
    return resnet.read_resnet(golden_files / "resnet_tiny.pt")


def channels_last(x):
    return jnp.asarray(x.transpose(0, 2, 3, 1))


def maps_of(out):
    maps = {"stem": out.stem, "layer4_1_bn2": out.before_residual, "layer4_0_conv2": out.before_norm}
    return maps | {f"layer{i}": stage for i, stage in enumerate(out.stages, start=1)}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_every_map_follows_torchvision(tiny, golden, mode):
    config, variables = tiny
    train = mode == "train"

    @jax.jit
    def forward(variables, images):
        return ResNet18(config).apply(variables, images, train, mutable=["batch_stats"] if train else [])

    out, updated = forward(variables, channels_last(golden["input"]))
    for name, found in maps_of(out).items():
        np.testing.assert_allclose(np.asarray(found).transpose(0, 3, 1, 2), golden[f"{mode}_{name}"], atol=5e-5, err_msg=name)
    np.testing.assert_allclose(out.pooled, golden[f"{mode}_pooled"], atol=5e-5)
    np.testing.assert_allclose(out.logits, golden[f"{mode}_logits"], atol=5e-5)
    if train:
        after = resnet.to_torch({"params": variables["params"], **updated}, config)
        keys = [name.removeprefix("after_train/") for name in golden.files if name.startswith("after_train/")]
        assert len(keys) >= 40
        for key in keys:
            np.testing.assert_allclose(after[key], golden[f"after_train/{key}"], atol=1e-5, err_msg=key)
        alone, _ = forward(variables, channels_last(golden["input"][:1]))
        np.testing.assert_allclose(alone.pooled, golden["train_batch1_pooled"], atol=5e-5)


def test_gradients_follow_torchvision(tiny, golden):
    config, variables = tiny

    def loss(params):
        out, _ = ResNet18(config).apply(
            {**variables, "params": params}, channels_last(golden["input"]), True, mutable=["batch_stats"]
        )
        return -jnp.mean(jax.nn.log_softmax(out.logits)[jnp.arange(2), jnp.array([3, 8])])

    value, gradients = jax.jit(jax.value_and_grad(loss))(variables["params"])
    np.testing.assert_allclose(value, golden["train_ce_loss_labels_3_8"], rtol=1e-5)
    found = resnet.to_torch({"params": gradients, "batch_stats": variables["batch_stats"]}, config)
    for name in [name for name in golden.files if name.startswith("train_grad_")]:
        expected = golden[name]
        np.testing.assert_allclose(found[name.removeprefix("train_grad_")], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_goes_through_unchanged(tmp_path, prefix):
    """With a head and without one, from random variables."""
    config = ResNetConfig(width=4, predictor_class=3 if prefix else 0)
    draw = np.random.default_rng(0)
    variables = {
        path: draw.uniform(0.5, 1.5, shape).astype(dtype) for path, (shape, dtype) in resnet.variable_shapes(config).items()
    }
    file = resnet.to_torch(unflatten_dict(variables, sep="/"), config)
    place = write_torch_file(tmp_path / "resnet.pt", {f"{prefix}{key}": value for key, value in file.items()})
    again_config, again = resnet.read_resnet(place)
    assert again_config == config
    back = resnet.to_torch(again, config)
    assert set(back) == set(file)
    for key, value in back.items():
        assert value.tobytes() == file[key].tobytes(), key
        assert value.dtype == file[key].dtype
    assert all(np.array_equal(leaf, variables[path]) for path, leaf in flatten_dict(again, sep="/").items())


def test_misfits_are_named(tmp_path):
    config = ResNetConfig(width=4, predictor_class=0)
    shapes = resnet.variable_shapes(config)
    file = resnet.to_torch(
        unflatten_dict({path: np.ones(shape, dtype) for path, (shape, dtype) in shapes.items()}, sep="/"), config
    )
    del file["layer2.0.downsample.1.bias"]
    file["bn1.bias"] = np.ones(5, np.float32)
    file["bn1.weight"] = np.full(4, np.nan, np.float32)
    file["extra"] = np.ones(1, np.float32)
    with pytest.raises(UserError) as caught:
        resnet.read_resnet(write_torch_file(tmp_path / "bad.pt", file))
    for part in ("missing layer2.0.downsample.1.bias", "unknown extra", "bn1.bias has shape [5]", "bn1.weight holds 4 values"):
        assert part in str(caught.value)


def test_files_without_counts_are_read_as_pytorch_reads_them(tmp_path):
    """torchvision's first weights are older than `num_batches_tracked`; some counts and not others are a damaged file."""
    config = ResNetConfig(width=4, predictor_class=0)
    shapes = resnet.variable_shapes(config)
    file = resnet.to_torch(
        unflatten_dict({path: np.ones(shape, dtype) for path, (shape, dtype) in shapes.items()}, sep="/"), config
    )
    old = {key: value for key, value in file.items() if not key.endswith("num_batches_tracked")}
    assert (len(file), len(old)) == (120, 100)
    back = resnet.to_torch(resnet.read_resnet(write_torch_file(tmp_path / "old.pt", old))[1], config)
    assert all(np.array_equal(back[key], old.get(key, 0)) for key in file)
    partly = {**old, "bn1.num_batches_tracked": np.array(3)}
    with pytest.raises(UserError, match=r"missing layer1\.0\.bn1\.num_batches_tracked"):
        resnet.from_torch(partly)
    with pytest.raises(UserError, match=r"unknown module\.fc\.bias"):  # `module.` begins every key, or it means nothing
        resnet.read_resnet(write_torch_file(tmp_path / "mixed.pt", {**file, "module.fc.bias": np.ones(3, np.float32)}))


def test_padding_is_symmetric():
    """A point in a corner of an even image: the largest value of conv1's kernel that reaches the corner of the pooled map."""
    config = ResNetConfig(width=1, predictor_class=0)
    shapes = resnet.variable_shapes(config)
    flat = {
        path: (np.zeros if path.endswith(("mean", "bias")) else np.ones)(shape, dtype) for path, (shape, dtype) in shapes.items()
    }
    kernel = np.arange(1.0, 50.0, dtype=np.float32).reshape(7, 7)
    flat["params/conv1/kernel"] = np.repeat(kernel[:, :, None, None], 3, axis=2)
    images = np.zeros((2, 32, 32, 3), np.float32)
    images[0, 0, 0, 0] = images[1, 31, 31, 0] = 1.0
    stem = jax.jit(ResNet18(config).apply)(unflatten_dict(flat, sep="/"), images).stem
    np.testing.assert_allclose(stem[:, [0, -1], [0, -1], 0], [[kernel[3, 3], 0], [0, kernel[6, 6]]], rtol=2e-5)
    train = partial(ResNet18(config).apply, train=True, mutable=["batch_stats"])
    with pytest.raises(UserError, match="more than one value a channel"):
        jax.eval_shape(train, unflatten_dict(flat, sep="/"), images[:1])


def test_batch_norm_in_closed_form():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 2, 4)), jnp.float32)
    variables = BatchNorm().init(jax.random.key(0), x, True)
    y, updated = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    flat = np.asarray(x).reshape(-1, 4)
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 4), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=1e-5)
    statistics = updated["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * flat.var(0, ddof=1), atol=1e-6)
    assert int(statistics["count"]) == 1
    assert int(variables["batch_stats"]["count"]) == 0
