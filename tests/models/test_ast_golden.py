"""AST against the published code on seeded random weights (golden/README.md, section AST)."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import beats_jax
from beats_jax.config import ASTConfig
from beats_jax.convert import main
from beats_jax.errors import UserError
from beats_jax.models import ast, registry
from beats_jax.models.ast import AST, adapt_positions, parameter_depth, patches
from beats_jax.weights import formats
from beats_jax.weights.families import ast as keys
from beats_jax.weights.families import ast_files
from beats_jax.weights.raw import read_raw
from beats_jax.weights.torch_file import read_torch_file
from beats_jax.weights.torch_writer import write_torch_file

TINY = ASTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_length=36, num_mel_bins=36,
    hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5, predictor_class=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def hub_folder(golden_files, tmp_path_factory):
    """The golden Hugging Face model as a folder of the hub."""
    folder = tmp_path_factory.mktemp("hub")
    shutil.copy(golden_files / "ast_tiny_hf.safetensors", folder / "model.safetensors")
    for name, facts in json.loads((golden_files / "ast_tiny_hf_config.json").read_text()).items():
        (folder / f"{name}.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def original_file(golden_files, tmp_path_factory):
    """The golden file of the original code, with what it does not state beside it."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copy(golden_files / "ast_tiny_orig.pt", folder / "ast.pt")
    stated = {"num_attention_heads": 4, "frequency_stride": 10, "time_stride": 10, "max_length": 100}
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "preprocessor_config.json").write_text(json.dumps({"mean": -4.2677393, "std": 4.5689974}))
    return folder / "ast.pt"


def test_hugging_face_model_by_layer_and_from_waveforms(golden_files, hub_folder):
    golden, model = np.load(golden_files / "ast_tiny_hf.npz"), beats_jax.load(hub_folder)
    out = model.encode_fbank(golden["input_values"], layers=True)
    for i in range(4):
        np.testing.assert_allclose(out.layers[i], golden[f"hidden_state_{i}"], atol=2e-5)
    np.testing.assert_allclose(out.features, golden["last_hidden_state"], atol=2e-5)
    np.testing.assert_allclose(out.logits, golden["logits"], atol=5e-6)
    assert out.num_special == 2
    lengths = golden["waveform_lengths"]
    np.testing.assert_allclose(model.logits(golden["waveform"], lengths=lengths), golden["logits"], atol=2e-4)
    np.testing.assert_allclose(model.logits(golden["waveform"]), golden["logits_full"], atol=2e-4)
    padding = np.arange(golden["waveform"].shape[1])[None] >= lengths[:, None]
    masked = model.encode(golden["waveform"], padding_mask=padding, layers=True)  # as the extractor pads each clip alone
    for i in range(4):
        np.testing.assert_allclose(masked.layers[i], golden[f"hidden_state_{i}"], atol=1e-3)
    np.testing.assert_array_equal(masked.token_mask.sum(axis=1), [2 + 12 * 12, 2 + 12 * 7])  # 79 frames hold 7 time patches
    pooled = model.embed(golden["waveform"], lengths=lengths, pooling="cls")
    np.testing.assert_allclose(pooled, golden["pooled"], atol=1e-3)


def test_original_model_by_layer(golden_files, original_file):
    golden, model = np.load(golden_files / "ast_tiny_orig.npz"), beats_jax.load(original_file)
    out = model.encode_fbank(golden["input"], layers=True)
    np.testing.assert_allclose(out.layers[0], golden["tokens_plus_pos"], atol=2e-5)
    for i in range(3):
        np.testing.assert_allclose(out.layers[i + 1], golden[f"block{i}_out"], atol=2e-5)
    np.testing.assert_allclose(out.features, golden["norm_out"], atol=2e-5)
    np.testing.assert_allclose(out.logits, golden["logits"], atol=3e-6)


def test_positions_follow_the_original_constructor(golden_files):
    golden = np.load(golden_files / "ast_pos_embed.npz")
    grids = {"deit": (24, 24), "audioset": (12, 101)}
    cases = [name for name in golden.files if "_to_" in name]
    assert len(cases) == 13
    for name in cases:
        start, _, size = name.partition("_to_")
        after = tuple(int(n) for n in size.split("x"))
        found = adapt_positions(golden[f"{start}_pos_embed"][0], grids[start], after)
        cropped = after[0] <= grids[start][0] and after[1] <= grids[start][1]
        np.testing.assert_allclose(found, golden[name].reshape(-1, 8), atol=0 if cropped else 3e-5, err_msg=name)


