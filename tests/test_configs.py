"""Every config file is valid settings, and says in its docstring how to run it."""

import ast
from pathlib import Path

import pytest

from beats_jax.command_line import _config_from_file, read_experiment
from beats_jax.config import BEATsConfig
from beats_jax.errors import UserError

ROOT = Path(__file__).parent.parent
STAGES = ("iter1", "tokenizer", "iter2", "tokenizer_finetuned", "iter3")
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_valid_and_documented(path):
    experiment = read_experiment(str(path), [])
    assert experiment.name == path.stem
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"python -m beats_jax.train --config configs/{path.name}" in docstring
    assert f"`configs/{path.name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_esc50_runs_on_a_list_of_classes():
    experiment = read_experiment(
        str(ROOT / "configs" / "esc50.py"), ["--config.data.classes=('dog','rain')", "--config.data.fold=all"]
    )
    assert (experiment.data.classes, experiment.data.fold) == (("dog", "rain"), "all")


def test_the_ast_recipe_is_the_published_one():
    """specs: egs/esc50/run_esc.sh; the front-end is the one that the checkpoint's family was fine-tuned with."""
    from beats_jax.audio.filterbank import AST_ESC50

    path = str(ROOT / "configs" / "ast_esc50.py")
    whole, short = read_experiment(path, []), read_experiment(f"{path}:two_epochs,held_out,random", [])
    assert whole.audio.filterbank == AST_ESC50
    assert (whole.training.max_epochs, short.training.max_epochs) == (25.0, 2.0)
    assert (whole.data.fold_val_split, short.data.fold_val_split) == (0.0, 0.1)
    assert (whole.model.checkpoint, short.model.checkpoint) == ("ast-finetuned-audioset-10-10-0.4593", "none")
    assert whole.audio.filterbank.target_frames == short.model.max_length == 512


@pytest.mark.parametrize("name", ["ast_esc50", "beats_esc50"])
def test_an_unknown_word_after_the_config_is_told(name, capsys):
    from beats_jax.train import main

    assert main(["--config", f"{ROOT / 'configs' / name}.py:three_epochs"]) == 2
    assert "unknown word three_epochs; known: " in capsys.readouterr().err


def test_old_options_keep_their_names():
    """Seed 000's two commands, as they stand in its README."""
    path = str(ROOT / "configs" / "bioacoustics.py")
    first = read_experiment(
        f"{path}:data_dir=/a,model_path=/m.pt,positive_dir=/p,negative_dir=/n,epochs=10,checkpoint_freq=2,segment_duration=10", []
    )
    data, training = first.data, first.training
    assert (data.root, data.positive_dir, data.negative_dir, data.window_seconds) == ("/a", "/p", "/n", 10.0)
    assert (first.model.checkpoint, training.max_epochs, training.evaluate_every_epochs) == ("/m.pt", 10.0, 2.0)
    assert (first.objective.name, training.optimizer) == ("contrastive", "cautious_adamw")
    second = read_experiment(f"{path}:data_dir=/a,labeled_dir=/l,supervised_weight=0.5,encoder_layers=2,lr=1e-4", [])
    assert (second.objective.name, second.objective.supervised_weight, second.objective.base.name) == (
        "joint",
        0.5,
        "contrastive",
    )
    assert (second.data.labeled_dir, second.model.encoder_layers, second.training.min_learning_rate) == ("/l", 2, 1e-4)
    small, shorter = (read_experiment(f"{path}:{options}", []) for options in ("joint,small=true", "small,epochs=5,lr=1e-4"))
    assert (small.objective.base.bank_size, small.objective.base.views, small.model.encoder_layers) == (512, "crops", 4)
    assert read_experiment(f"{path}:small=false", []).model.encoder_layers == 12
    starts = [read_experiment(f"{path}:{options}", []).model.checkpoint for options in ("", "small", "encoder_layers=2")]
    assert starts == ["BEATs_iter3_plus_AS2M", "none", ""]
    with pytest.raises(UserError, match="encoder_layers and encoder_embed_dim are for random weights"):
        read_experiment(f"{path}:model_path=m.pt,encoder_layers=2", [])
    assert (shorter.training.max_epochs, shorter.training.learning_rate, shorter.data.window_seconds) == (5.0, 1e-4, 5.0)
    with pytest.raises(UserError, match="no option 'epoch'; did you mean 'epochs'"):
        read_experiment(f"{path}:epoch=3", [])
    with pytest.raises(UserError, match=r"now --workdir /out"):
        read_experiment(f"{path}:output_dir=/out", [])


