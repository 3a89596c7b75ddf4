"""EAT against the published code on seeded random weights (golden/README.md, section EAT)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import beats_jax
from beats_jax.config import EATConfig
from beats_jax.convert import main
from beats_jax.errors import UserError
from beats_jax.models.eat import EAT, parameter_depth, position_table
from beats_jax.weights import formats
from beats_jax.weights.families import eat, eat_files
from beats_jax.weights.families.key_map import to_params
from beats_jax.weights.raw import read_raw
from beats_jax.weights.torch_file import read_torch_file
from beats_jax.weights.torch_writer import write_torch_file


@pytest.fixture(scope="module")
def golden(golden_files):
    return np.load(golden_files / "eat_tiny.npz")


@pytest.fixture(scope="module")
def fine_tuned(golden_files):
    return np.load(golden_files / "eat_tiny_finetuned.npz")


@pytest.fixture(scope="module")
def model(golden_files):
    return beats_jax.load(golden_files / "eat_tiny.pt")


@pytest.mark.parametrize("tag", ["full", "short", "odd"])
def test_every_layer_follows_the_published_code(model, golden, tag):
    out = model.encode_fbank(golden[f"{tag}_fbank"], layers=True)
    np.testing.assert_allclose(out.layers[0], golden[f"{tag}_pre_norm_out"], atol=2e-5)
    for i in range(3):
        np.testing.assert_allclose(out.layers[i + 1], golden[f"{tag}_layer{i}_out"], atol=2e-5)
    np.testing.assert_allclose(out.features, golden[f"{tag}_output"], atol=2e-5)
    assert out.num_special == 1
    assert out.token_mask.all()


def test_branches_of_the_blocks_and_masked_patches(model, golden):
    module = EAT(model.config)

    def branches(params, fbank):
        def apply(module):
            return module.encode_blocks(module.add_positions(module.embed_patches(fbank)))[1]

        return module.apply({"params": params}, method=apply)

    for i, found in enumerate(jax.jit(branches)(model.params, golden["short_fbank"])):
        np.testing.assert_allclose(found.attention, golden[f"short_layer{i}_attn"], atol=2e-5)
        np.testing.assert_allclose(found.feed_forward, golden[f"short_layer{i}_ffn"], atol=2e-5)
    real = np.concatenate([np.ones((2, 1), bool), ~golden["padmask_mask"]], axis=1)
    out = jax.jit(module.apply)({"params": model.params}, jnp.asarray(golden["short_fbank"]), jnp.asarray(real))
    np.testing.assert_allclose(np.asarray(out.features)[real], golden["padmask_output"][real], atol=2e-5)


def test_fine_tuned_logits_by_both_poolings(golden_files, fine_tuned, tmp_path):
    model = beats_jax.load(golden_files / "eat_tiny_finetuned.pt")
    for tag in ("full", "short"):
        out = model.encode_fbank(fine_tuned[f"{tag}_fbank"])
        np.testing.assert_allclose(out.logits, fine_tuned[f"{tag}_logits"], atol=1e-5)
        np.testing.assert_allclose(out.features[:, 0], fine_tuned[f"{tag}_cls"], atol=2e-5)
    averaging = EAT(EATConfig(**{**vars(model.config), "prediction_mode": "MEAN_POOLING"}))
    out = jax.jit(averaging.apply)({"params": model.params}, jnp.asarray(fine_tuned["full_fbank"]))
    np.testing.assert_allclose(out.logits, fine_tuned["full_logits_mean_pooling"], atol=1e-5)


def test_the_teacher_is_another_model(golden_files):
    raw = read_raw(golden_files / "eat_tiny.pt")
    student, teacher = (
        eat_files.read_pretraining(raw),
        eat_files.read_pretraining(replace(raw, state_dict=raw.state_dict["_ema"])),
    )
    expected = raw.state_dict["_ema"]["blocks.0.mlp.fc1.bias"]
    np.testing.assert_array_equal(teacher.params["blocks_0"]["fc1"]["bias"], expected)
    assert not np.array_equal(student.params["blocks_0"]["fc1"]["bias"], expected)


@pytest.mark.parametrize("name", ["eat_tiny", "eat_tiny_finetuned"])
def test_writing_is_the_inverse_of_reading(golden_files, tmp_path, name):
    bundle = formats.read(read_raw(golden_files / f"{name}.pt"))
    upstream = formats.WRITERS["eat"](bundle)
    original = read_torch_file(golden_files / f"{name}.pt")["model"]
    kept = {key: value for key, value in original.items() if key in upstream.content["model"]}
    assert set(kept) == set(eat.student(original)) == set(upstream.content["model"])
    for key, tensor in kept.items():
        assert upstream.content["model"][key].tobytes() == tensor.tobytes()
    again = formats.read(read_raw(write_torch_file(tmp_path / "again.pt", upstream.content)))
    assert (again.model, again.audio, again.labels, again.multi_label) == (
        bundle.model, bundle.audio, bundle.labels, bundle.multi_label
    )  # fmt: skip


def test_hugging_face_folder(golden_files, tmp_path, fine_tuned):
    folder = tmp_path / "hub"
    folder.mkdir()
    source = golden_files / "eat_tiny_finetuned.pt"
    assert main([str(source), str(folder / "model.safetensors"), "--published-keys"]) == 0
    expected, found = beats_jax.load(source), beats_jax.load(folder)
    assert found.labels == expected.labels
    np.testing.assert_array_equal(
        found.encode_fbank(fine_tuned["short_fbank"]).logits, expected.encode_fbank(fine_tuned["short_fbank"]).logits
    )
    (folder / "config.json").unlink()
    (folder / "model.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"config\.json"):
        beats_jax.load(folder / "model.safetensors")


def test_misfits_are_named(golden_files):
    file = read_torch_file(golden_files / "eat_tiny.pt")
    tensors = eat.student(file["model"])
    del tensors["blocks.1.norm1.bias"]
    tensors["surprise"] = np.zeros(2, np.float32)
    config = eat.config_of(tensors, eat.PRETRAINING, {"num_heads": 4}, classes=0)
    with pytest.raises(UserError, match=r"missing blocks\.1\.norm1\.bias; unknown surprise"):
        to_params(tensors, eat.key_table(config, eat.PRETRAINING), config)


@pytest.mark.slow
def test_a_clip_in_a_batch_gives_what_it_gives_alone(model):
    draw = np.random.default_rng(0)
    waveforms = 0.1 * draw.standard_normal((2, 16_000)).astype(np.float32)
    lengths = np.array([16_000, 9_000])
    for pooling in ("mean", "cls"):
        together = model.embed(waveforms, lengths=lengths, pooling=pooling)
        for i, length in enumerate(lengths):
            alone = model.embed(waveforms[i : i + 1, :length], pooling=pooling)
            np.testing.assert_allclose(together[i], alone[0], atol=1e-5)
    plain, masked = model.encode(waveforms), model.encode(waveforms, padding_mask=np.zeros(waveforms.shape, bool))
    np.testing.assert_array_equal(masked.token_mask, plain.token_mask)  # a second of sound, not all of the 1024 frames
    assert not plain.token_mask.all()


def test_positions_follow_the_formula_and_are_never_learnt():
    table = np.asarray(jax.jit(position_table, static_argnums=(0, 1, 2))(5, 8, 16))
    for time, frequency, k in [(0, 0, 0), (4, 7, 3), (2, 5, 1)]:
        rate = 10000 ** (-k / 4)
        row = table[time * 8 + frequency]
        expected = [np.sin(frequency * rate), np.cos(frequency * rate), np.sin(time * rate), np.cos(time * rate)]
        np.testing.assert_allclose(row[[k, 4 + k, 8 + k, 12 + k]], expected, atol=1e-6)
    config = EATConfig(embed_dim=16, depth=1, num_heads=2, max_length=4, predictor_class=3)
    module, fbank = EAT(config), jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 128)), jnp.float32)
    params = jax.jit(module.init)(jax.random.key(0), fbank)["params"]
    gradients = flatten_dict(
        jax.jit(jax.grad(lambda p: jnp.sum(module.apply({"params": p}, fbank).logits ** 2)))(params), sep="/"
    )
    assert all(np.isfinite(g).all() for g in gradients.values())
    silent = {path for path, g in gradients.items() if not np.any(g)}
    assert silent == {"positions"}
    assert [parameter_depth(p, config) for p in ("class_token", "blocks_0/fc1/kernel", "predictor/norm/scale")] == [0, 1, 2]
