"""Writes docs/reference/: a page for every room, filled by mkdocstrings from the docstrings: `python docs/reference_pages.py`."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "beats_jax"
ROOMS = (
    "api",
    "config",
    "audio",
    "datasets",
    "models",
    "parallel",
    "weights",
    "inference",
    "objectives",
    "training",
    "evaluation",
    "pipelines",
    "explorer",
)
START = """# API reference

The names to begin with; every room has a page of its own.

::: beats_jax.api.extractor.BEATsFeatureExtractor

::: beats_jax.api.trainer.BEATsTrainer

::: beats_jax.inference.model.load

::: beats_jax.inference.model.Model
"""


def pages() -> dict[str, str]:
    """File name → Markdown."""
    found = {"index.md": START}
    for room in ROOMS:
        paths = sorted(path for path in (PACKAGE / room).rglob("*.py") if "golden" not in path.parts)
        names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in paths]
        found[f"{room}.md"] = f"# {room}\n" + "".join(f"\n::: {name}\n" for name in names)
    return found


if __name__ == "__main__":
    folder = DOCS / "reference"
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
