"""The page of clusters in a real browser: names, merges, splits, drops, moves; a second tab; a kill; training on the result."""

import signal

import numpy as np
import pandas as pd
import pytest
from page_in_browser import seen
from test_review_page import HOSTILE, served_page

from beats_jax.audio.io import write_wav
from beats_jax.config import DataConfig
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.tables.refinements import read_refinements
from beats_jax.discover import main

pytestmark = pytest.mark.browser
RATE = 16_000


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """The clusters of three kinds of call, twelve of each, in two recordings; a third one has gone."""
    folder = tmp_path_factory.mktemp("refine")
    (folder / "audio").mkdir()
    draw = np.random.default_rng(0)
    for name in ("night_0530.wav", f"{HOSTILE.replace('/', '')}.wav", "gone.wav"):
        sound = 0.003 * draw.standard_normal(10 * RATE)
        for number in range(12):
            time = np.arange(RATE // 5) / RATE
            first = round((0.5 + 0.75 * number) * RATE)
            sound[first : first + len(time)] += (
                0.3 * np.sin(2 * np.pi * (800, 2500, 5500)[number % 3] * time) * np.hanning(len(time))
            )
        write_wav(folder / "audio" / name, sound.astype(np.float32), RATE)
    three = ("--method", "kmeans", "--clusters", "3")
    assert main(["--input", str(folder / "audio"), "--output", str(folder / "found"), *three]) == 0
    (folder / "audio" / "gone.wav").unlink()
    return folder / "found"


def served(clusters, *arguments):
    return served_page(["--clusters", str(clusters), *arguments], clusters)


def opened(browser, address):
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.get_by_text("Keys: type a name").wait_for()
    idle(page)
    return page


def idle(page):
    page.wait_for_timeout(300)
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')")
    page.wait_for_timeout(200)


def press(page, button):
    page.get_by_role("button", name=button).click()
    idle(page)


def name(page, text):
    box = page.get_by_label("Name of this kind of sound")
    box.fill(text)
    box.press("Enter")
    idle(page)


def choose(page, box, option):
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option).first.click()
    idle(page)


def test_clusters_are_named_merged_split_dropped_and_trained_on(clusters, browser, tmp_path):
    with served(clusters, "--reviewer", "ana") as (address, server):
        page = opened(browser, address)
        page.locator("img[alt^='Spectrogram of']").nth(5).wait_for()
        assert page.locator("img[src='x']").count() == 0
        seen(page, "gone.wav is missing")
        name(page, "=owl")
        page.get_by_text("1 of 3 clusters named").wait_for()
        choose(page, "Merge into", "c03")  # the page went on to c02
        page.get_by_text("1 of 2 clusters named").wait_for()
        press(page, "Split")
        page.get_by_text("1 of 3 clusters named").wait_for()
        second = opened(browser, address)
        name(second, "wren")  # another tab decides on the same cluster first
        second.get_by_text("2 of 3 clusters named").wait_for()
        name(page, "tit")
        page.get_by_text("look at it again, then decide").wait_for()
        server.send_signal(signal.SIGKILL)
        server.wait()
    with (clusters / "refinements.csv").open("ab") as file:
        file.write(b"name,c03.2,a torn li")
    with served(clusters, "--reviewer", "ana") as (address, _):
        page = opened(browser, address)
        page.get_by_text("2 of 3 clusters named").wait_for()
        page.locator("[data-testid=stCheckbox]").first.click()
        idle(page)
        choose(page, "Move the 1 selected to", "no cluster")
        page.get_by_text("Sounds 1 to").click()  # out of the box, in which letters are typed
        page.keyboard.press("d")
        page.get_by_text("1 dropped").wait_for()
        press(page, "Undo")
        page.get_by_text("0 dropped").wait_for()
        press(page, "Write tables")
        page.get_by_text("tables in").wait_for()
    actions = [line.action for line in read_refinements(clusters / "refinements.csv")]
    assert actions == ["begin", "name", "merge", "split", "name", "move", "drop", "undo"]
    table = pd.read_csv(clusters / "clusters_reviewed.csv")
    assert table.status.value_counts().to_dict() == {"named": 24, "open": 11}
    assert table.label.nunique() == 4  # =owl, wren, the other part, and the one in no cluster
    manifest = load_manifest(DataConfig(source="clusters", metadata_file=str(clusters)), workdir=tmp_path)
    assert manifest.labels.counts() == {"=owl": 12, "wren": 12}
    assert (clusters / "refined" / "raven").is_dir()
