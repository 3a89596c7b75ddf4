"""A page as one HTML file that needs nothing else. Every value from outside passes `text`; markup comes from this file only."""

from __future__ import annotations

import base64
import html
import io
import unicodedata
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template

import numpy as np

from beats_jax.evaluation.metrics.result import Estimate, format_estimate
from beats_jax.evaluation.report.figures.sound import model_input, spectrogram
from beats_jax.evaluation.report.page import (
    Block,
    Bold,
    Bullets,
    Card,
    Cards,
    Cell,
    Example,
    Figure,
    Page,
    Paragraph,
    Section,
    Settings,
    Table,
    cell_texts,
    flat_settings,
)

AUDIO_BYTES = 3_500_000  # all players together: with the pictures the file stays under 5 MB, small enough for a mail
PICTURE_BYTES = 6_000_000  # of the clips of a section: further clips have no pictures
# MP3 has an eighth of the bytes of WAV and every browser plays it: a player for every class fits into a file for a mail.
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# No script may run and nothing may be fetched, whatever a file is called.
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

# Characters that start or end an embedding, override or isolate (Unicode Annex 9): a name with one could turn what follows it.
BIDI_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def render(page: Page) -> str:
    """The document; the page forbids scripts and fetching."""
    head = [f"<h1>{text(page.title)}</h1>"]
    head += [f'<p class="soft">{text(page.subtitle)}</p>'] if page.subtitle else []
    head += [f'<div class="tiles">{"".join(_tile(*tile) for tile in page.tiles)}</div>'] if page.tiles else []
    head += [f'<p class="soft small">{text(page.note)}</p>'] if page.note else []
    budget = Budget(AUDIO_BYTES)
    sections = (_section(section, budget) for section in page.all_sections())
    body = "\n".join([f"<header>{''.join(head)}</header>", *sections])
    return PAGE.substitute(
        title=text(page.title), style=files("beats_jax.evaluation.report").joinpath("style.css").read_text("utf-8"), body=body
    )


def text(value: object) -> str:
    """The value as HTML text. Bytes of a file name that are not UTF-8, and controls of writing direction, become escapes.

    A text with letters that run from right to left is isolated (U+2068, U+2069), so that the text beside it keeps its place.
    """
    safe = str(value).encode("utf-8", "backslashreplace").decode("utf-8").translate(BIDI_CONTROLS)
    if not safe.isascii() and any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in safe):
        safe = f"\u2068{safe}\u2069"
    return html.escape(safe)


@dataclass
class Budget:
    """Bytes that are left for the sound of all players."""

    audio: int


def _section(section: Section, budget: Budget) -> str:
    blocks, halves = [], []
    for block in (*section.blocks, None):
        if isinstance(block, Figure) and block.size == "half":
            halves.append(_block(block, budget))
            continue
        if halves:
            blocks.append(f'<div class="halves">{"".join(halves)}</div>')
            halves = []
        blocks += [] if block is None else [_block(block, budget)]
    return f"<section>\n<h2>{text(section.title)}</h2>\n" + "\n".join(blocks) + "\n</section>"


def _block(block: Block, budget: Budget) -> str:
    match block:
        case Paragraph(content, style):
            kind = {"plain": "", "note": ' class="soft small"', "code": ' class="code"'}[style]
            return f"<p{kind}>{text(content)}</p>"
        case Bullets(sentences):
            return f'<ul class="findings">{"".join(f"<li>{text(sentence)}</li>" for sentence in sentences)}</ul>'
        case Table():
            return _table(block)
        case Figure():
            note = f"<figcaption>{text(block.caption)}</figcaption>" if block.caption else ""
            return f'<figure><img src="{block.draw()}" alt="{text(block.description)}">{note}</figure>'
        case Cards():
            return _cards(block, budget)
        case Settings(values):
            return _settings(values)


def _table(table: Table) -> str:
    def line(tag: str, cells: Iterable[str], kind: str = "") -> str:
        marks = ("" if place < table.numbers_from else ' class="number"' for place in range(len(table.header or table.rows[0])))
        return f"<tr{kind}>{''.join(f'<{tag}{mark}>{cell}</{tag}>' for mark, cell in zip(marks, cells, strict=True))}</tr>"

    last = len(table.rows) - 1 if table.last_is_total else -1
    lines = [line("td", map(_cell, row), ' class="total"' if n == last else "") for n, row in enumerate(table.rows)]
    head = f"<thead>{line('th', map(text, table.header))}</thead>" if table.header else ""
    return f'<div class="scroll"><table>{head}<tbody>' + "\n".join(lines) + "</tbody></table></div>"


