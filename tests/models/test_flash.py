"""Attention by our kernels, interpreted on the CPU, and by cuDNN's call: values and gradients of the plain formula."""

import inspect
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from beats_jax.config import BEATsConfig, CNNConfig, Experiment
from beats_jax.config.validation import experiment_from_mapping
from beats_jax.errors import UserError
from beats_jax.inference.sources import open_source
from beats_jax.models import attention, beats, cpu, registry
from beats_jax.models.cpu import Form
from beats_jax.models.flash import along_distances, attend_by_cudnn, attend_by_kernel
from beats_jax.models.flash_kernels import GPU, TPU, Target
from beats_jax.models.positions import bias_by_distance, relative_position_bias

BATCH, HEADS, TOKENS, WIDTH = 3, 2, 45, 8
ON_GPU = Target(block=16, gather=True, all_clips=True, interpret=True)
ON_TPU = Target(block=32, gather=False, all_clips=False, interpret=True)


def inputs():
    """Queries, keys, values, table, gate; a mask under which one clip is whole, one has an end and one has nothing."""
    draw = np.random.default_rng(7)
    arrays = [draw.standard_normal((BATCH, HEADS, TOKENS, WIDTH)).astype(np.float32) for _ in range(3)]
    table = draw.standard_normal((16, HEADS)).astype(np.float32)
    gate = draw.uniform(1, 3, (BATCH, HEADS, TOKENS)).astype(np.float32)
    mask = np.arange(TOKENS)[None] < np.array([[TOKENS], [20], [0]])
    return tuple(map(jnp.asarray, (*arrays, table, gate))), jnp.asarray(mask)


def plain(queries, keys, values, table, gate, mask, dtype=jnp.float32):
    bias = relative_position_bias(table, TOKENS, 30)
    return attention.attend(queries, keys, values, token_mask=mask, bias=bias, gate=gate, dtype=dtype, form=Form.PLAIN)


def by_kernel(queries, keys, values, table, gate, mask, target, dtype=jnp.float32):
    bias = bias_by_distance(table, TOKENS, 30)
    return attend_by_kernel(queries * WIDTH**-0.5, keys, values, mask, bias, gate, dtype=dtype, target=target)


def with_gradients(attend, arrays, mask):
    weights = np.random.default_rng(1).standard_normal((BATCH, HEADS, TOKENS, WIDTH)).astype(np.float32)

    def weighted(*arrays):
        found = attend(*arrays, mask)
        return jnp.sum(found * weights), found

    (_, found), gradients = jax.jit(jax.value_and_grad(weighted, argnums=range(5), has_aux=True))(*arrays)
    return found, gradients


@pytest.mark.parametrize("target", [ON_GPU, pytest.param(ON_TPU, marks=pytest.mark.slow)], ids=["gpu", "tpu"])
def test_the_kernels_give_the_values_and_gradients_of_the_plain_formula(target):
    arrays, mask = inputs()
    expected, gradients = with_gradients(plain, arrays, mask)
    found, other = with_gradients(partial(by_kernel, target=target), arrays, mask)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for left, right in zip(other, gradients, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * float(jnp.abs(right).max()))


@pytest.mark.slow
def test_without_a_bias_and_in_bfloat16():
    arrays, mask = inputs()
    queries, keys, values = arrays[:3]
    expected = attention.attend(queries, keys, values, token_mask=mask, form=Form.PLAIN)
    alone = partial(attend_by_kernel, token_mask=mask, bias=None, gate=None, dtype=jnp.float32, target=ON_GPU)
    np.testing.assert_allclose(alone(queries * WIDTH**-0.5, keys, values), expected, atol=2e-6)
    whole = jnp.ones_like(mask)
    rounded, gradients = with_gradients(partial(by_kernel, target=ON_GPU, dtype=jnp.bfloat16), arrays, whole)
    expected, others = with_gradients(partial(plain, dtype=jnp.bfloat16), arrays, whole)
    np.testing.assert_allclose(rounded, expected, atol=0.03)
    for left, right in zip(gradients, others, strict=True):
        np.testing.assert_allclose(left, right, atol=0.03 * float(jnp.abs(right).max()))


def test_tiles_of_a_diagonal_add_up_by_distance():
    block, blocks = 4, 3
    whole = np.random.default_rng(0).standard_normal((block * blocks,) * 2).astype(np.float32)
    cut = whole.reshape(blocks, block, blocks, block).transpose(0, 2, 1, 3)
    tiles = [sum(cut[q, q + d] for q in range(blocks) if 0 <= q + d < blocks) for d in range(1 - blocks, blocks)]
    found = along_distances(jnp.asarray(np.stack(tiles))[None])[0]
    expected = [np.trace(whole, offset) for offset in range(1 - block * blocks, block * blocks)]
    np.testing.assert_allclose(found, [*expected, 0], atol=1e-5)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")  # from jax 0.12 on
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_kernels_lower_for_accelerators(platform):
    target, kind = (GPU, "NVIDIA H100 80GB HBM3") if platform == "cuda" else (TPU, "TPU v5 lite")
    named = {"platform": platform.replace("cuda", "gpu")} if "platform" in inspect.signature(AbstractDevice).parameters else {}
    device = AbstractDevice(device_kind=kind, num_cores=None if platform == "cuda" else 1, **named)
    shapes = [jax.ShapeDtypeStruct((2, 12, 496, 64), jnp.float32)] * 3
    shapes += [jax.ShapeDtypeStruct((12, 991), jnp.float32), jax.ShapeDtypeStruct((2, 12, 496), jnp.float32)]

    def loss(queries, keys, values, bias, gate):
        return jnp.sum(attend_by_kernel(queries, keys, values, None, bias, gate, dtype=jnp.bfloat16, target=target))

    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        lowered = jax.jit(jax.grad(loss, argnums=range(5))).trace(*shapes).lower(lowering_platforms=(platform,))
    name = "__gpu$xla.gpu.triton" if platform == "cuda" else "tpu_custom_call"
    assert lowered.as_text().count(f"@{name}") == 4  # forwards; gradients of queries, of keys, of diagonals


