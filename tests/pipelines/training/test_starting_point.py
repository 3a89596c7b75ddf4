"""What a run starts from when its checkpoint heard sounds of another length."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beats_jax.audio.filterbank import AST as FRONT_END
from beats_jax.config import ASTConfig, AudioConfig, BEATsConfig
from beats_jax.errors import UserError
from beats_jax.models.ast import AST, adapt_positions
from beats_jax.pipelines.checkpoints.parity import BUILT_IN
from beats_jax.pipelines.training.starting_point import starting_point
from beats_jax.weights.bundle import Bundle, save_bundle
from beats_jax.weights.raw import read_raw
from beats_jax.weights.torch_writer import write_torch_file

TINY = ASTConfig(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=66, predictor_class=2,
    layer_norm_eps=1e-6,
)  # fmt: skip
TRAINED = AudioConfig(filterbank=replace(FRONT_END, target_frames=66))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    params = jax.jit(AST(TINY).init)(jax.random.key(0), jnp.zeros((1, 66, 128)))["params"]
    bundle = Bundle(jax.tree.map(np.asarray, params), TINY, TRAINED, ("frog", "owl"), False, "a test")
    return save_bundle(tmp_path_factory.mktemp("trained") / "model", bundle), params


def start(checkpoint, audio, labels=("frog", "owl"), **settings):
    return starting_point(ASTConfig(checkpoint=str(checkpoint), **settings), audio, labels)


def test_an_ast_takes_length_and_statistics_of_the_experiment(checkpoint):
    path, params = checkpoint
    found = start(path, AudioConfig(filterbank=replace(TRAINED.filterbank, target_frames=36, mean=-6.5)), hidden_dropout_prob=0.1)
    assert found.model == replace(TINY, max_length=36, hidden_dropout_prob=0.1)
    expected = adapt_positions(np.asarray(params["positions"]), (12, 6), (12, 3))
    np.testing.assert_array_equal(found.params["positions"], expected)
    np.testing.assert_array_equal(found.params["patch_embedding"]["kernel"], params["patch_embedding"]["kernel"])
    assert found.note.endswith("with its head; mean -6.5 instead of -4.2677393; target_frames 36 instead of 66")
    jax.jit(AST(found.model).apply)({"params": found.params}, jnp.zeros((1, 36, 128)))


def test_strides_that_the_experiment_sets_are_taken(checkpoint):
    path, params = checkpoint
    found = start(path, TRAINED, frequency_stride=16, time_stride=25)
    assert found.model == replace(TINY, frequency_stride=16, time_stride=25)
    np.testing.assert_array_equal(found.params["positions"], adapt_positions(np.asarray(params["positions"]), (12, 6), (8, 3)))
    assert found.note.endswith("with its head; frequency_stride 16 instead of 10; time_stride 25 instead of 10")


def test_random_weights_need_the_length_of_the_front_end():
    with pytest.raises(UserError, match=r"max_length is 66 and config\.audio\.filterbank\.target_frames 65; set both"):
        starting_point(TINY, AudioConfig(filterbank=replace(FRONT_END, target_frames=65)), ("a", "b"))
    assert starting_point(TINY, TRAINED, ("a", "b", "c")).model == replace(TINY, predictor_class=3)


def test_the_same_front_end_changes_nothing(checkpoint):
    path, params = checkpoint
    found = start(path, TRAINED, labels=("a", "b", "c"))
    assert found.note.endswith("with a new head")
    assert "predictor" not in found.params
    np.testing.assert_array_equal(found.params["positions"], params["positions"])


def test_what_cannot_be_resized_is_refused(checkpoint):
    path, _ = checkpoint
    with pytest.raises(UserError, match=r"another filterbank: window 'hanning' .the experiment: 'povey'"):
        start(path, AudioConfig(filterbank=replace(TRAINED.filterbank, window="povey", mean=0.0)))
    with pytest.raises(UserError, match=r"set config\.audio\.filterbank\.target_frames .the checkpoint's: 66"):
        start(path, AudioConfig(filterbank=replace(TRAINED.filterbank, target_frames=0)))


def test_the_note_says_how_a_file_was_read(tmp_path):
    raw = read_raw(BUILT_IN / "beats_fine_tuned.pt")
    wrapped = {f"model._orig_mod.{key}": value for key, value in raw.state_dict.items()}
    path = write_torch_file(tmp_path / "last.ckpt", {"state_dict": wrapped, "hyper_parameters": dict(raw.content), "epoch": 3})
    found = starting_point(BEATsConfig(checkpoint=str(path)), AudioConfig(), ("frog", "owl"))
    assert found.note == f"starting from {path} (keys read without model. and _orig_mod.) with a new head"
