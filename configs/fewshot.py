"""Few-shot learning by episodes: train on some classes, name new ones from a few examples; and darksound's config files.

Command:  python -m beats_jax.train --config configs/fewshot.py --config.data.root=recordings --workdir runs/new_species
          python -m beats_jax.train --config configs/fewshot.py:config.yaml --config.data.root=darksound --workdir runs/darksound
Data:     a folder with one folder per class: half of the classes train, the other half measure (data.train_split and so on are
          shares of classes, data.split_seed another draw). Darksound itself: --config.data.source=darksound, official splits.
Recipe:   a small convolutional network from random weights, prototypical, 5 classes of 5 examples and 5 queries, 4 episodes a
          step. Encoders: --config.model.family=beats|eat|ast|resnet; a trained one is --config.model.checkpoint=NAME_OR_FILE.
First:    python -m beats_jax.evaluate --episodes covariance --data recordings  (no training). With ten recordings a class of ten
          classes it was 21 points above small networks trained by this file (docs/results.md); train where you have many more.
FILE:     YAML with upstream's keys (MODEL, TRAINING, N_WAY, ...); docs/few_shot_training.md says what each becomes. Unknown keys
          are refused; known ones without a meaning here are printed.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from beats_jax.config.rules import require, require_one_of
from beats_jax.config.validation import nearest
from beats_jax.errors import UserError

WITHOUT_EFFECT = {
    **dict.fromkeys(("PARAMS_XC", "PARAMS_EXTRACT", "PARAMS_FEATURES", "PARAMS_CLUSTER"), "regions are cut by `discover`"),
    **dict.fromkeys(("FEATURE_EXTRACTOR", "N_ITERATIONS", "AUGMENTATION"), "the loop of clusters is `discover`"),
    **dict.fromkeys(("SCHEDULER_FACTOR", "SCHEDULER_PATIENCE"), "upstream steps this schedule only where TENSORBOARD is on"),
    "TENSORBOARD": "its files are always written",
    "DEVICE": "JAX takes the accelerator that it finds",
    "ENERGY_CONSUMPTION": "not measured",
    "FINETUNE": "upstream does not read it",
    "SAVE": "the model is always written",
    "OUTPUT_DIR": "--workdir names the folder",
}
FAMILIES = {"resnet18": "resnet", "resnet": "resnet", "cnn": "cnn", "beats": "beats", "ast": "ast", "eat": "eat"}
WEIGHTS = "resnet18-f37072fd.pth"  # torchvision's ImageNet weights of resnet18, by the name of their file
CACHE = Path("~/.cache/torch/hub/checkpoints")
# Upstream: V1's window of 3 s, Adam at a constant rate, no augmentation, one episode a step.
UPSTREAM = {
    "data": {"source": "darksound", "split_by": "classes", "window_seconds": 3.0, "crop": "start"},
    "objective": {"name": "episodic", "episodes_per_step": 1},
    "training": {
        "optimizer": "adam",
        "schedule": "step",
        "decay_factor": 1.0,
        "warmup_fraction": 0.0,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
        "beta2": 0.999,
    },
}
IMAGES = {"sample_rate": 48_000, "num_mel_bins": 224, "target_frames": 224, "low_hz": 0.0}
PLACES = {  # upstream's key → our settings, for those that are only renamed
    "N_WAY": ("objective.n_way", "evaluation.n_way"),
    "N_SHOT": ("objective.n_shot", "evaluation.n_shot"),
    "N_QUERY": ("objective.n_query", "evaluation.n_query"),
    "N_TASKS": ("objective.episodes_per_epoch",),
    "N_EPOCHS": ("training.max_epochs",),
    "LEARNING_RATE": ("training.learning_rate",),
    "RANDOM_SEED": ("training.seed", "data.split_seed"),
    "EARLY_STOP_THRESH": ("training.patience",),
    "N_WORKERS": ("data.num_workers",),
    "MODEL": ("objective.method",),
    "NETWORK": ("objective.method",),
}
SWITCHES = ("VALIDATION", "HPSS", "REMOVE_BG")  # "False" in quotes would be true
READ = ("TRAINING", "BACKBONE", "PRETRAINED", "VALIDATION", "HPSS", "REMOVE_BG", "BATCH_SIZE")


def get_config(file: str = "") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config; `file`: YAML with upstream's keys."""
    return ConfigDict(translated(read_keys(Path(file)), Path(file).parent) if file else OURS)


OURS = {
    "name": "fewshot",
    "data": {
        "split_by": "classes",
        "train_split": 0.5,
        "val_split": 0.0,
        "test_split": 0.5,
        "window_seconds": 3.0,
        "statistics": "training",
    },
    "model": {"family": "cnn"},
    "objective": {
        "name": "episodic",
        "episodes_per_step": 4,
        "augment": {"gain_db": 6.0, "roll": True, "time_masks": 1, "frequency_masks": 1},
    },
    "training": {"max_epochs": 20.0, "learning_rate": 1e-3, "weight_decay": 0.05, "ema_decay": 0.99},
}


