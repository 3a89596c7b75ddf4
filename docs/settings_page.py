"""Prints docs/settings.md from the dataclasses in beats_jax/config: `python docs/settings_page.py > docs/settings.md`."""

from __future__ import annotations

import re
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "beats_jax" / "config"
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
    "ObjectiveConfig": "objective, whatever its name",
    "SupervisedConfig": "objective, name `supervised`",
    "MaskedPredictionConfig": "objective, name `masked_prediction`",
    "EATObjectiveConfig": "objective, name `eat`",
    "ContrastiveConfig": "objective, name `contrastive`",
    "TokenizerObjectiveConfig": "objective, name `tokenizer`",
    "JointConfig": "objective, name `joint` (objective.base: any objective without labels, by its name)",
    "AugmentConfig": "objective.augment",
    "TrainingConfig": "training",
    "EvaluationConfig": "evaluation",
}
HEADER = """# Settings

Every setting of an experiment, with its default. On the command line: `--config.GROUP.KEY=VALUE`, for example
`--config.training.learning_rate=1e-3` or `--config.data.classes="('owl','frog')"`. A config file names only what differs.
This page is printed by `python docs/settings_page.py`.
"""


def settings_page() -> str:
    """The page as Markdown: a table for each group of settings, the comments of the schema as explanations."""
    source = "".join((CONFIG / name).read_text(encoding="utf-8") for name in ("schema.py", "models.py", "objectives.py"))
    return HEADER + "".join(f"\n## {title}\n{_table(source, name)}" for name, title in GROUPS.items())


def _table(source: str, name: str) -> str:
    body = re.search(
        rf"class {name}\b[^\n]*\n(.*?)(?=\n@dataclass|\n    def |\n    @property|\nMODEL_FAMILIES|\nOBJECTIVE_CONFIGS|\ndef |\Z)",
        source,
        re.S,
    )
    assert body, name
    lines = [*re.findall(r'"""(.*?)(?:"""|\n)', body[1])[:1], "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, meaning in re.findall(r"^    (\w+): ([^=\n]+) = ([^#\n]+?)(?:  # (.*))?$", body[1], re.M):
        if "field(" not in default and not kind.startswith(("ClassVar", "InitVar")):
            lines.append(f"| `{key}` | {kind} | `{default.strip()}` | {meaning.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(settings_page(), end="")
