"""A spectrogram with axes of kHz and seconds and the bounds of its clip, as one small PNG: a page shows many at once."""

from __future__ import annotations

import io
import math

from beats_jax.pipelines.exploring.clips import Clip, Picture, spectrogram

WIDTH, HEIGHT = 340, 160  # pixels of the sound
LEFT, BELOW, ABOVE, RIGHT = 40, 20, 6, 6  # of the axes
INK = (128, 128, 128, 255)  # to be read on white and on black
BOUND = (64, 224, 255, 255)
MOST_TICKS = 5


def tile_png(
    clip: Clip, start: float, end: float, high_hz: float = 0.0, band: tuple[float, float] = (math.nan, math.nan)
) -> bytes:
    """A clip in a mosaic.

    Args:
      start, end: seconds; vertical lines stand there where the clip shows more. high_hz: highest frequency, 0 = half the rate.
      band: Hz; with both known the lines become a box.
    """
    return with_axes(spectrogram(clip, high_hz, columns=WIDTH, rows=HEIGHT), start, end, band)


def with_axes(picture: Picture, start: float, end: float, band: tuple[float, float] = (math.nan, math.nan)) -> bytes:
    """A spectrogram with axes around it, as PNG; arguments as `tile_png`."""
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("RGBA", (LEFT + WIDTH + RIGHT, ABOVE + HEIGHT + BELOW), (0, 0, 0, 0))
    sound = Image.open(io.BytesIO(picture.png)).convert("RGBA").resize((WIDTH, HEIGHT))
    sheet.paste(sound, (LEFT, ABOVE))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for khz in ticks(0.0, picture.high_hz / 1000):
        y = ABOVE + HEIGHT - 1 - round(khz * 1000 / picture.high_hz * (HEIGHT - 1))
        draw.line([(LEFT - 4, y), (LEFT - 1, y)], INK)
        draw.text((LEFT - 6, y), f"{khz:g}", INK, font, anchor="rm" if y > ABOVE + 8 else "rt")
    draw.text((1, ABOVE + HEIGHT + 2), "kHz", INK, font)
    seconds = max(picture.end - picture.start, 1e-9)
    for second in ticks(picture.start, picture.end):
        x = LEFT + round((second - picture.start) / seconds * (WIDTH - 1))
        draw.line([(x, ABOVE + HEIGHT), (x, ABOVE + HEIGHT + 3)], INK)
        if LEFT + 12 < x < LEFT + WIDTH - 28:  # else it would cover a unit
            draw.text((x, ABOVE + HEIGHT + 3), f"{second:g}", INK, font, anchor="mt")
    draw.text((LEFT + WIDTH, ABOVE + HEIGHT + 3), "s", INK, font, anchor="rt")
    if not any(map(math.isnan, band)):
        xs = [
            LEFT + round((min(max(bound, picture.start), picture.end) - picture.start) / seconds * (WIDTH - 1))
            for bound in (start, end)
        ]
        ys = [ABOVE + HEIGHT - 1 - round(min(hz, picture.high_hz) / picture.high_hz * (HEIGHT - 1)) for hz in reversed(band)]
        draw.rectangle([(xs[0], ys[0]), (max(xs), max(ys))], outline=BOUND, width=1)
    for bound in (start, end) if any(map(math.isnan, band)) else ():
        if picture.start + seconds * 1e-3 < bound < picture.end - seconds * 1e-3:
            x = LEFT + round((bound - picture.start) / seconds * (WIDTH - 1))
            draw.line([(x, ABOVE), (x, ABOVE + HEIGHT - 1)], BOUND, width=2)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def ticks(low: float, high: float) -> list[float]:
    """Up to about `MOST_TICKS` round numbers from low to high."""
    if not high > low:
        return [low]
    raw = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [round(number * step, 9) for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