def _cell(cell: Cell) -> str:
    value, small = map(text, cell_texts(cell))
    return f'{value} <span class="soft">{small}</span>' if small else value


def _tile(name: str, estimate: Estimate) -> str:
    """A headline number with its interval, and where both lie between 0 and 1."""
    value, interval = format_estimate(estimate)
    marks = ""
    if estimate.low is not None and estimate.high is not None:
        marks += f'<span style="left:{100 * estimate.low:.1f}%;width:{100 * (estimate.high - estimate.low):.1f}%"></span>'
    if estimate.value is not None:
        marks += f'<b style="left:{100 * estimate.value:.1f}%"></b>'
    return (
        f'<div class="tile"><div class="name">{text(name)}</div><div class="value">{value}</div>'
        f'<div class="interval">{interval}</div><div class="range">{marks}</div></div>'
    )


def _settings(settings: Mapping[str, object]) -> str:
    """One small table per top-level group, dotted names inside it, folded: they take more room than all results."""
    groups: dict[str, Mapping[str, object]] = {}
    for name, value in settings.items():
        heading, inside = (name, value) if isinstance(value, Mapping) else ("", {name: value})
        groups[heading] = {**groups.get(heading, {}), **inside}
    parts = []
    for name, values in groups.items():
        pairs = ((f"<code>{text(part)}</code>" for part in pair) for pair in flat_settings(values))
        rows = "".join(f"<tr><td>{key}</td><td>{value}</td></tr>" for key, value in pairs)
        parts.append(f"<div><h3>{text(name)}</h3><table><tbody>{rows}</tbody></table></div>")
    return f'<details><summary>All settings</summary><div class="columns">{"".join(parts)}</div></details>'


def _cards(cards: Cards, budget: Budget) -> str:
    parts, room, bare, silent = [], PICTURE_BYTES, 0, 0
    for heading, group in cards.groups:
        shown = []
        for card in group:
            example = card.example
            pictures = "" if example.waveform is None else _pictures(example.waveform, example)
            sound = "" if example.waveform is None else audio_uri(example.waveform, example.sample_rate)
            if len(pictures) > room:
                pictures, bare = "", bare + 1
            if len(sound) > budget.audio:
                sound, silent = "", silent + 1
            room -= len(pictures)
            budget.audio -= len(sound)
            shown.append(_card(card, pictures, f'<audio controls preload="metadata" src="{sound}"></audio>' if sound else ""))
        parts.append((f"<h3>{text(heading)}</h3>" if heading else "") + f'<div class="cards">{"".join(shown)}</div>')
    note = cards.note + (f" {bare} without pictures, to keep this file small." if bare else "")
    note += f" {silent} of them without sound, to keep this file small." if silent else ""
    return "\n".join([f'<p class="soft small">{text(note)}</p>', *parts])


def _card(card: Card, pictures: str, player: str) -> str:
    story = "".join(f"<b>{text(part)}</b>" if isinstance(part, Bold) else text(part) for part in card.story)
    place = f"{text(card.example.file)} at {card.example.start_seconds:.2f} s"
    return f'<div class="card">{pictures}<div>{story}</div><div class="file">{place}</div>{player}</div>'


def _pictures(waveform: np.ndarray, example: Example) -> str:
    given = example.picture
    if given is None:
        drawn = spectrogram(waveform, example.sample_rate)
    else:
        drawn = f"data:image/{_image_kind(given)};base64,{_base64(given)}"
    uris = [drawn]
    uris += [] if example.fbank is None else [model_input(example.fbank)]
    return "".join(f'<img src="{uri}" alt="spectrogram">' for uri in uris)


def audio_uri(waveform: np.ndarray, sample_rate: int) -> str:
    """Mono sound, float [samples] clipped at +-1, as `data:audio/...;base64,...`: MP3 where it has the rate, otherwise 16-bit
    WAV.
    """
    if sample_rate in MP3_RATES:
        import soundfile

        stream = io.BytesIO()
        soundfile.write(stream, np.clip(waveform, -1, 1), sample_rate, format="MP3")
        return f"data:audio/mpeg;base64,{_base64(stream.getvalue())}"
    counts = np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(counts.tobytes())
    return f"data:audio/wav;base64,{_base64(stream.getvalue())}"


def _image_kind(data: bytes) -> str:
    return "png" if data.startswith(b"\x89PNG") else "jpeg"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
