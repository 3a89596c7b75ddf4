"""Prints docs/settings.md from the dataclasses in beats_jax/config: `python docs/settings_page.py > docs/settings.md`."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from inspect import getsource

from beats_jax import config

GROUPS = {
    "Experiment": "(top)",
    "AudioConfig": "audio",
    "FilterbankConfig": "audio.filterbank",
    "DataConfig": "data",
    "SyntheticConfig": "data.synthetic",
    "ModelConfig": "model, every family",
    "BEATsConfig": "model, family `beats`",
    "TokenizerConfig": "model, family `beats_tokenizer` (and all of `beats`)",
    "ASTConfig": "model, family `ast`",
    "EATConfig": "model, family `eat`",
    "CNNConfig": "model, family `cnn`",
    "ResNetConfig": "model, family `resnet`",
    "ConvolutionalConfig": "model, families `cnn` and `resnet`",
    "ObjectiveConfig": "objective, whatever its name",
    "SupervisedConfig": "objective, name `supervised`",
    "EpisodicConfig": "objective, name `episodic`",
    "MaskedPredictionConfig": "objective, name `masked_prediction`",
    "EATObjectiveConfig": "objective, name `eat`",
    "ContrastiveConfig": "objective, name `contrastive`",
    "TokenizerObjectiveConfig": "objective, name `tokenizer`",
    "JointConfig": "objective, name `joint` (objective.base: contrastive, eat or masked_prediction, by its name)",
    "GenerativeConfig": "objective, every generator (`autoencoder`, `gan`, `diffusion`)",
    "ImageConfig": "objective.image",
    "AutoencoderConfig": "objective, name `autoencoder`",
    "GANConfig": "objective, name `gan`",
    "DiffusionConfig": "objective, name `diffusion`",
    "AugmentConfig": "objective.augment",
    "TrainingConfig": "training",
    "EvaluationConfig": "evaluation",
}
HEADER = """# Settings

Every setting of an experiment, with its default and the values that it takes. On the command line:
`--config.GROUP.KEY=VALUE`, for example `--config.training.learning_rate=1e-3` or
`--config.data.classes="('owl','frog')"`. A config file names only what differs. Where a meaning lists alternatives, they are
in the order of the allowed values. This page is printed by `python docs/settings_page.py`.
"""


def settings_page() -> str:
    """The page as Markdown: a table for each group of settings, the comments of the schema as explanations."""
    return HEADER + "".join(f"\n## {title}\n{_table(getattr(config, name))}" for name, title in GROUPS.items())


def _table(cls: type) -> str:
    source = getsource(cls)
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", source, re.M))
    lines = [(cls.__doc__ or "").splitlines()[0], "", "| key | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    for one in fields(cls):
        if one.name in cls.__annotations__ and one.default is not MISSING:
            default = f'"{one.default}"' if isinstance(one.default, str) else str(one.default)
            allowed = ", ".join(one.metadata.get("values", ())) or str(one.metadata.get("bounds", ""))
            cells = [f"`{one.name}`", str(one.type), f"`{default}`", allowed, comments.get(one.name, "").replace("|", "/")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(settings_page(), end="")
