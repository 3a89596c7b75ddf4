"""Learn from a folder of recordings as marianbasti/bioacoustics does: contrastive, with labels where there are some.

Command:  python -m beats_jax.train --config configs/bioacoustics.py --config.data.root=data --workdir runs/forest
          or with the old options under their own names, separated by commas:
          python -m beats_jax.train --workdir runs/forest \
              --config configs/bioacoustics.py:data_dir=data/unlabeled,positive_dir=data/positive,epochs=10,checkpoint_freq=2
          With labeled_dir=..., or with the option joint where data/ has a folder labeled/, it learns the labels too; with the
          option small it fits two cores (:small, :joint,small).
Start:    model_path=NAME_OR_FILE, by default BEATs_iter3_plus_AS2M. small, and other encoder_layers or encoder_embed_dim than
          the published ones, start from random weights.
Data:     data/unlabeled, data/labeled (labels.csv and audio/), data/positive, data/negative; or any folder of audio.
Options:  docs/seed_flags.md says what became of each.
Recipe:   that of the old trainer (cautious AdamW 0.9/0.999, epsilon 1e-6, no decay, 1e-5 throughout, temperature 0.1, bank of
          4096), without its mistakes: two augmented views, a bank that counts, positives that are used, labels at their clips.
Beyond:   anchors are compared with views by an average of the network (MoCo, He et al. 2020), in units of the batch's spread:
          without either, embeddings of real recordings collapsed to a point or a line. `embedding_rank` tells.
"""

from typing import Any

from ml_collections import ConfigDict

from beats_jax.config.validation import nearest
from beats_jax.errors import UserError

START = "BEATs_iter3_plus_AS2M"
OPTIONS: dict[str, Any] = {
    "data_dir": "",
    "model_path": "",
    "positive_dir": "",
    "negative_dir": "",
    "labeled_dir": "",
    "epochs": 10.0,
    "checkpoint_freq": 1.0,
    "segment_duration": 10.0,
    "supervised_weight": 0.3,
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "batch_size": 32,
    "gradient_accumulation_steps": 1,
    "lr": 1e-5,
    "memory_bank_size": 4096,
    "joint": False,
    "small": False,
}
SMALL: dict[str, Any] = {
    "epochs": 100.0,
    "checkpoint_freq": 10.0,
    "segment_duration": 5.0,
    "encoder_layers": 4,
    "encoder_embed_dim": 128,
    "lr": 1e-3,
    "memory_bank_size": 512,
}


def get_config(options: str = "") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config; `options` as in the command above."""
    given = _parsed(options)
    joint = given["joint"] or bool(given["labeled_dir"])
    objective: dict[str, Any] = {"name": "contrastive", "temperature": 0.1, "bank_size": given["memory_bank_size"]}
    if given["small"]:
        objective |= {"views": "crops", "crop_seconds": 2.1}
    if joint:
        objective = {"name": "joint", "base": objective, "supervised_weight": given["supervised_weight"]}
    settings = {
        "name": "bioacoustics",
        "data": _data(given),
        "model": _model(given),
        "objective": objective,
        "training": _training(given),
    }
    return ConfigDict(_small(settings) if given["small"] else settings)


def _parsed(options: str) -> dict[str, Any]:
    items = list(filter(None, options.split(",")))
    small = any(item.partition("=")[0] == "small" and _is_true(item.partition("=")[2]) for item in items)
    found = {**OPTIONS, **(SMALL if small else {})}
    for item in items:
        name, _, value = item.partition("=")
        if name == "output_dir":
            raise UserError(f"output_dir is now --workdir {value or 'DIR'}")
        if name not in OPTIONS:
            raise UserError(f"configs/bioacoustics.py has no option {name!r}; {nearest(name, list(OPTIONS))}")
        kind = type(OPTIONS[name])
        try:
            found[name] = _is_true(value) if kind is bool else kind(value)
        except ValueError:
            raise UserError(f"option {name} is {value!r}; it must be a number") from None
    return found


def _is_true(value: str) -> bool:
    return value.lower() in ("", "true", "1", "yes")


def _data(given: dict[str, Any]) -> dict[str, Any]:
    batch = given["batch_size"] * given["gradient_accumulation_steps"]
    return {
        "source": "bioacoustics",
        "root": given["data_dir"],
        **{name: given[name] for name in ("positive_dir", "negative_dir", "labeled_dir")},
        **({"labeled_batch_size": batch} if given["joint"] or given["labeled_dir"] else {}),
        "multi_label": True,
        "draw": "time",
        "window_seconds": given["segment_duration"],
        "batch_size": batch,
        "train_split": 0.9,
        "val_split": 0.1,
        "test_split": 0.0,
    }


def _model(given: dict[str, Any]) -> dict[str, Any]:
    published = all(given[name] == OPTIONS[name] for name in ("encoder_layers", "encoder_embed_dim"))
    if given["model_path"] and not (published or given["small"]):
        raise UserError("options encoder_layers and encoder_embed_dim are for random weights; those of model_path have their own")
    if given["model_path"] or published:
        return {"checkpoint": given["model_path"] or START}
    width = given["encoder_embed_dim"]
    return {
        "checkpoint": "none" if given["small"] else "",
        "encoder_layers": given["encoder_layers"],
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": 4 * width,
        "encoder_attention_heads": max(1, width // 64),
    }


def _training(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "max_epochs": given["epochs"],
        "optimizer": "cautious_adamw",
        "learning_rate": given["lr"],
        "min_learning_rate": given["lr"],
        "warmup_fraction": 0.0,
        "weight_decay": 0.0,
        "beta2": 0.999,
        "epsilon": 1e-6,
        "clip_norm": 0.0,
        "accumulation_steps": given["gradient_accumulation_steps"],
        "evaluate_every_epochs": given["checkpoint_freq"],
        "monitor": "loss",
    }


def _small(settings: dict[str, Any]) -> dict[str, Any]:
    """Besides the options SMALL: the encoder of configs/pretrain_beats.py for one CPU, crops of 2.1 s, plain AdamW."""
    model = {
        "input_patch_size": 32,
        "embed_dim": 128,
        "encoder_attention_heads": 4,
        "conv_pos": 32,
        "conv_pos_groups": 4,
    }
    model = {} if settings["model"]["checkpoint"] != "none" else model
    training = {
        "optimizer": "adamw",
        "min_learning_rate": 1e-5,
        "warmup_fraction": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
    }
    return {
        **settings,
        "data": {**settings["data"], "trim_below_dbfs": -70.0},
        "model": {**settings["model"], **model},
        "training": {**settings["training"], **training},
    }
