"""Every layout in which BEATs encoders are kept: the same tensors in each give the same parameters and features."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from beats_jax.audio.filterbank import mel_matrix
from beats_jax.config import AudioConfig, BEATsConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.inference.model import Model
from beats_jax.weights import formats, pretrained, published
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.download import Obtained
from beats_jax.weights.families import beats
from beats_jax.weights.raw import read_raw
from beats_jax.weights.torch_writer import write_torch_file

TINY = BEATsConfig(
    embed_dim=24, encoder_layers=2, encoder_embed_dim=32, encoder_ffn_embed_dim=48, encoder_attention_heads=2, conv_pos=16,
    conv_pos_groups=2, num_buckets=32, max_distance=800,
)  # fmt: skip
HEADED = replace(TINY, predictor_class=3)
CFG = beats.to_cfg(TINY)
AVEX = {"model_spec": {"audio_config": {"sample_rate": 16_000}}}
CLASSES = ["owl", "frog", "bat", "<blank>", "<unk>"]
DECODER = {
    "decoder.mask_token": (1, 1, 8), "decoder.decoder_embed.weight": (8, 32), "decoder.decoder_embed.bias": (8,),
    "decoder.decoder_blocks.0.fc1.weight": (48, 8), "decoder.decoder_norm.weight": (8,), "decoder.decoder_pred.bias": (9,),
}  # fmt: skip


def drawn(config):
    draw = np.random.default_rng(0)
    return unflatten_dict(
        {path: draw.normal(0, 0.2, shape).astype(np.float32) for path, shape in param_shapes(config).items()}, sep="/"
    )


@pytest.fixture(scope="module")
def params():
    return drawn(HEADED)


@pytest.fixture(scope="module")
def encoder(params):
    """Published tensors of the encoder alone."""
    return beats.to_torch({name: group for name, group in params.items() if name != "predictor"}, TINY)


@pytest.fixture(scope="module")
def head(params):
    return {"weight": params["predictor"]["kernel"].T, "bias": params["predictor"]["bias"]}


def same_params(bundle, params):
    found, expected = flatten_dict(bundle.params, sep="/"), flatten_dict(params, sep="/")
    assert set(found) == {path for path in expected if bundle.labels or not path.startswith("predictor/")}
    for path, leaf in found.items():
        np.testing.assert_array_equal(leaf, expected[path])


def prefixed(tensors, prefix):
    return {prefix + key: value for key, value in tensors.items()}


def renamed(tensors):
    """Weight normalisation as newer torch names it."""
    new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {key.replace(old, new[old]) if (old := key[-8:]) in new else key: value for key, value in tensors.items()}


def ones():
    shapes = {"patch_embedding_pad.weight": (1, 1, 16, 16), "raw2fbank_pad.weight": (1, 1, 400)}
    return {key: np.ones(shape, np.float32) for key, shape in shapes.items()}


def beside(folder, **files):
    for name, content in files.items():
        stem, _, kind = name.rpartition("_")
        text = yaml.safe_dump(content) if kind == "yaml" else json.dumps(content)
        (folder / f"{stem}.{kind}").write_text(text)


def read(folder, content, name="file.pt", stated=None):
    if name.endswith(".safetensors"):
        save_file({key: np.ascontiguousarray(value) for key, value in content.items()}, folder / name)
    else:
        write_torch_file(folder / name, content)
    return formats.read(replace(read_raw(folder / name), stated=stated or {}))


def fine_tuning(kind="multi-label", **decoder):
    return {
        "encoder": "beats", "encoder_conf": {"beats_ckpt_path": "/x/BEATs.pt", "beats_config": {"encoder_layerdrop": 0.1}},
        "decoder": "linear", "decoder_conf": decoder, "model_conf": {"classification_type": kind}, "token_list": CLASSES,
    }  # fmt: skip


PRETRAINING = {"encoder": "beats", "encoder_conf": {"is_pretraining": True, "beats_config": {**CFG, "decoder_layers": 3}}}


def layouts(encoder, head):
    """Name → (content of the file, files beside, name of the file, labels, sigmoid)."""
    decoder = {key: np.ones(shape, np.float32) for key, shape in DECODER.items()}
    espnet = prefixed({**encoder, **ones()}, "encoder.")
    classes, numbers = ("owl", "frog", "bat"), {"frog": 1, "bat": 2, "owl": 0}
    linear, classifier = prefixed(head, "decoder.linear_out."), prefixed(head, "classifier.")
    stale = {"backbone.predictor.weight": np.ones((5, 32), np.float32), "backbone.predictor.bias": np.ones(5, np.float32)}
    state = {"step": 7, "exp_avg": np.zeros(3, np.float32)}
    training = {"epoch": 3, "optimizer": {"state": {0: state}, "param_groups": [{"lr": 1e-4, "params": [0]}]}}
    window, mel = np.hanning(400) ** 0.85, np.concatenate([mel_matrix(FilterbankConfig()), np.zeros((1, 128))])
    buffers = {"backbone.fbank.window": window.astype(np.float32), "backbone.fbank.mel_fb": mel.astype(np.float32)}
    released = {"cfg": CFG, "model": encoder}
    return {
        "official": (released, {}, "file.pt", (), False),
        "openbeats": ({"cfg": {**CFG, "decoder_layers": 3}, "model": {**encoder, **ones()}}, {}, "file.pt", (), False),
        "bioacoustics-dl": ({**released, **training}, {}, "file.pt", (), False),
        "tensors with cfg.json": (encoder, {"cfg_json": CFG}, "file.safetensors", (), False),
        "espnet deepspeed": (
            {"module": {**espnet, **decoder}, "ds_version": "0.1"}, {"config_yaml": PRETRAINING}, "model_states.pt", (), False
        ),
        "espnet trainer": ({"model": espnet}, {"config_yaml": PRETRAINING}, "checkpoint.pth", (), False),
        "espnet fine-tuned": (
            {**espnet, **linear}, {"config_yaml": fine_tuning(), "cfg_json": CFG}, "valid.epoch_mAP.ave.pth", classes, True
        ),
        "espnet single-label": (
            {**espnet, **linear}, {"config_yaml": fine_tuning("multi-class", pooling="mean", dropout=0.1), "cfg_json": CFG},
            "file.pth", classes, False,
        ),
        "naturelm wrapped": ({"model_state_dict": prefixed(encoder, "backbone.")}, {"config_yaml": AVEX}, "file.pt", (), False),
        "naturelm bare": (encoder, {"config_yaml": AVEX}, "naturebeats.pt", (), False),
        "naturelm safetensors": (
            {**prefixed(encoder, "backbone."), **stale}, {"config_yaml": AVEX}, "file.safetensors", (), False
        ),
        "aves2 with a head": (
            {**prefixed(encoder, "backbone."), **classifier, **buffers}, {"config_yaml": AVEX, "label_map_json": numbers},
            "file.safetensors", classes, True,
        ),
    }  # fmt: skip


NAMES = list(layouts({}, {}))


@pytest.mark.parametrize("naming", ["old", "parametrised"])
@pytest.mark.parametrize("name", NAMES)
def test_every_layout_holds_the_same_parameters(tmp_path, params, encoder, head, name, naming):
    tensors = renamed(encoder) if naming == "parametrised" else encoder
    content, files, file, labels, multi_label = layouts(tensors, head)[name]
    beside(tmp_path, **files)
    bundle = read(tmp_path, content, file)
    same_params(bundle, params)
    assert (bundle.labels, bundle.multi_label) == (labels, multi_label)
    dropouts = {field: getattr(bundle.model, field) for field in BEATsConfig.TRAINING_FIELDS}
    assert bundle.model == replace(TINY, predictor_class=len(labels), **dropouts)
    assert bundle.audio == AudioConfig()
    assert bundle.source.startswith(file)


def test_features_and_logits_are_those_of_the_original(tmp_path, params, encoder, head):
    """Once, with a head: the layouts have equal parameters."""
    content, files, file, *_ = layouts(encoder, head)["espnet fine-tuned"]
    beside(tmp_path, **files)
    waveforms = 0.1 * np.random.default_rng(1).standard_normal((1, 6000)).astype(np.float32)
    expected = Model(Bundle(params, HEADED, AudioConfig(), ("a", "b", "c"), True, "test")).encode(waveforms)
    found = Model(read(tmp_path, content, file)).encode(waveforms)
    assert np.std(expected.features) > 0.1
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_golden_files_through_the_other_layouts(golden_files, tmp_path):
    """The published features from an ESPnet file, whose cfg has training dropouts: loading is for inference."""
    golden = np.load(golden_files / "tiny_deepnorm.npz")
    official = read_raw(golden_files / "tiny_deepnorm.pt")
    cfg = {**official.content["cfg"], "dropout": 0.3, "encoder_layerdrop": 0.5}
    beside(tmp_path, config_yaml={"encoder_conf": {"beats_config": cfg}})
    bundle = read(tmp_path, {"module": prefixed(official.state_dict, "encoder.")})
    assert (bundle.model.dropout, bundle.model.encoder_layerdrop) == (0.3, 0.5)
    model = Model(bundle)
    once, twice = (model.encode_fbank(golden["fbank_normalised"]).features for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_allclose(once, golden["nomask_output"], rtol=0, atol=2e-5)


def test_what_was_left_out_or_taken_by_rule_is_said(tmp_path, encoder, head):
    def source(name):
        content, files, file, *_ = layouts(encoder, head)[name]
        folder = tmp_path / name
        folder.mkdir()
        beside(folder, **files)
        return read(folder, content, file).source

    assert "6 tensors of the pre-training predictor left out" in source("espnet deepspeed")
    assert "no filterbank statistics stated" in source("espnet fine-tuned")
    assert "fine-tuned on AudioSet-2M by AVEX's rule; AudioSet predictor" in source("naturelm safetensors")
    assert source("openbeats") == "file.pt (cfg entries not used: decoder_layers)"


def test_an_official_file_is_not_mistaken_for_a_wrapped_one(tmp_path, encoder):
    """Its keys begin with `encoder.` too, and stripping them blindly would leave nothing to load."""
    assert sum(key.startswith("encoder.") for key in encoder) > 30
    kinds = {
        "BEATs, published layout {cfg, model}": {"cfg": CFG, "model": encoder},
        "BEATs, ESPnet checkpoint": {"model": prefixed(encoder, "encoder.")},
        "BEATs, NatureLM-audio or AVES2": {"model": prefixed(encoder, "backbone.")},
    }
    for kind, content in kinds.items():
        assert formats.identify(read_raw(write_torch_file(tmp_path / "file.pt", content))).name == kind
    both = {"cfg": CFG, "model": {**encoder, **prefixed(encoder, "encoder.")}}
    refused(tmp_path, both, "looks like several kinds at once: BEATs, published layout {cfg, model}; BEATs, ESPnet checkpoint")


def refused(folder, content, *parts, name="file.pt", stated=None):
    with pytest.raises(UserError) as error:
        read(folder, content, name, stated)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def test_the_shared_table_is_loaded_once_and_must_agree(tmp_path, encoder, params):
    keys = [key for key in encoder if key.endswith("relative_attention_bias.weight")]
    assert len(keys) == 2  # replicated on export, for every layer
    bundle = read(tmp_path, {"cfg": CFG, "model": encoder})
    assert [path for path in flatten_dict(bundle.params, sep="/") if "relative_attention_bias" in path] == [
        "encoder/relative_attention_bias/embedding"
    ]
    np.testing.assert_array_equal(encoder[keys[0]], encoder[keys[1]])
    refused(tmp_path, {"cfg": CFG, "model": {**encoder, keys[1]: encoder[keys[1]] + 1}}, f"{keys[1]} differs")
    one = {key: value for key, value in encoder.items() if key != keys[1]}
    refused(tmp_path, {"cfg": CFG, "model": one}, f"missing {keys[1]}")


def test_frozen_kernels_must_be_all_ones(tmp_path, encoder):
    wrong = ones()
    wrong["raw2fbank_pad.weight"] = wrong["raw2fbank_pad.weight"] * 2
    refused(tmp_path, {"cfg": CFG, "model": {**encoder, **wrong}}, "raw2fbank_pad.weight must be all ones")
    twice = {**encoder, **renamed(encoder)}
    refused(tmp_path, {"cfg": CFG, "model": twice}, "encoder.pos_conv.0.weight_g, encoder.pos_conv.0.weight_v twice")


def test_values_that_are_not_finite_name_their_tensor(tmp_path, encoder):
    spoilt = {**encoder, "layer_norm.bias": np.where(np.arange(24) == 3, np.nan, encoder["layer_norm.bias"])}
    spoilt["encoder.layer_norm.weight"] = np.full(32, np.inf, np.float32)
    refused(
        tmp_path, {"cfg": CFG, "model": spoilt}, "layer_norm.bias holds 1 values that are not finite",
        "encoder.layer_norm.weight holds 32 values",
    )  # fmt: skip


def test_another_depth_is_told_by_the_setting(tmp_path, encoder):
    deep = {**CFG, "encoder_layers": 3}
    refused(tmp_path, {"cfg": deep, "model": encoder}, "missing encoder.layers.2.")
    beside(tmp_path, config_yaml={"encoder_conf": {"beats_config": deep}})
    refused(tmp_path, prefixed(encoder, "encoder."), "encoder_layers is stated as 3, the tensors have 2")


def test_what_shapes_cannot_show_must_be_stated(tmp_path, encoder):
    content = prefixed(encoder, "encoder.")
    remedy = "cfg.json"
    refused(tmp_path, content, "activation_fn, layer_norm_first, deep_norm, max_distance cannot be seen", remedy)
    part = {name: CFG[name] for name in ("activation_fn", "layer_norm_first", "deep_norm")}
    refused(tmp_path, content, "max_distance cannot be seen", remedy, stated=part)
    assert read(tmp_path, content, stated={**part, "max_distance": 800}).model == TINY
    # a run that started from a checkpoint notes only what it changed
    beside(tmp_path, config_yaml={"encoder_conf": {"beats_ckpt_path": "/x.pt", "beats_config": {"deep_norm": True}}})
    refused(tmp_path, content, "activation_fn, layer_norm_first, max_distance cannot be seen")
    # one that did not has the class defaults, which are not the released models' values
    beside(tmp_path, config_yaml={"encoder_conf": {"beats_config": {"relative_position_embedding": True, "gru_rel_pos": True}}})
    refused(tmp_path, content, "encoder_embed_dim is stated as 768, the tensors have 32")
    flat = {key: value for key, value in encoder.items() if "grep_" not in key and "relative_" not in key}
    unseen = {**part, "relative_position_embedding": False}
    (tmp_path / "config.yaml").unlink()
    refused(tmp_path, prefixed(flat, "encoder."), "encoder_attention_heads cannot be seen", stated=unseen)
    bundle = read(tmp_path, prefixed(flat, "encoder."), stated={**unseen, "encoder_attention_heads": 4})
    assert (bundle.model.encoder_attention_heads, bundle.model.relative_position_embedding) == (4, False)


def test_espnet_files_that_are_other_models_are_refused(tmp_path, encoder, head):
    content = {**prefixed(encoder, "encoder."), **prefixed(head, "decoder.linear_out.")}
    beside(tmp_path, cfg_json=CFG)
    refused(tmp_path, content, "config.yaml is not beside the file")
    cases = [
        (fine_tuning("ordinal"), "classification_type is 'ordinal'; known: multi-label, multi-class"),
        (fine_tuning(pooling="max"), "decoder_conf asks for a model that beats_jax does not have: pooling is 'max'"),
        ({**fine_tuning(), "token_list": "tokens.txt"}, "token_list is a str"),
        ({**fine_tuning(), "token_list": CLASSES[1:]}, "token_list has 2 classes before <blank> and <unk>, the head 3"),
        ({**fine_tuning(), "encoder_conf": {"max_layer": 3, "downsampling_rate": 2}}, "max_layer is 3; downsampling_rate is 2"),
        ({**fine_tuning(), "encoder_conf": ["beats"]}, "encoder_conf is a list"),
    ]
    for settings, part in cases:
        beside(tmp_path, config_yaml=settings)
        refused(tmp_path, content, part)
    beside(tmp_path, config_yaml=fine_tuning())
    more = {**content, "encoder.layer_weights": np.ones((2, 1), np.float32)}
    refused(tmp_path, more, "unknown layer_weights")
    refused(tmp_path, {**content, "decoder.lm.weight": np.ones(2, np.float32)}, "unknown decoder.lm.weight")
    refused(tmp_path, {**content, "encoder.predictor.bias": np.ones(2, np.float32)}, "unknown encoder.predictor.bias")


def test_espnet_statistics(tmp_path, encoder):
    conf = {"fbank_mean": 1.5, "fbank_std": 2.5, "beats_config": CFG}
    beside(tmp_path, config_yaml={"encoder_conf": conf})
    assert read(tmp_path, prefixed(encoder, "encoder.")).audio.filterbank == FilterbankConfig(mean=1.5, std=2.5)
    beside(tmp_path, config_yaml={"encoder_conf": {**conf, "fbank_mean": "high"}})
    refused(tmp_path, prefixed(encoder, "encoder."), "cfg.mean is 'high'")


def test_aves_needs_a_sample_rate_and_a_front_end_that_exists(tmp_path, encoder, head):
    content = prefixed(encoder, "backbone.")
    refused(tmp_path, content, "its sample rate is stated nowhere", "config.yaml", name="file.safetensors")
    assert read(tmp_path, content, "file.safetensors", stated={"sample_rate": 16_000}).audio == AudioConfig()
    fast = {"sample_frequency": 32000.0, "num_mel_bins": 256, "fbank_mean": 10.0}
    spec = {"audio_config": {"sample_rate": 32_000}, "init_config": {**CFG, **fast}}
    beside(tmp_path, config_yaml={"model_spec": spec})
    bundle = read(tmp_path, content)
    assert bundle.audio.filterbank == FilterbankConfig(sample_rate=32_000, num_mel_bins=256, mean=10.0)
    out = Model(bundle).encode(0.1 * jnp.ones((1, 6400)))
    assert out.token_mask.shape == (1, 16)  # one time patch of 256 / 16 tokens
    window = {"backbone.fbank.window": (np.hanning(400) ** 0.85).astype(np.float32)}
    refused(tmp_path, {**content, **window}, "fbank.window is not that of a filterbank of 32000 Hz and 256 mel bins")
    beside(tmp_path, config_yaml={"model_spec": {"audio_config": {"sample_rate": 32_000}}})
    refused(tmp_path, content, "sound of 32000 Hz through a filterbank for 16000 Hz")
    beside(tmp_path, config_yaml=AVEX, label_map_json={"owl": 0, "frog": 1, "bat": 1})
    headed = {**content, **prefixed(head, "classifier.")}
    refused(tmp_path, headed, "label_map.json gives several classes one number")
    (tmp_path / "label_map.json").write_text("{")
    refused(tmp_path, headed, "label_map.json is damaged")
    (tmp_path / "label_map.json").unlink()
    assert read(tmp_path, headed).labels == ("0", "1", "2")
    refused(tmp_path, {**content, "classifier.weight": head["weight"]}, "missing predictor.bias")
    refused(tmp_path, {**content, "text_encoder.weight": head["weight"]}, "unknown text_encoder.weight")


def test_another_family_and_nothing_at_all_are_told(tmp_path, encoder):
    refused(tmp_path, {"model": {"conv1.weight": np.ones((2, 2), np.float32)}}, "is of no known family", "known: BEATs")
    refused(tmp_path, {"model": encoder}, "neither an entry 'cfg' in it nor a file cfg.json")


@pytest.mark.filterwarnings("ignore::beats_jax.errors.LicenceWarning")
@pytest.mark.parametrize(("name", "prefix"), [("OpenBEATs-Base-i1", "encoder."), ("esp-aves2-sl-beats-bio", "backbone.")])
def test_registered_files_need_nothing_beside_them(tmp_path, monkeypatch, encoder, name, prefix):
    """A tiny file under a real entry's facts, its sizes apart: what no tensor shows is the entry's."""
    entry = published.find(name)
    assert entry.fields is not None
    hidden = {key: value for key, value in entry.fields.items() if not key.startswith(("encoder_", "embed_"))}
    path = write_torch_file(tmp_path / "file.pt", {"model_state_dict": prefixed(encoder, prefix)})
    monkeypatch.setattr(pretrained, "ensure", lambda _: Obtained(path, "0" * 64, "somewhere"))
    monkeypatch.setattr(pretrained, "find", lambda _: replace(entry, fields=hidden))
    bundle = pretrained.read_checkpoint(name)
    assert (bundle.model, bundle.audio, bundle.source) == (TINY, AudioConfig(), f"{name} (somewhere)")