@pytest.mark.slow
def test_each_device_computes_its_own_clips():
    program = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from beats_jax.parallel.mesh import make_mesh
from tests.models.test_flash import ON_GPU, by_kernel, inputs, with_gradients
arrays, mask = inputs()
queries, keys, values, table, gate = arrays
arrays = (*(jnp.concatenate([x, x[:1]]) for x in (queries, keys, values)), table, jnp.concatenate([gate, gate[:1]]))
mask = jnp.concatenate([mask, mask[:1]])
def loss(*arrays): return jnp.sum(jnp.sin(by_kernel(*arrays, mask, ON_GPU)))
alone = jax.jit(jax.value_and_grad(loss, argnums=range(5)))(*arrays)
with jax.set_mesh(make_mesh(2, 2)):
    split = jax.jit(jax.value_and_grad(loss, argnums=range(5)))(*arrays)
for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(split), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)
"""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_call_of_cudnn_with_an_odd_number_of_tokens(masked):
    arrays, mask = inputs()
    mask = mask[:2] if masked else None
    queries, keys, values, gate = (x[:2] for x in (*arrays[:3], arrays[4]))
    bias = relative_position_bias(arrays[3], TOKENS, 30)

    def weighted(queries, keys, values, bias, gate, **form):
        if form:
            found = attention.attend(queries, keys, values, token_mask=mask, bias=bias, gate=gate, form=Form.PLAIN)
        else:
            scaled, options = queries * WIDTH**-0.5, {"dtype": jnp.float32, "implementation": "xla"}
            found = attend_by_cudnn(scaled, keys, values, mask, bias, gate, **options)
        return jnp.sum(jnp.sin(found)), found

    arguments = (queries, keys, values, bias, gate)
    both = [
        jax.jit(jax.value_and_grad(partial(weighted, **form), range(5), has_aux=True))(*arguments) for form in ({}, {"form": 1})
    ]
    ((_, found), gradients), ((_, expected), others) = both
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for left, right in zip(gradients, others, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * float(jnp.abs(right).max()))


@pytest.mark.slow
def test_forms_of_an_encoder_agree(monkeypatch):
    config = BEATsConfig(
        embed_dim=16, encoder_layers=1, encoder_embed_dim=16, encoder_ffn_embed_dim=16, encoder_attention_heads=2, conv_pos=4,
        conv_pos_groups=2,
    )  # fmt: skip
    from beats_jax.models import flash, flash_kernels

    monkeypatch.setattr(flash_kernels, "GPU", ON_GPU)
    monkeypatch.setattr(flash, "attend_by_cudnn", partial(attend_by_cudnn, implementation="xla"))
    fbank = jax.random.normal(jax.random.key(0), (2, 80, 128))
    mask = jnp.arange(40)[None] < jnp.array([[40], [24]])
    params = beats.BEATs(config).init(jax.random.key(1), fbank)
    forms = (Form.PLAIN, Form.WHOLE, Form.CUDNN, Form.KERNEL)
    found = {form: jax.jit(beats.BEATs(config, form=form).apply)(params, fbank, mask).features for form in forms}
    for form in forms:
        np.testing.assert_allclose(found[form][0], found[Form.PLAIN][0], atol=1e-5, err_msg=form)
        np.testing.assert_allclose(found[form][1, :24], found[Form.PLAIN][1, :24], atol=1e-5, err_msg=form)


def test_what_cannot_be_is_refused(monkeypatch):
    config = BEATsConfig()
    assert [registry.form_for(config, name, "float32") for name in ("auto", "whole", "blocked")] == [
        Form.AUTO, Form.WHOLE, Form.BLOCKED,
    ]  # fmt: skip
    with pytest.raises(UserError, match="attention 'kernel' runs on a GPU or TPU, and this is a CPU: take 'auto'"):
        registry.form_for(config, "kernel", "float32")
    with pytest.raises(UserError, match="a cnn has none"):
        registry.form_for(CNNConfig(), "whole", "float32")
    with pytest.raises(UserError, match="did you mean 'blocked'"):
        registry.form_for(config, "block", "float32")
    monkeypatch.setattr(registry, "platform", lambda: "gpu")
    with pytest.raises(UserError, match="do not go together"):
        registry.form_for(config, "blocked", "float32", "block")
    assert registry.form_for(config, "cudnn", "bfloat16") is Form.CUDNN
    with pytest.raises(UserError, match=r"cudnn' computes in bfloat16; the precision .* is float32"):
        registry.form_for(config, "cudnn", "float32")
    settings = {"model": {"attention_dropout": 0.1}, "training": {"attention": "kernel"}}
    with pytest.raises(UserError, match="no dropout of attention"):
        experiment_from_mapping(settings)
    assert isinstance(experiment_from_mapping({**settings, "training": {"attention": "blocked"}}), Experiment)
    options = {"logits": False, "dtype": "float32", "window": None, "hop": None, "attention": "blocked"}
    with pytest.raises(UserError, match="leave out layer, pooling, logits and attention"):
        open_source("filterbank", (-1,), ("mean",), **options)
    assert cpu.platform() == "cpu"
