"""A page as Markdown, without pictures and sound: for a repository or a README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beats_jax.evaluation.report.page import (
    Block,
    Bold,
    Bullets,
    Card,
    Cards,
    Cell,
    Figure,
    Page,
    Paragraph,
    Settings,
    Table,
    cell_texts,
    flat_settings,
)


def render(page: Page) -> str:
    """The document. Text from outside stays on its line, and its HTML and table marks are harmless."""
    tiles = Table([name for name, _ in page.tiles], [[estimate for _, estimate in page.tiles]]) if page.tiles else None
    parts = [f"# {_text(page.title)}", _text(page.subtitle), _block(tiles), _text(page.note)]
    for section in page.all_sections():
        blocks = [text for text in map(_block, section.blocks) if text]
        parts += [f"## {_text(section.title)}", *blocks] if blocks else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block | None) -> str:
    match block:
        case Paragraph(text, "code"):
            return _fence([text])
        case Paragraph(text):
            return _text(text)
        case Bullets(sentences):
            return "\n".join(f"- {_text(sentence)}" for sentence in sentences)
        case Table():
            return _table(block)
        case Figure(instead=table):
            return _block(table)
        case Cards():
            cards = [_card(card) for _, group in block.groups for card in group]
            return "\n".join([_text(block.note), "", *cards])
        case Settings(values):
            return _fence(f"{name}: {value}" for name, value in flat_settings(values))
    return ""


def _fence(lines: Iterable[str]) -> str:
    """Literal lines; one that holds a line break cannot end the fence."""
    return "\n".join(["```", *(" ".join(line.splitlines()) for line in lines), "```"])


def _table(table: Table) -> str:
    header = table.header or ("",) * len(table.rows[0]) if table.rows else table.header
    lines = [f"| {' | '.join(map(_text, header))} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(_row(row) for row in table.rows)])


def _row(row: Sequence[Cell]) -> str:
    return f"| {' | '.join(_text(' '.join(cell_texts(cell))) for cell in row)} |"


def _card(card: Card) -> str:
    story = "".join(f"**{_text(part)}**" if isinstance(part, Bold) else _text(part, strip=False) for part in card.story)
    return f"- {story}: {_text(card.example.file)} at {card.example.start_seconds:.2f} s"


def _text(value: object, strip: bool = True) -> str:
    line = " ".join(str(value).split()) if strip else str(value)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
