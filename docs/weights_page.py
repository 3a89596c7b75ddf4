"""Puts the table of all published checkpoints into docs/weights.md, from the registry: `python docs/weights_page.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beats_jax.weights.published import list_available_models

PAGE = Path(__file__).parent / "weights.md"
START, END = "<!-- table: python docs/weights_page.py -->\n", "<!-- end of table -->\n"


def weights_page() -> str:
    """The page as Markdown, with the table as the registry has it now."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    return before + START + _table(list_available_models()) + END + rest.split(END)[1]


def _table(models: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| name | architecture | width | classes | returns | mean, std | licence | bytes | sha256 | from |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, facts in models.items():
        if facts["alias_of"]:
            lines.append(f"| `{name}` | another name of `{facts['alias_of']}` | | | | | | | | |")
            continue
        statistics = facts["statistics"] and f"{facts['statistics']['mean']}, {facts['statistics']['std']}"
        sources = ", ".join(_source(source) for source in facts["sources"]) or f"by hand: [page]({facts['page']})"
        cells = (
            f"`{name}`", facts["architecture"], facts["feature_size"], facts["classes"], facts["returns"], statistics,
            facts["licence"], facts["bytes"], facts["sha256"] and f"`{facts['sha256'][:12]}…`", sources,
        )  # fmt: skip
        lines.append(f"| {' | '.join('?' if cell is None else str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _source(source: dict[str, Any]) -> str:
    revision = f"@{source['revision'][:8]}" if source["revision"] else ""
    return f"`{source['repository']}{revision}`"


if __name__ == "__main__":
    PAGE.write_text(weights_page(), encoding="utf-8")