def test_every_layout_is_written_back_in_the_same_numbers(original_file, tmp_path):
    """Original → original, and original → Hugging Face → original."""
    assert main([str(original_file), str(tmp_path / "a.pt")]) == 0
    hub, last = tmp_path / "hub", tmp_path / "last"
    hub.mkdir()
    last.mkdir()
    assert main([str(tmp_path / "a.pt"), str(hub / "model.safetensors"), "--published-keys"]) == 0
    assert main([str(hub), str(last / "b.pt")]) == 0
    before, first, second = (read_torch_file(file) for file in (original_file, tmp_path / "a.pt", last / "b.pt"))
    dead = {f"module.v.{name}" for name in keys.DEAD}
    assert set(before) == set(first) == set(second)  # the original code loads strictly
    for key, tensor in first.items():
        assert tensor.shape == before[key].shape, key
        assert tensor.tobytes() == second[key].tobytes() == (tensor * 0 if key in dead else before[key]).tobytes(), key
    expected, found = beats_jax.load(original_file), beats_jax.load(last / "b.pt")
    assert (found.config, found.audio, found.labels) == (expected.config, expected.audio, expected.labels)
    assert main([str(tmp_path / "a.pt"), str(hub / "other.pt")]) == 2  # config.json there belongs to another file
    assert not (hub / "other.pt").exists()


def test_what_is_missing_is_told(original_file, hub_folder, tmp_path):
    alone = shutil.copy(original_file, tmp_path / "alone.pt")
    with pytest.raises(UserError, match=r"108 patches are no published size.*preprocessor_config\.json"):
        beats_jax.load(alone)
    shutil.copy(hub_folder / "model.safetensors", tmp_path / "model.safetensors")
    shutil.copy(hub_folder / "config.json", tmp_path / "config.json")
    with pytest.raises(UserError, match=r"preprocessor_config\.json must lie beside"):
        beats_jax.load(tmp_path / "model.safetensors")


def random_original(width=64, patches=144, classes=35):
    """Content of a file of the original code, one block."""
    draw = np.random.default_rng(0)
    shapes = {
        "v.cls_token": (1, 1, width), "v.dist_token": (1, 1, width), "v.pos_embed": (1, 2 + patches, width),
        "v.patch_embed.proj.weight": (width, 1, 16, 16), "v.patch_embed.proj.bias": (width,),
        "v.blocks.0.norm1.weight": (width,), "v.blocks.0.norm1.bias": (width,),
        "v.blocks.0.attn.qkv.weight": (3 * width, width), "v.blocks.0.attn.qkv.bias": (3 * width,),
        "v.blocks.0.attn.proj.weight": (width, width), "v.blocks.0.attn.proj.bias": (width,),
        "v.blocks.0.norm2.weight": (width,), "v.blocks.0.norm2.bias": (width,),
        "v.blocks.0.mlp.fc1.weight": (96, width), "v.blocks.0.mlp.fc1.bias": (96,),
        "v.blocks.0.mlp.fc2.weight": (width, 96), "v.blocks.0.mlp.fc2.bias": (width,),
        "v.norm.weight": (width,), "v.norm.bias": (width,), "mlp_head.0.weight": (width,), "mlp_head.0.bias": (width,),
        "mlp_head.1.weight": (classes, width), "mlp_head.1.bias": (classes,),
    }  # fmt: skip
    return {key: draw.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_sizes_state_the_rest(tmp_path, prefix):
    content = {f"{prefix}{key}": value for key, value in random_original().items()}
    bundle = formats.read(read_raw(write_torch_file(tmp_path / "sc.pt", content)))
    config, front_end = bundle.model, bundle.audio.filterbank
    assert (config.max_length, config.time_stride, config.num_attention_heads) == (128, 10, 1)
    assert (front_end.target_frames, front_end.mean) == (128, -6.845978)
    assert bundle.multi_label  # Speech Commands were trained with binary cross-entropy
    assert bundle.source.endswith("taken as published with 144 patches: strides, length, statistics)")
    assert (config.layer_norm_eps, config.head_layer_norm_eps) == (1e-6, 1e-5)


def test_misfits_are_named(tmp_path):
    content = random_original()
    del content["v.blocks.0.mlp.fc2.bias"]
    content["v.blocks.0.attn.qkv.bias"] = np.zeros(190, np.float32)
    content["surprise"] = np.zeros(2, np.float32)
    with pytest.raises(UserError, match=r"missing v\.blocks\.0\.mlp\.fc2\.bias.*unknown surprise"):
        formats.read(read_raw(write_torch_file(tmp_path / "bad.pt", content)))


def test_files_that_contradict_themselves(tmp_path, hub_folder):
    content = {f"module.{key}": value for key, value in random_original().items()}
    content["v.norm.weight"] = content["module.v.norm.weight"]
    with pytest.raises(UserError, match=r"others do not, such as v\.norm\.weight"):
        beats_jax.load(write_torch_file(tmp_path / "half.pt", content))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="not a mapping"):
        beats_jax.load(write_torch_file(tmp_path / "whole.pt", random_original()))
    folder = shutil.copytree(hub_folder, tmp_path / "hub")
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**facts, "problem_type": "regression"}))
    with pytest.raises(UserError, match=r"problem_type is 'regression'; known: multi_label_classification, single"):
        beats_jax.load(folder)


