"""The registry of published checkpoints (published.toml): their names, facts and sources."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from beats_jax.config import ModelConfig
from beats_jax.config.validation import nearest
from beats_jax.errors import UserError

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Source:
    """One repository of the Hugging Face hub that has a file."""

    repository: str  # owner/name
    file: str  # path in the repository, or a pattern that matches one path ("*epoch_latest.pt")
    kind: str = "model"  # or "dataset"
    revision: str | None = None  # commit; None = the default branch
    companions: tuple[str, ...] | None = None  # paths or patterns of companion files, where they differ from the checkpoint's

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision or 'default branch'}"

    @property
    def page(self) -> str:
        """Where a browser finds the file."""
        return f"{HUB}/{'datasets/' if self.kind == 'dataset' else ''}{self.repository}"


@dataclass(frozen=True)
class Published:
    """One checkpoint; None = not known."""

    name: str  # for `load`, and of the folder in the cache
    file: str  # name of the file in that folder
    family: str  # as `ModelConfig.family`
    architecture: str  # in words
    sample_rate: int  # Hz
    window_seconds: float  # length of the clips it was trained on
    feature_size: int  # width of features
    page: str  # where a person finds the file
    licence: str  # of the weights, SPDX
    classes: int | None = None  # of the head; 0 = none
    returns: str | None = None  # "features", "codes", or how logits become probabilities: "sigmoid", "softmax"
    bytes: int | None = None  # of the file
    sha256: str | None = None  # of the file
    statistics: dict[str, float] | None = None  # mean and std of the filterbank it was trained with
    companions: tuple[str, ...] = ()  # files that belong beside it
    sources: tuple[Source, ...] = ()  # repositories that have it, best first; none = only by hand, from `page`
    fields: dict[str, Any] | None = None  # settings of `ModelConfig` that the file must have
    alias_of: str = ""  # the registered name that this alias stands for; empty = no alias


class ModelTable(dict[str, dict[str, Any]]):
    """Name → facts of a checkpoint (see `Published`); prints as a table."""

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [("name", "architecture", "Hz", "width", "classes", "MB", "licence of the weights")]
        for name, facts in self.items():
            facts = facts | {"MB": facts["bytes"] and round(facts["bytes"] / 1e6)}
            cells = [facts[key] for key in ("architecture", "sample_rate", "feature_size", "classes", "MB", "licence")]
            rows.append((name, *("?" if cell is None else str(cell) for cell in cells)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def list_available_models() -> ModelTable:
    """The facts (see `Published`) of every checkpoint that `beats_jax.load` and `ensure_checkpoint` know by name."""
    return ModelTable({name: asdict(model) for name, model in registry().items()})


@cache
def registry() -> dict[str, Published]:
    """Name → checkpoint, in the order of published.toml, aliases last."""
    table = tomllib.loads((files("beats_jax.weights") / "published.toml").read_text(encoding="utf-8"))
    models = {}
    for group in table["groups"]:
        shared = {key: value for key, value in group.items() if key != "models"}
        for name, own in group["models"].items():
            models[name] = _parse_published(name, shared | own, table["architectures"])
    for name, target in table["aliases"].items():
        models[name] = Published(**(vars(models[target]) | {"name": name, "alias_of": target}))
    return models


def default_name() -> str:
    """The checkpoint that is used if none is named."""
    return "BEATs_iter3_plus_AS2M"


def find(name: str) -> Published:
    """The checkpoint of this name or alias. Raises `UserError` with the nearest name if there is none."""
    known = registry()
    if name not in known:
        raise UserError(f"{name!r} is no published checkpoint; {suggestion(name)}")
    return known[known[name].alias_of or name]


def suggestion(name: str) -> str:
    """The nearest name as a question, or the place of the list."""
    hint = nearest(name, list(registry()))
    return hint if hint.startswith("did you mean") else "beats_jax.list_available_models() and docs/weights.md list the names"


def check_architecture(published: Published, model: ModelConfig) -> None:
    """Raises `UserError` if a file holds another model than the registry describes."""
    expected = {"family": published.family, **(published.fields or {})}
    if published.classes is not None:
        expected["predictor_class"] = published.classes
    found = {key: getattr(model, key, None) for key in expected}
    wrong = [f"{key} is {found[key]!r}, not {value!r}" for key, value in expected.items() if found[key] != value]
    if wrong:
        raise UserError(
            f"{published.name}: the file holds another model than the registry describes ({published.architecture}): "
            f"{'; '.join(wrong)}; give its path instead of the name to load it all the same"
        )


def stated_settings(published: Published) -> dict[str, Any]:
    """Settings of a checkpoint in the registry, by the names of a released BEATs cfg, and its `sample_rate`."""
    statistics = {f"fbank_{name}": value for name, value in (published.statistics or {}).items()}
    return {**(published.fields or {}), **statistics, "sample_rate": published.sample_rate}


def _parse_published(name: str, facts: dict[str, Any], architectures: dict[str, Any]) -> Published:
    sources = tuple(Source(**_with_tuples(source)) for source in facts.pop("sources", ()))
    return Published(name=name, sources=sources, **architectures[facts["architecture"]], **_with_tuples(facts))


def _with_tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
