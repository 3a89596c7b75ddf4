"""The registry: every published checkpoint that has a name here, what it is and where it may be got (published.toml)."""

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
    """One repository of the Hugging Face hub that has a file.

    Attributes:
      repository, kind: owner/name, and "model" or "dataset".
      file: path in the repository, or a pattern that matches one path ("*epoch_latest.pt").
      revision: commit; None = the default branch.
      companions: paths or patterns of companion files in this repository, where they differ from the checkpoint's list.
    """

    repository: str
    file: str
    kind: str = "model"
    revision: str | None = None
    companions: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision or 'default branch'}"

    @property
    def page(self) -> str:
        """Where a browser finds the file."""
        return f"{HUB}/{'datasets/' if self.kind == 'dataset' else ''}{self.repository}"


@dataclass(frozen=True)
class Published:
    """One checkpoint; None = not known.

    Attributes:
      name: as `load` takes it; also its folder in the cache.
      file: name of the file in that folder.
      family, architecture: as `ModelConfig.family`, and in words.
      sample_rate: Hz. window_seconds: length of the clips it was trained on.
      feature_size: width of features. classes: of its head, 0 = none.
      returns: "features", "codes", or how its head's logits become probabilities: "sigmoid", "softmax".
      licence: of the weights, SPDX.
      bytes, sha256: of the file.
      statistics: mean and std of the filterbank it was trained with.
      companions: files that belong beside it.
      sources: places to get it from, best first; none = only by hand, from `page`.
      fields: settings of `ModelConfig` that the file must have.
      alias_of: the name this is another name of; empty = none.
    """

    name: str
    file: str
    family: str
    architecture: str
    sample_rate: int
    window_seconds: float
    feature_size: int
    page: str
    licence: str
    classes: int | None = None
    returns: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    statistics: dict[str, float] | None = None
    companions: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    fields: dict[str, Any] | None = None
    alias_of: str = ""


class ModelTable(dict[str, dict[str, Any]]):
    """Name → facts of a checkpoint (see `Published`); printed, a table with a line for each."""

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [("name", "architecture", "Hz", "width", "classes", "MB", "licence of the weights")]
        for name, facts in self.items():
            size = facts["bytes"] and round(facts["bytes"] / 1e6)
            cells = (*(facts[key] for key in ("architecture", "sample_rate", "feature_size", "classes")), size, facts["licence"])
            rows.append((name, *("?" if cell is None else str(cell) for cell in cells)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def list_available_models() -> ModelTable:
    """Every checkpoint that `beats_jax.load` and `ensure_checkpoint` know by name, with its facts (see `Published`)."""
    return ModelTable({name: asdict(model) for name, model in registry().items()})


@cache
def registry() -> dict[str, Published]:
    """Name → checkpoint, in the order of published.toml, other names last."""
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
    """The checkpoint that is meant where none is named."""
    return "BEATs_iter3_plus_AS2M"


def find(name: str) -> Published:
    """The checkpoint of this name, other names resolved.

    Raises:
      UserError: no such name; the nearest is told.
    """
    known = registry()
    if name not in known:
        raise UserError(f"{name!r} is no published checkpoint; {suggestion(name)}")
    return known[known[name].alias_of or name]


def suggestion(name: str) -> str:
    """The nearest name as a question, or where the names are listed."""
    hint = nearest(name, list(registry()))
    return hint if hint.startswith("did you mean") else "beats_jax.list_available_models() and docs/weights.md list the names"


def check_architecture(published: Published, model: ModelConfig) -> None:
    """Raises `UserError` where a file that was read is not the model that the registry describes."""
    expected = {"family": published.family, **(published.fields or {})}
    if published.classes is not None:
        expected["predictor_class"] = published.classes
    wrong = [
        f"{key} is {getattr(model, key, None)!r}, not {value!r}"
        for key, value in expected.items()
        if getattr(model, key, None) != value
    ]
    if wrong:
        raise UserError(
            f"{published.name}: the file holds another model than the registry describes ({published.architecture}): "
            f"{'; '.join(wrong)}; give its path instead of the name to load it as it is"
        )


def stated_settings(published: Published) -> dict[str, Any]:
    """What the registry knows of a file that may not say it itself: by the names of a released BEATs cfg, and `sample_rate`."""
    statistics = {f"fbank_{name}": value for name, value in (published.statistics or {}).items()}
    return {**(published.fields or {}), **statistics, "sample_rate": published.sample_rate}


def _parse_published(name: str, facts: dict[str, Any], architectures: dict[str, Any]) -> Published:
    sources = tuple(Source(**_with_tuples(source)) for source in facts.pop("sources", ()))
    return Published(name=name, sources=sources, **architectures[facts["architecture"]], **_with_tuples(facts))


def _with_tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