def test_a_deit_of_images_becomes_a_start(tmp_path):
    content = {key.removeprefix("v."): value for key, value in random_original(patches=36).items() if "mlp_head" not in key}
    content["patch_embed.proj.weight"] = np.repeat(content["patch_embed.proj.weight"], 3, axis=1)
    content |= {name: np.zeros((1000, 64) if "weight" in name else 1000, np.float32) for name in keys.DEAD}
    bundle = formats.read(read_raw(write_torch_file(tmp_path / "deit.pt", {"model": content})))
    assert bundle.model.grid == (6, 6)
    kernel = bundle.params["patch_embedding"]["kernel"]
    np.testing.assert_allclose(kernel, content["patch_embed.proj.weight"].sum(1).reshape(64, -1).T, rtol=1e-5)
    config, params = registry.family(bundle.model).resize(bundle.params, 128, 128, ASTConfig())
    assert config.grid == (12, 12)
    out = jax.jit(AST(config).apply)({"params": params}, jnp.zeros((1, 128, 128)))
    assert out.features.shape == (1, 146, 64)


def test_patches_are_the_convolution_of_the_published_code():
    config = ASTConfig(max_length=60, num_mel_bins=48, frequency_stride=12, time_stride=14)
    draw = np.random.default_rng(1)
    fbank, kernel = draw.standard_normal((2, 60, 48)), draw.standard_normal((5, 1, 16, 16))
    expected = jax.lax.conv_general_dilated(
        jnp.asarray(fbank.transpose(0, 2, 1)[:, None]), jnp.asarray(kernel), (12, 14), "VALID"
    )
    found = patches(jnp.asarray(fbank), config) @ kernel.reshape(5, -1).T
    np.testing.assert_allclose(found, expected.reshape(2, 5, -1).transpose(0, 2, 1), atol=1e-4)


@pytest.mark.slow
def test_masks_dropout_and_depths():
    frame_mask = jnp.arange(36)[None] < jnp.array([[36], [28], [5], [0]])
    real = np.asarray(ast.token_mask(TINY, frame_mask, 36))
    assert real.shape == (4, 2 + 9)
    assert real[:, :2].all()
    expected = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)  # three steps of 16 frames, 10 apart
    np.testing.assert_array_equal(real[:, 2:].reshape(4, 3, 3), np.repeat(expected[:, None], 3, axis=1))
    padding = ~np.asarray(frame_mask)
    theirs = np.asarray(ast.reference_mask(TINY, jnp.asarray(padding), 36, 36))
    np.testing.assert_array_equal(theirs[:, 2:5], [[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 0, 0]])
    module, fbank = AST(TINY), jnp.asarray(np.random.default_rng(0).standard_normal((4, 36, 36)), jnp.float32)
    params = jax.jit(module.init)(jax.random.key(0), fbank)["params"]
    mask = jnp.asarray(real)
    forward = jax.jit(lambda fbank: module.apply({"params": params}, fbank, mask).features)
    poisoned = jnp.where(frame_mask[:, :, None], fbank, jnp.nan).at[3].set(0.0).at[2].set(0.0)
    clean = jnp.where(frame_mask[:, :, None], fbank, 0.0).at[3].set(0.0).at[2].set(0.0)
    np.testing.assert_array_equal(np.asarray(forward(poisoned))[real], np.asarray(forward(clean))[real])

    def train(key):
        return module.apply({"params": params}, fbank, deterministic=False, rngs={"dropout": key}).logits

    same, again, other = train(jax.random.key(1)), train(jax.random.key(1)), train(jax.random.key(2))
    np.testing.assert_array_equal(same, again)
    assert np.abs(same - other).max() > 1e-3
    paths = ("positions", "blocks_0/fc1/kernel", "norm/scale", "predictor/linear/bias")
    assert [parameter_depth(path, TINY) for path in paths] == [0, 1, 2, 2]
    with pytest.raises(UserError, match="reads exactly 36 of 36"):
        module.apply({"params": params}, fbank[:, :30])


def test_bfloat16_is_close(hub_folder, golden_files):
    golden = np.load(golden_files / "ast_tiny_hf.npz")
    out = beats_jax.load(hub_folder, dtype="bfloat16").encode_fbank(golden["input_values"])
    np.testing.assert_allclose(out.logits, golden["logits"], atol=0.05)


def test_heads_that_cannot_be_guessed(tmp_path):
    with pytest.raises(UserError, match="width 48 is not a multiple of 64"):
        ast_files.read_original(read_raw(write_torch_file(tmp_path / "w.pt", random_original(width=48))))
