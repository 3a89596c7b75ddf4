"""Pre-train BEATs from recordings without labels, as the paper does: encoder, tokenizer, encoder, tokenizer, encoder.

Command:  python -m beats_jax.train --config configs/pretrain_beats.py:iter1 --config.data.root=recordings
          then the same with :tokenizer and :iter2; then fine-tune (--config configs/finetune.py --workdir runs/finetuned
          --config.model.checkpoint=runs/iter2), then :tokenizer_finetuned and :iter3. Every stage is a run in runs/STAGE
          and looks there for the one before; --config.objective.teacher= and --config.objective.tokenizer= name others.
          For one CPU: iter1_small, tokenizer_small, iter2_small, (runs/finetuned_small,) tokenizer_finetuned_small, iter3_small.
Data:     a folder with audio files at any depth and of any length; training hears every hour equally often, and no silence.
Continue: a published encoder on your own recordings: iter1 with --config.model.checkpoint=BEATs_iter3_plus_AS2M.
Recipe:   BEATs (arXiv 2212.09058 §4.1, by a secondary reading): 400,000 steps of 5,600 s, peak 5e-4; tokenizers 1,400 s and 5e-5
          (5e-4 after fine-tuning); 75 % masked, 1024 codes of 256. AdamW 0.9/0.98, epsilon 1e-12, decay 0.01, clip 1, label
          smoothing 0.1 and the warm-up (OpenBEATs, 40,000; tokenizer 32,000) are ESPnet's, whose linear decay is a cosine here.
          560 clips of 10 s a step want many accelerators; data.batch_size and training.accumulation_steps make it fit.
"""

from typing import Any

from ml_collections import ConfigDict

from beats_jax.errors import UserError

STAGES = ("iter1", "tokenizer", "iter2", "tokenizer_finetuned", "iter3")
SMALL = "_small"
RANDOM = {"checkpoint": "none"}  # pre-training begins with nothing, on purpose
DROPOUTS = {"dropout": 0.1, "attention_dropout": 0.1}


def get_config(stage: str = "") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config: one of STAGES, with `_small` for the size of one CPU."""
    name, small = (stage or "iter1").removesuffix(SMALL), stage.endswith(SMALL)
    if name not in STAGES:
        raise UserError(f"configs/pretrain_beats.py has no stage {stage!r}: {', '.join(STAGES)}, each also with {SMALL}")
    settings = (_tokenizer if name.startswith("tokenizer") else _encoder)(name, SMALL if small else "")
    if small:
        settings = _small(settings)
    return ConfigDict({"name": stage or "pretrain_beats", **settings})


def _encoder(name: str, size: str) -> dict[str, Any]:
    before = {"iter2": f"runs/tokenizer{size}", "iter3": f"runs/tokenizer_finetuned{size}"}
    return {
        "data": _data(560),
        "model": {**RANDOM, "family": "beats", "encoder_layerdrop": 0.05, "dropout_input": 0.1, **DROPOUTS},
        "objective": {"name": "masked_prediction", "tokenizer": before.get(name, "")},
        "training": _training(400_000, 5e-4, 40_000),
    }


def _tokenizer(name: str, size: str) -> dict[str, Any]:
    finetuned = name == "tokenizer_finetuned"
    teacher = f"runs/{'finetuned' if finetuned else 'iter1'}{size}"
    return {
        "data": _data(140),
        "model": {**RANDOM, "family": "beats_tokenizer", **DROPOUTS},
        "objective": {"name": "tokenizer", "teacher": teacher, "target": "logits" if finetuned else "features"},
        "training": _training(400_000, 5e-4 if finetuned else 5e-5, 32_000),
    }


def _data(batch_size: int) -> dict[str, Any]:
    return {
        "source": "recordings",
        "window_seconds": 10.0,
        "draw": "time",
        "reject_below_dbfs": -70.0,
        "batch_size": batch_size,
        "check": "header",
        "train_split": 0.99,
        "val_split": 0.01,
        "test_split": 0.0,
        "num_workers": 8,
    }


def _training(steps: int, peak: float, warmup: int) -> dict[str, Any]:
    return {
        "max_steps": steps,
        "learning_rate": peak,
        "warmup_fraction": warmup / steps,
        "weight_decay": 0.01,
        "epsilon": 1e-12,
        "clip_norm": 1.0,
        "precision": "bfloat16",
        "log_every_steps": 100,
        "checkpoint_every_steps": 5_000,
        "evaluate_every_epochs": 1.0,
        "monitor": "loss",
    }


def _small(settings: dict[str, Any]) -> dict[str, Any]:
    """The same for two cores: four blocks of 128 units on patches of 32 x 32 as in configs/esc50.py, 256 codes, 5 s a clip.

    One layer stands behind the encoder, which else leaves the work to it. The random projection reads 8 principal components and
    has 8 codebooks of them, and digital silence around a recording is not heard.
    """
    tokenizer = settings["model"]["family"] == "beats_tokenizer"
    model = {
        "input_patch_size": 32,
        "embed_dim": 128,
        "encoder_embed_dim": 128,
        "encoder_ffn_embed_dim": 512,
        "encoder_layers": 4,
        "encoder_attention_heads": 4,
        "conv_pos": 32,
        "conv_pos_groups": 4,
    }
    data = {"window_seconds": 5.135, "batch_size": 32, "check": "decode", "num_workers": 2, "trim_below_dbfs": -70.0}
    data |= {"train_split": 0.95, "val_split": 0.05}
    training = {
        "max_steps": 1_000 if tokenizer else 3_000,
        "learning_rate": 1e-3,
        "warmup_fraction": 0.1,
        "precision": "float32",
        "ema_decay": 0.999,
        "checkpoint_every_steps": 500,
        "evaluate_every_epochs": 20.0,
    }
    stack = {"estimator_layers": 1} if tokenizer else {"predictor_layers": 1}
    projection = {} if tokenizer or settings["objective"]["tokenizer"] else {"components": 8, "books": 8}
    return {
        "data": {**settings["data"], **data},
        "model": {**settings["model"], **model, **({"quant_n": 256, "quant_dim": 32} if tokenizer else {})},
        "objective": {
            **settings["objective"],
            **({"restart_below": 0.1} if tokenizer else {"codes": 256, "code_dim": 32}),
            **projection,
            **stack,
        },
        "training": {**settings["training"], **training},
    }