def read_keys(file: Path) -> dict[str, Any]:
    """Upstream's keys, those of PARAMS_MODEL beside the others. Raises `UserError` for a missing or damaged file."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Tags such as !FUNC become texts: nothing in the file is run."""

    Loader.add_multi_constructor("!", lambda loader, tag, node: str(node.value))
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"config file {file} cannot be read: {' '.join(str(error).split())}") from error
    require(isinstance(found, dict), f"config file {file} holds no keys such as N_WAY: 5")
    keys = {key: value for key, value in found.items() if key != "PARAMS_MODEL"} | dict(found.get("PARAMS_MODEL") or {})
    known = [*WITHOUT_EFFECT, *PLACES, *READ]
    for key in keys:
        require(key in known, f"config file {file}: unknown key {key!r}; {nearest(str(key), known)}")
    for key in SWITCHES:
        require(isinstance(keys.get(key, False), bool), f"config file {file}: {key} is {keys.get(key)!r}; write True or False")
    names = [key for key in ("MODEL", "NETWORK") if key in keys]
    require(len(names) < 2, f"config file {file} gives MODEL and NETWORK, which mean the same; give one")
    return keys


def translated(keys: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Our settings; prints the keys that have no effect here."""
    settings: dict[str, Any] = {"name": "fewshot", **{group: dict(values) for group, values in UPSTREAM.items()}}
    settings |= {"evaluation": {}, "model": {}}
    for key in [key for key in WITHOUT_EFFECT if key in keys]:
        print(f"{key} has no effect: {WITHOUT_EFFECT[key]}")
    for key, places in PLACES.items():
        for place in places if key in keys else ():
            group, name = place.split(".")
            value = keys[key]
            settings[group][name] = float(value) if isinstance(value, int) and name == "max_epochs" else value
    if "BATCH_SIZE" in keys:
        settings["data"]["batch_size"] = keys["BATCH_SIZE"]
    if keys.get("VALIDATION", False):
        settings["training"]["select"] = "best"
    else:  # of data without official splits; without validation classes nothing could stop early
        settings["data"] |= {"train_split": 0.5, "val_split": 0.0, "test_split": 0.5}
        settings["training"]["patience"] = 0
    require(not keys.get("REMOVE_BG", False), "REMOVE_BG True (scikit-maad's spectral subtraction) is not built; give False")
    settings["model"] = backbone(str(keys.get("BACKBONE", "resnet18")), keys.get("PRETRAINED", True), folder)
    if keys.get("HPSS", True):
        images = settings["model"]["family"] == "resnet"
        require(images, "HPSS True gives images of three colours, which a resnet reads; give HPSS: False for log-mel spectra")
        settings["model"]["colours"] = 3
        settings["audio"] = {"filterbank": IMAGES | {"kind": "darksound_v2" if "NETWORK" in keys else "darksound_v1"}}
    else:
        settings["data"]["statistics"] = "training"
    training = str(keys.get("TRAINING", "episodic"))
    require_one_of("TRAINING", training, ("episodic", "classical"))
    if training == "classical":
        make_classical(settings)
    return settings


def backbone(name: str, pretrained: Any, folder: Path) -> dict[str, Any]:
    """The model. PRETRAINED: True (torchvision's file, beside the config file or in torch's cache), False, a name or a file."""
    require_one_of("BACKBONE", name, tuple(FAMILIES))
    model = {"family": FAMILIES[name]}
    if isinstance(pretrained, str):
        return model | {"checkpoint": pretrained}
    if not pretrained:
        return model | {"checkpoint": "none"}
    places = [folder / WEIGHTS, CACHE.expanduser() / WEIGHTS]
    found = next((place for place in places if place.is_file()), None)
    require(
        model["family"] == "resnet" and found is not None,
        f"PRETRAINED True needs {WEIGHTS} (torchvision's resnet18) beside the config file or in {CACHE}; put it there, or give "
        "PRETRAINED: False (random weights), or the name or file of a checkpoint",
    )
    return model | {"checkpoint": str(found)}


def make_classical(settings: dict[str, Any]) -> None:
    """Cross-entropy over the training classes, as many clips a step as an episode has; new classes are measured by SimpleShot."""
    episode = {name: settings["objective"].pop(name, 5) for name in ("n_way", "n_shot", "n_query", "episodes_per_epoch")}
    settings["objective"] = {"name": "supervised"}
    clips = episode["n_way"] * (episode["n_shot"] + episode["n_query"])
    settings["data"].setdefault("batch_size", clips)
