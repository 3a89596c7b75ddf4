"""A large encoder is not trained from random weights by oversight, nor is one that has learnt nothing frozen."""

from dataclasses import replace

import pytest
from tiny_beats import TINY_BEATS

from beats_jax.command_line import read_experiment
from beats_jax.config import ASTConfig, BEATsConfig, DataConfig, EATConfig, Experiment, TrainingConfig
from beats_jax.config.validation import experiment_from_mapping
from beats_jax.errors import UserError
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.pipelines.training.starting_point import MOST_RANDOM_PARAMETERS, num_parameters, require_start


def by_hand(model):
    """Parameters of a BEATs: patches, their norm, projection, position convolution, blocks, position bias, last norm."""
    width, inner, patch, heads = (
        model.encoder_embed_dim,
        model.encoder_ffn_embed_dim,
        model.embed_dim,
        model.encoder_attention_heads,
    )
    attention = 4 * (width**2 + width) + 8 * (width // heads) + 8 + heads  # four projections and the gate of the position bias
    block = attention + 2 * width * inner + inner + width + 4 * width
    convolution = width * (width // model.conv_pos_groups) * model.conv_pos + model.conv_pos + width
    projection = patch * width + width
    return (
        model.input_patch_size**2 * patch
        + 2 * patch
        + projection
        + convolution
        + model.encoder_layers * block
        + model.num_buckets * heads
        + 2 * width
    )


@pytest.mark.parametrize("model", [TINY_BEATS, BEATsConfig(), BEATsConfig(encoder_layers=3)])
def test_parameters_are_counted_as_by_hand(model):
    assert num_parameters(model) == by_hand(model)


@pytest.mark.parametrize("model", [BEATsConfig(), ASTConfig(), EATConfig()], ids=lambda model: model.family)
def test_large_random_weights_must_be_asked_for(model):
    with pytest.raises(UserError) as caught:
        require_start(Experiment(model=model))
    message = str(caught.value)
    assert f"{round(num_parameters(model) / 1e6)} million parameters" in message
    assert "name a checkpoint, such as --config.model.checkpoint=" in message
    assert "--config.model.checkpoint=none" in message
    for word in ("none", "None", "a_file.pt"):
        require_start(Experiment(model=replace(model, checkpoint=word)))


def test_the_bound_lies_where_it_is_stated():
    sizes = {layers: num_parameters(BEATsConfig(encoder_layers=layers)) for layers in (1, 2, 3)}
    assert sizes[1] < MOST_RANDOM_PARAMETERS < sizes[3]
    for layers, size in sizes.items():
        experiment = Experiment(model=BEATsConfig(encoder_layers=layers))
        if size > MOST_RANDOM_PARAMETERS:
            with pytest.raises(UserError, match="random weights"):
                require_start(experiment)
        else:
            require_start(experiment)


@pytest.mark.parametrize("mode", ["probe", "lora"])
@pytest.mark.parametrize("checkpoint", ["", "none"])
def test_a_frozen_encoder_needs_a_checkpoint(mode, checkpoint):
    experiment = Experiment(model=replace(TINY_BEATS, checkpoint=checkpoint), training=TrainingConfig(mode=mode))
    with pytest.raises(UserError, match=f"training.mode is '{mode}'.*no checkpoint.*or set config.training.mode=full"):
        require_start(experiment)
    require_start(replace(experiment, model=replace(TINY_BEATS, checkpoint="a_run")))


def test_the_verb_ends_with_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    from beats_jax.train import main

    monkeypatch.chdir(tmp_path)
    assert main(["--config", "finetune", "--config.model.checkpoint=", "--config.data.root=."]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: 90 million parameters would start from random weights")
    assert not list(tmp_path.iterdir())


def test_every_recipe_may_start():
    """Recipes name a checkpoint, say none, or are small; settings of an older run, without the word, are read as before."""
    words = {"ast_esc50": ":random", "beats_esc50": ":random", "pretrain_eat": ":large", "pretrain_beats": ":iter3"}
    for name in ("ast_esc50", "beats_esc50", "bioacoustics", "esc50", "finetune", "pretrain_beats", "pretrain_eat", "small"):
        for word in {"", words.get(name, "")}:
            require_start(read_experiment(name + word, []))
    assert experiment_from_mapping({"model": {"checkpoint": ""}}).model.starts_at_random


def test_a_missing_checkpoint_is_named_before_recordings_are_looked_at(tmp_path):
    data = DataConfig(root=str(tmp_path / "no recordings either"))
    experiment = Experiment(model=BEATsConfig(checkpoint=str(tmp_path / "none.pt")), data=data)
    with pytest.raises(UserError, match=r"none\.pt' is not there"):
        run_experiment(experiment, tmp_path / "run", strict=False, command="a test")
