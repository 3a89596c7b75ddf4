"""A folder of recordings with everything that goes wrong in it, and the page of it in a headless Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_in_browser import LONGEST_ANSWER, find_chromium, is_foreign, settled

from beats_jax.audio.io import write_wav


def sound(hz: float, seconds: float, rate: int) -> np.ndarray:
    """float32 [samples]: a tone that comes and goes, in noise of its own."""
    time_ = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(int(hz * 7)).normal(size=len(time_)) * 0.02
    return (0.4 * np.sin(2 * np.pi * hz * time_) * (np.sin(2 * np.pi * time_) > 0) + noise).astype(np.float32)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes from two sites at many hours; 300 kHz and 2 kHz; no clock; a broken file; names of HTML and formulas."""
    root = tmp_path_factory.mktemp("page") / "recordings"
    for label, low in (("owl", 400), ("wren", 4000)):
        (root / label).mkdir(parents=True)
        for k in range(20):
            name = f"SITE{k % 2}_202604{10 + k // 4:02d}_{k:02d}3000.wav"
            write_wav(root / label / name, sound(low + 15 * k, 2.0, 16_000), 16_000)
    write_wav(root / "owl" / "whale.wav", sound(120, 4.0, 2000), 2000)
    write_wav(root / "wren" / "bat.wav", sound(40_000, 0.5, 300_000), 300_000)
    write_wav(root / "owl" / "=HYPERLINK(1)<img src=x onerror=alert(1)>.wav", sound(500, 2.0, 16_000), 16_000)
    write_wav(root / "owl" / "![x](http:example.org:1).wav", sound(520, 2.0, 16_000), 16_000)
    (root / "wren" / "broken.wav").write_bytes(b"RIFF\x10\0\0\0WAVEfmt nothing")
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address; the test fails where the page asked another machine for anything, or a script of a name ran."""
    contexts, foreign, dialogs = [], [], []

    def opened(address: str, width: int = 1280, height: int = 1000, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LONGEST_ANSWER)
        page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url) else None)
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        page.wait_for_selector(".js-plotly-plot")
        settled(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert foreign == []
    assert dialogs == []