def test_eat_comes_in_three_sizes():
    path = str(ROOT / "configs" / "pretrain_eat.py")
    base, large, small = (read_experiment(f"{path}:{size}", []) for size in ("base", "large", "small"))
    assert (base.model.embed_dim, large.model.embed_dim, small.model.embed_dim) == (768, 1024, 128)
    assert (large.objective.decoder_kernel, large.objective.clones, small.objective.clones) == (5, 16, 4)
    with pytest.raises(UserError, match="no size 'tiny'"):
        read_experiment(f"{path}:tiny", [])


WORDS = {
    "ast_esc50": ("", "two_epochs,held_out,random"),
    "beats_esc50": ("", "held_out,random"),
    "bioacoustics": ("", "small", "joint,small", "encoder_layers=2"),
    "pretrain_beats": (*STAGES, *(f"{stage}_small" for stage in STAGES)),
    "pretrain_eat": ("base", "large", "small"),
    "low_frequency": ("", "500"),
    "ultrasound": ("", "384000"),
}
# Settings that only count beside others: path, and when it is read.
READ_WHEN = {
    "objective.augment.time_mask_fraction": lambda e: e.objective.augment.time_masks,
    "objective.augment.frequency_mask_fraction": lambda e: e.objective.augment.frequency_masks,
    "objective.augment.mixup_alpha": lambda e: e.objective.augment.mixup_probability,
    "objective.augment.mixup_domain": lambda e: e.objective.augment.mixup_probability,
    "training.decay_start_epochs": lambda e: e.training.schedule == "step",
    "training.decay_every_epochs": lambda e: e.training.schedule == "step",
    "training.decay_factor": lambda e: e.training.schedule == "step",
    "training.min_learning_rate": lambda e: e.training.schedule == "cosine",
    "training.max_epochs": lambda e: not e.training.max_steps,
    "data.fold_val_split": lambda e: e.data.fold,
    "data.labeled_batch_size": lambda e: "labeled" in e.objective.roles,
    "data.synthetic": lambda e: e.data.source == "synthetic",
    "audio.filterbank.mean": lambda e: e.data.statistics == "given",
    "audio.filterbank.std": lambda e: e.data.statistics == "given",
    # a checkpoint has an architecture of its own
    "model": lambda e: e.model.starts_at_random,
    **{f"model.{name}": lambda e: True for name in ("family", "checkpoint", "head", *BEATsConfig.TRAINING_FIELDS)},
}


@pytest.mark.parametrize(
    "config", [f"{path.stem}:{word}".rstrip(":") for path in CONFIGS for word in WORDS.get(path.stem, ("",))], ids=str
)
def test_every_key_of_a_config_has_an_effect(config):
    """It is a setting of the schema (`read_experiment` refuses others), and what makes that setting count stands beside it."""
    experiment = read_experiment(config, [])
    for path in leaves(_config_from_file(config)):
        parts = path.split(".")
        known = [READ_WHEN[name] for name in (".".join(parts[:n]) for n in range(len(parts), 0, -1)) if name in READ_WHEN]
        assert not known or known[0](experiment), f"{config}: {path} has no effect"


def leaves(settings, prefix=""):
    """Dotted paths of all values."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_the_stages_of_pretraining_follow_each_other():
    """Every stage finds the run before it under the name that one has; only fine-tuning lies in between."""
    path = str(ROOT / "configs" / "pretrain_beats.py")
    for size in ("", "_small"):
        stages = {f"{name}{size}": read_experiment(f"{path}:{name}{size}", []) for name in STAGES}
        assert all(stage.name == name for name, stage in stages.items())
        before = [getattr(stage.objective, "teacher", getattr(stage.objective, "tokenizer", "")) for stage in stages.values()]
        assert before == ["", *(f"runs/{name}{size}" for name in ("iter1", "tokenizer", "finetuned", "tokenizer_finetuned"))]
        assert not any(stage.objective.NEEDS_LABELS for stage in stages.values())
        assert len({stage.model.input_patch_size for stage in stages.values()}) == 1
    with pytest.raises(UserError, match="no stage 'iter9'"):
        read_experiment(f"{path}:iter9", [])
