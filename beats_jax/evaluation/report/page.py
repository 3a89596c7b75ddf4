"""The pieces of a report page as HTML text. Every value from outside passes `text`; markup comes from this file only."""

from __future__ import annotations

import base64
import html
import io
import unicodedata
import wave
from collections.abc import Iterable, Mapping, Sequence
from string import Template

import numpy as np

from beats_jax.evaluation.metrics.result import Estimate, format_estimate

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

STYLE = """
:root { color-scheme: light dark; }
:root { --ink: #1f2933; --soft: #5a6672; --line: #e1e5ea; --page: #ffffff; --tile: #f5f7f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #a3adb8; --line: #39424c; --page: #15191e; --tile: #20262d; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); }
body { font: 15px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 36px 28px 60px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 10px; padding-bottom: 5px; border-bottom: 1px solid var(--line); }
h3 { font-size: 14px; margin: 14px 0 4px; }
p, ul { margin: 8px 0; max-width: 78ch; }
.soft { color: var(--soft); }
.small { font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; margin: 22px 0 18px; }
.tile { background: var(--tile); border-radius: 8px; padding: 14px 16px 16px; }
.tile .name { color: var(--soft); font-size: 13px; }
.tile .value { font-size: 31px; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile .interval { color: var(--soft); font-size: 13px; min-height: 20px; font-variant-numeric: tabular-nums; }
.range { position: relative; height: 5px; margin-top: 9px; border-radius: 3px; background: var(--line); }
.range span { position: absolute; top: 0; height: 5px; min-width: 3px; border-radius: 3px; }
.range span { background: var(--accent); opacity: .45; }
.range b { position: absolute; top: -3px; width: 3px; height: 11px; margin-left: -1.5px; background: var(--accent); }
.findings li { margin: 4px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; margin: 8px 0; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); }
th, td { padding: 4px 18px 4px 0; vertical-align: baseline; }
td { border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td:first-child { min-width: 8em; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.total td { font-weight: 600; }
td .soft { font-size: 12px; }
code, .code { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.code { background: var(--tile); border-radius: 6px; padding: 9px 12px; white-space: pre-wrap; }
figure { margin: 12px 0; }
figure img { display: block; max-width: 100%; background: #fff; border-radius: 6px; padding: 6px; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 4px; max-width: 78ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; margin: 14px 0; }
.card { background: var(--tile); border-radius: 8px; padding: 12px; font-size: 13px; break-inside: avoid; }
.card img { width: 100%; display: block; background: #fff; border-radius: 5px; margin-bottom: 8px; }
.card audio { width: 100%; height: 34px; margin-top: 8px; }
.card .file { color: var(--soft); overflow-wrap: anywhere; }
.columns { columns: 3 270px; column-gap: 34px; }
.columns > div { break-inside: avoid; margin-bottom: 10px; }
.columns table { width: 100%; font-size: 12.5px; }
.columns td:last-child { padding-right: 0; text-align: right; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #ccc; --page: #fff; --tile: #f5f7f9; --accent: #0072b2; }
  body { font-size: 11px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  table, .small, .card, figcaption { font-size: 10px; }
  .columns table, code, .code, td .soft { font-size: 8.5px; }
  th, td { padding: 2px 12px 2px 0; }
  h2 { font-size: 15px; margin-top: 22px; }
  .tiles { grid-template-columns: repeat(4, 1fr); margin: 12px 0; }
  .tile .value { font-size: 24px; }
  .cards { grid-template-columns: repeat(3, 1fr); gap: 10px; }
  .columns { columns: 3 180px; }
  audio { display: none; }
  h2, h3 { break-after: avoid; }
  figure, tr, .tile, .code { break-inside: avoid; }
  .scroll { overflow: visible; }
}
"""


