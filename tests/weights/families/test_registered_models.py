"""From every registered name to a vector: random weights of the true size in the published layout, on real recordings.

Minutes long: `pytest -m slow -n 0 -s tests/weights/families/test_registered_models.py` prints a line for every name.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

import beats_jax
from beats_jax.audio.filterbank import AST, AST_SPEECH_COMMANDS, EAT
from beats_jax.audio.io import read
from beats_jax.config import AudioConfig, FilterbankConfig
from beats_jax.config.models import MODEL_FAMILIES
from beats_jax.weights import pretrained
from beats_jax.weights.architecture import param_shapes
from beats_jax.weights.bundle import Bundle
from beats_jax.weights.download import Obtained
from beats_jax.weights.formats import WRITERS
from beats_jax.weights.published import find, registry
from beats_jax.weights.torch_writer import write_torch_file

NAMES = [name for name, model in registry().items() if not model.alias_of]


def architecture(published):
    """What computes: names that share it differ in their weights alone."""
    return published.family, published.classes, json.dumps(published.fields, sort_keys=True)


COMPUTED = set({architecture(find(name)): name for name in NAMES}.values())  # one name of each architecture


def front_end(published):
    if published.family == "ast":
        return AST_SPEECH_COMMANDS if published.classes == 35 else AST
    return EAT if published.family == "eat" else FilterbankConfig()


def random_bundle(published):
    """The registered architecture with small random numbers, labels 0, 1, 2 …"""
    classes = published.classes or 0
    config = MODEL_FAMILIES[published.family](**{**(published.fields or {}), "predictor_class": classes})
    draw = np.random.default_rng(0)
    flat = {path: 0.02 * draw.standard_normal(shape, dtype=np.float32) for path, shape in param_shapes(config).items()}
    labels = tuple(map(str, range(classes)))
    audio = AudioConfig(filterbank=front_end(published))
    return Bundle(unflatten_dict(flat, sep="/"), config, audio, labels, classes > 0, "random")


def write_published(folder, published):
    """A file as its publisher writes it, and what belongs beside it."""
    from safetensors.numpy import save_file

    bundle = random_bundle(published)
    upstream, path = WRITERS[published.family](bundle), folder / published.file
    if path.suffix != ".safetensors":
        content = dict(upstream.content)
        if published.name.startswith("OpenBEATs"):  # the frozen kernels by which ESPnet reduces masks
            ones = {"patch_embedding_pad.weight": (1, 1, 16, 16), "raw2fbank_pad.weight": (1, 1, 400)}
            content["model"] = content["model"] | {key: np.ones(shape, np.float32) for key, shape in ones.items()}
        return write_torch_file(path, content)
    if published.family == "beats":  # AVES2
        save_file({f"backbone.{key}": value for key, value in upstream.state_dict.items()}, path)
        return path
    save_file(upstream.state_dict, path)
    for name, facts in upstream.beside.items():
        (folder / name).write_text(json.dumps({key: value for key, value in facts.items() if key != "beats_jax"}))
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::beats_jax.errors.LicenceWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_gives_vectors(real_recordings, tmp_path, monkeypatch, name):
    published = find(name)
    path = write_published(tmp_path, published)
    monkeypatch.setattr(pretrained, "ensure", lambda model: Obtained(Path(path), "0" * 64, "made here"))
    model = beats_jax.load(name)
    assert len(model.labels or ()) == (published.classes or 0)
    if name not in COMPUTED:
        return
    files = sorted((real_recordings / "esc10/audio").glob("*"))[:2]
    waveforms = np.stack([read(file, sample_rate=model.sample_rate)[: 5 * model.sample_rate] for file in files])
    vectors = np.asarray(model.embed(waveforms))
    assert vectors.shape == (2, published.feature_size)
    assert np.isfinite(vectors).all()
    said = f"{name}: embed {vectors.shape}, {model.config.family}"
    if published.classes:
        logits = np.asarray(model.logits(waveforms))
        assert logits.shape == (2, published.classes)
        assert np.isfinite(logits).all()
        said += f", logits {logits.shape}"
    if published.family == "beats_tokenizer":
        codes = np.asarray(model.encode(waveforms).codes)
        assert codes.min() >= 0
        assert codes.max() < 1024
        said += f", codes {codes.shape}"
    path.unlink()
    print(f"\n{said}", end="")
