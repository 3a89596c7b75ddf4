"""The page in a headless Chromium: a server to start, and what a user does on it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
SHOTS = os.environ.get("BEATS_JAX_SCREENSHOTS")  # a folder: pictures of the page are kept there
LONGEST_START = 180.0  # seconds
LONGEST_ANSWER = 60_000  # milliseconds


def find_chromium() -> str:
    """The browser, or the test fails: `.ci/run` installs it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "install chromium (apt-get install chromium)"
    return found


@contextmanager
def serve(*arguments: str, cwd: Path) -> Iterator[tuple[str, Path]]:
    """The page with these arguments, at a free port: its address and its log. Ends it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = cwd / f"server_{port}.log"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "beats_jax.explore", "--port", str(port), *arguments]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        begun = time.monotonic()
        while not _answers(f"{address}/_stcore/health"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() - begun < LONGEST_START, log.read_text()
            time.sleep(0.3)
        yield address, log
    finally:
        server.terminate()
        server.wait(20)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def is_foreign(url: str) -> bool:
    return not re.match(r"(https?|ws)://127\.0\.0\.1[:/]|data:|blob:", url)


def settled(page: Any) -> None:
    """Waits until Streamlit has drawn everything."""
    page.wait_for_timeout(400)
    page.wait_for_function("() => !document.querySelector('[data-testid=\"stStatusWidget\"]')")
    page.wait_for_timeout(300)


def lasso(page: Any, corners: tuple[tuple[float, float], ...] = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0.02))) -> None:
    """Draws around points of the first map; corners are shares of its width and height."""
    page.get_by_text("draws a lasso").click()
    settled(page)
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    places = [(box["x"] + 2 + (box["width"] - 4) * x, box["y"] + 2 + (box["height"] - 4) * y) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    settled(page)


def shoot(page: Any, name: str) -> None:
    """Keeps a picture where the environment asks for it."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def seen(page: Any, text: str) -> None:
    """Waits until a text is on the page."""
    page.get_by_text(text).first.wait_for()


def counted(places: Any, number: int) -> None:
    """Waits until so many elements are on the page: what a busy machine draws late is not missing."""
    from playwright.sync_api import expect

    expect(places).to_have_count(number, timeout=LONGEST_ANSWER)


def view(page: Any, name: str) -> None:
    """Changes to another view."""
    page.get_by_role("radio", name=name, exact=True).or_(page.get_by_role("button", name=name, exact=True)).first.click()
    settled(page)


def search(page: Any, text: str) -> None:
    """Selects by the keyboard alone."""
    page.get_by_label("Search in file names and labels").fill(text)
    page.keyboard.press("Enter")
    settled(page)