# Characters that start or end an embedding, override or isolate (Unicode Annex 9): a name with one could turn what follows it.
BIDI_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def text(value: object) -> str:
    """The value as HTML text. Bytes of a file name that are not UTF-8, and controls of writing direction, are shown as escapes.

    A text with letters that run from right to left is isolated (U+2068, U+2069), so that what stands beside it keeps its place.
    """
    shown = str(value).encode("utf-8", "backslashreplace").decode("utf-8").translate(BIDI_CONTROLS)
    if not shown.isascii() and any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in shown):
        shown = f"\u2068{shown}\u2069"
    return html.escape(shown)


def page(title: str, body: str) -> str:
    """A whole document around `body` (HTML)."""
    return PAGE.substitute(title=text(title), style=STYLE, body=body)


def section(title: str, *contents: str) -> str:
    """A headed section of HTML pieces."""
    return f"<section>\n<h2>{text(title)}</h2>\n" + "\n".join(contents) + "\n</section>"


def paragraph(sentence: str, kind: str = "") -> str:
    """A paragraph of plain text; `kind`: "soft", "soft small" or "code"."""
    return f'<p class="{kind}">{text(sentence)}</p>' if kind else f"<p>{text(sentence)}</p>"


def bullets(sentences: Iterable[str], kind: str = "") -> str:
    """A list of plain sentences."""
    return f'<ul class="{kind}">' + "".join(f"<li>{text(sentence)}</li>" for sentence in sentences) + "</ul>"


def cell(estimate: Estimate) -> str:
    """An estimate with its interval in small print, as HTML."""
    value, interval = format_estimate(estimate)
    return f'{value} <span class="soft">{interval}</span>' if interval else value


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1, last_is_total: bool = False) -> str:
    """A table. header: plain text; rows: HTML cells (see `text` and `cell`); columns from `numbers_from` on are right-aligned."""

    def line(tag: str, cells: Sequence[str], kind: str = "") -> str:
        marks = ("" if position < numbers_from else ' class="number"' for position in range(len(cells)))
        inside = "".join(f"<{tag}{mark}>{content}</{tag}>" for mark, content in zip(marks, cells, strict=True))
        return f"<tr{kind}>{inside}</tr>"

    body = [*rows]
    lines = [line("td", row, ' class="total"' if last_is_total and row is body[-1] else "") for row in body]
    head = f"<thead>{line('th', [text(name) for name in header])}</thead>" if header else ""
    return f'<div class="scroll"><table>{head}<tbody>' + "\n".join(lines) + "</tbody></table></div>"


def figure(data_uri: str, description: str, caption: str = "") -> str:
    """A picture with a description for screen readers and a caption."""
    note = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{data_uri}" alt="{text(description)}">{note}</figure>'


def tile(name: str, estimate: Estimate) -> str:
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


def settings_columns(settings: Mapping[str, object]) -> str:
    """Nested settings: one small table per top-level group, dotted names inside it."""
    groups: dict[str, list[tuple[str, object]]] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            groups[name] = _flatten(value)
        else:
            groups.setdefault("", []).append((name, value))
    parts = []
    for name, pairs in groups.items():
        rows = [(f"<code>{text(key)}</code>", f"<code>{text(value)}</code>") for key, value in pairs]
        heading = f"<h3>{text(name)}</h3>" if name else ""
        parts.append(f"<div>{heading}{table((), rows, numbers_from=2)}</div>")
    return '<div class="columns">' + "\n".join(parts) + "</div>"


def _flatten(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """(dotted name, value) of nested mappings."""
    pairs: list[tuple[str, object]] = []
    for name, value in settings.items():
        pairs += _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return pairs


def audio_uri(waveform: np.ndarray, sample_rate: int) -> str:
    """Mono sound as `data:audio/...;base64,...`: MP3 (an eighth of the size) where it has the rate, else 16-bit WAV.

    waveform: float [samples], clipped at +-1.
    """
    if sample_rate in MP3_RATES:
        import soundfile

        stream = io.BytesIO()
        soundfile.write(stream, np.clip(waveform, -1, 1), sample_rate, format="MP3")
        return f"data:audio/mpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    counts = np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(counts.tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
