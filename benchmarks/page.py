"""How fast the page of `explore` answers, in a headless Chromium, over embeddings that are on disk.

    python benchmarks/page.py [--windows 20000] [--keep FOLDER]

Needs beats-jax[ui], playwright and chromium. Recordings of five kinds of tone are made, embedded without weights (mean and
deviation of mel bands) and shown. Printed: seconds from opening the address until the first map stands, of a click on a point
(spectrogram, player and neighbours drawn), of a lasso around some 2,000 points, of a spectrogram of 10 s alone; memory of the
server. A pause of the script before an action does not count.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from page_in_browser import find_chromium, serve

from beats_jax.audio.io import write_wav
from beats_jax.embed import main as embed

RATE, RECORDINGS, SECONDS = 16_000, 100, 100
POLL = "() => !document.querySelector('[data-testid=\"stStatusWidget\"]')"
POINTS = """() => {
    const plot = document.querySelector('.js-plotly-plot'), layout = plot._fullLayout, box = plot.getBoundingClientRect();
    const at = (axis, value) => axis._offset + axis.d2p(value);
    const found = [];
    for (const trace of plot._fullData) for (let i = 0; i < trace.x.length; i++)
        found.push([box.x + at(layout.xaxis, trace.x[i]), box.y + at(layout.yaxis, trace.y[i])]);
    return found;
}"""


def write_recordings(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(RECORDINGS):
        moment = np.arange(RATE * SECONDS) / RATE
        tone = np.sin(2 * np.pi * (400 * 2 ** (number % 5) + 5 * number) * moment) * (np.sin(moment * (1 + number / 40)) > 0)
        path = folder / f"kind{number % 5}" / f"SITE{number % 3}_202604{1 + number % 28:02d}_{number % 24:02d}0000.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, (0.2 * tone + 0.03 * rng.standard_normal(len(moment))).astype(np.float32), RATE)


def resident_mb(port: int) -> float:
    """Of the server that was started with this port."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            words = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"server.port={port}" in words or f"--port {port}" in words or f"server.port {port}" in words:
                found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
                if found:
                    return int(found[1]) / 1024
        except OSError:
            continue
    return float("nan")


def answered(page: Any, ready: str) -> None:
    """Until `ready` (JavaScript) holds and Streamlit does not run any more."""
    page.wait_for_function(ready)
    page.wait_for_function(POLL)


def timed(page: Any, action: Any, ready: str) -> float:
    began = time.perf_counter()
    action()
    answered(page, ready)
    return time.perf_counter() - began


def click_through(page: Any, clicks: int) -> tuple[list[float], float, int]:
    """Seconds of single clicks; seconds of a lasso and how many windows it holds."""
    seconds = []
    points = np.array(page.evaluate(POINTS))
    sparse = points[np.argsort(np.linalg.norm(points - points.mean(0), axis=1))[-200:]]  # at the edge one hits the point meant
    for place in sparse[:: len(sparse) // clicks][:clicks]:
        page.mouse.move(*place)
        page.wait_for_timeout(300)
        before = page.evaluate("() => document.querySelector('audio')?.src || ''")
        new_sound = f"() => (document.querySelector('audio')?.src || '') !== {before!r} && document.querySelector('audio')"
        seconds.append(timed(page, lambda place=place: page.mouse.click(*place), new_sound))
    page.get_by_text("draws a lasso").click()
    page.wait_for_timeout(4000)
    points = np.array(page.evaluate(POINTS))
    middle = points[len(points) // 2]
    near = points[np.argsort(np.abs(points - middle).max(1))[:2000]]
    (left, top), (right, bottom) = near.min(0), near.max(0)
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=6)
    lasso = timed(page, page.mouse.up, "() => /Selected windows: (\\d{3,}|\\d,\\d{3})/.test(document.body.innerText)")
    found = re.search(r"Selected windows: ([\d,.]+)", page.inner_text("body"))
    return seconds, lasso, int(re.sub(r"\D", "", found[1])) if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=20_000)
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder for recordings and embeddings, to be used again")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    from beats_jax.pipelines.exploring.clips import read_clip, spectrogram

    with tempfile.TemporaryDirectory() as scratch:
        place = (given.keep or Path(scratch)).resolve()
        if not (place / "recordings").is_dir():
            write_recordings(place / "recordings")
        hop = SECONDS * RECORDINGS / given.windows
        output = place / f"embedded_{given.windows}"
        if status := embed(
            [
                "--input",
                str(place / "recordings"),
                "--output",
                str(output),
                "--window",
                "1",
                "--hop",
                f"{hop:g}",
                "--tail",
                "drop",
            ]
        ):
            return status
        file = next((place / "recordings").rglob("*.wav"))
        pictures = []
        for start in range(0, 50, 10):
            began = time.perf_counter()
            spectrogram(read_clip(file, float(start), start + 10.0))
            pictures.append(time.perf_counter() - began)
        print(f"spectrogram of 10 s: {statistics.median(pictures):.3f} s (first {pictures[0]:.3f})")
        with (
            serve("--embeddings", str(output), "--data", str(place / "recordings"), cwd=place) as (address, _),
            sync_playwright() as playwright,
        ):
            options = ["--no-sandbox", "--enable-unsafe-swiftshader"]
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
            page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
            page.set_default_timeout(120_000)
            first = timed(page, lambda: page.goto(address), "() => document.querySelector('.js-plotly-plot .nsewdrag')")
            shown = len(page.evaluate(POINTS))
            print(f"first map of {given.windows} windows, {shown} shown: {first:.2f} s")
            print(
                "said on the page:",
                [line for line in page.inner_text("body").splitlines() if "Not everything" in line],
            )
            again = timed(page, page.reload, "() => document.querySelector('.js-plotly-plot .nsewdrag')")
            print(f"opened again: {again:.2f} s")
            page.wait_for_timeout(1500)
            clicks, lasso, held = click_through(page, given.clicks)
            print(f"click: {statistics.median(clicks):.2f} s (first {clicks[0]:.2f}, worst {max(clicks):.2f})")
            print(f"lasso of {held} windows: {lasso:.2f} s")
            print(f"server, at most: {resident_mb(int(address.rsplit(':')[-1])):.0f} MB")
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
