"""The page as a user sees it: Chromium clicks, and what it shows and writes is looked at."""

from __future__ import annotations

import csv
import http.client
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from page_in_browser import counted, lasso, search, seen, serve, settled, shoot, view

pytestmark = pytest.mark.browser
WINDOWS = 44
TRACES = "() => document.querySelector('.js-plotly-plot')._fullData.length"


@pytest.fixture(scope="module")
def place(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def served(recordings: Path, place: Path) -> Iterator[str]:
    with serve("--data", str(recordings), "--output", "out", "--training", cwd=place) as (address, log):
        yield address
        assert "Traceback" not in log.read_text()


def test_a_lasso_selects_and_a_window_is_seen_and_played(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(served)
    shoot(page, "map")
    lasso(page)
    seen(page, f"Selected windows: {WINDOWS}")
    audio = page.locator("audio").first
    audio.wait_for()
    page.wait_for_function("() => document.querySelector('audio').readyState >= 2")
    assert audio.evaluate("element => element.duration") == pytest.approx(2.0, abs=0.05)
    audio.evaluate("element => { element.muted = true; return element.play() }")
    page.wait_for_function("() => document.querySelector('audio').currentTime > 0.2")
    counted(page.locator(".js-plotly-plot image"), 1)  # the spectrogram
    seen(page, "Nearest neighbours")
    shoot(page, "selection")


def test_a_click_selects_one_point(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(served)
    place = page.evaluate(
        """() => {
            const plot = document.querySelector('.js-plotly-plot'), trace = plot._fullData[0], box = plot.getBoundingClientRect();
            const layout = plot._fullLayout;
            const at = (axis, value) => axis._offset + axis.d2p(value);
            return [box.x + at(layout.xaxis, trace.x[0]), box.y + at(layout.yaxis, trace.y[0])];
        }"""
    )
    page.mouse.move(*place)
    page.wait_for_timeout(300)
    traces = page.evaluate(TRACES)
    page.mouse.click(*place)
    settled(page)
    seen(page, "Selected windows: 1")
    assert page.evaluate(TRACES) == traces  # the browser marks the point: the map is not sent again
    assert page.evaluate("() => document.querySelector('.js-plotly-plot')._fullData[0].selectedpoints.length") == 1
    search(page, "SITE1_20260410")
    seen(page, "Selected windows: 4")
    assert page.evaluate(TRACES) == traces + 1  # with a ring around the first
    page.wait_for_function("() => document.querySelector('.js-plotly-plot')._fullData[0].selectedpoints.length != 1")


def test_labels_are_written_by_the_keyboard_and_survive_a_reload(served: str, open_page: Callable[..., Any], place: Path) -> None:
    page = open_page(served)
    search(page, "SITE1_20260410")
    seen(page, "Selected windows: 4")
    label = page.get_by_role("combobox", name="label").last
    label.focus()
    page.keyboard.type('=cmd|"<b>búho</b>')
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_label("Your name").fill("Ann")
    save = page.get_by_role("button", name="Save")
    save.focus()
    page.keyboard.press("Enter")
    settled(page)
    seen(page, "labels.csv: 4.")
    with (place / "out" / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["'=cmd|\"<b>búho</b>"] * 4
    assert {row["reviewer"] for row in rows} == {"Ann"}
    page.reload()
    page.wait_for_selector(".js-plotly-plot")
    settled(page)
    seen(page, "labels.csv: 4.")
    assert page.locator("b", has_text="búho").count() == 0
    shoot(page, "labelled")
    search(page, "SITE1_20260410")
    page.get_by_label("Your name").fill("Ann")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Remove my labels").click()
    settled(page)
    assert not (place / "out" / "labels.csv").exists()


def test_an_upload_is_placed_and_no_audio_is_refused(
    served: str, open_page: Callable[..., Any], recordings: Path, tmp_path: Path
) -> None:
    page = open_page(served)
    view(page, "Place a file")
    chooser = page.locator("input[type=file]")
    (tmp_path / "page.wav").write_bytes(b"<script>alert(1)</script>" * 50)
    chooser.set_input_files(str(tmp_path / "page.wav"))
    page.get_by_role("alert").wait_for()
    assert "page.wav" in page.get_by_role("alert").inner_text()
    shutil.copy(recordings / "wren" / "bat.wav", tmp_path / "bat.wav")
    chooser.set_input_files(str(tmp_path / "bat.wav"))
    page.locator("audio").first.wait_for()
    settled(page)
    seen(page, "Placed exactly: PCA is a formula.")
    assert page.locator("audio").first.evaluate("element => element.duration") == pytest.approx(5.0, abs=0.2)  # ten times slower
    shoot(page, "upload")


def test_hostile_names_are_text_and_a_missing_file_leaves_the_page_alive(
    open_page: Callable[..., Any], recordings: Path, tmp_path: Path
) -> None:
    own = tmp_path / "recordings"
    shutil.copytree(recordings, own)
    with serve("--data", str(own), "--output", "out", cwd=tmp_path) as (address, log):
        page = open_page(address)
        page.get_by_text("Not everything is shown").click()
        seen(page, "cannot be read to their end: 1")
        for text in ("HYPERLINK", "![x]"):
            search(page, text)
            seen(page, "Selected windows: 1")
            assert page.locator("img[src='x'], img[src*='example'], a[href*='example']").count() == 0
            counted(page.locator("strong", has_text=text), 1)
        shoot(page, "hostile_name")
        (own / "owl" / "whale.wav").unlink()
        search(page, "whale")
        seen(page, "is missing")
        seen(page, "Nearest neighbours")
        search(page, "bat.wav")
        page.locator("audio").first.wait_for()
        assert "Traceback" not in log.read_text()


def test_clusters_have_figures_and_a_grid_and_time_and_place_are_counted(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(served, height=1600)
    view(page, "Clusters")
    page.locator("[data-testid='stImage'] img").first.wait_for()
    seen(page, "Silhouette")
    page.locator("[data-testid='stImage'] img").nth(2).wait_for()
    shoot(page, "clusters")
    page.get_by_role("button", name="Select its").click()
    settled(page)
    view(page, "Time and place")
    seen(page, "Windows without a known time: 4")
    counted(page.locator(".js-plotly-plot"), 3)
    shoot(page, "time_and_place")
    view(page, "Variance")
    seen(page, "of the variance of 256 dimensions")
    shoot(page, "variance")
    view(page, "Map")
    seen(page, "Selected windows:")


def test_in_spanish_at_400_px_in_the_dark(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(served, width=400, height=900, scheme="dark")
    shoot(page, "narrow_dark")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
    page.locator("[data-testid='stExpandSidebarButton']").click()
    page.get_by_role("combobox", name="Language").click()
    page.get_by_role("option", name="Español").click()
    settled(page)
    page.keyboard.press("Escape")
    counted(page.get_by_text("Todavía no hay nada seleccionado."), 1)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 400


def test_a_training_is_started_watched_and_ends(served: str, open_page: Callable[..., Any], place: Path) -> None:
    page = open_page(served, height=1500)
    view(page, "Training")
    page.get_by_label("Steps at most").fill("2")
    page.keyboard.press("Enter")  # starts it: a form of Streamlit
    page.get_by_text("It has ended with status 0").wait_for(timeout=240_000)
    page.get_by_text("Metric").wait_for()
    shoot(page, "training")
    assert (place / "out" / "runs" / "first" / "metrics.json").is_file()


def test_umap_is_computed_where_it_is_installed(served: str, open_page: Callable[..., Any], place: Path) -> None:
    page = open_page(served)
    page.get_by_role("combobox", name="Method").first.click()
    page.get_by_role("option", name="UMAP").click()
    found = place / "out" / "maps"
    deadline = time.monotonic() + 300  # its first call compiles
    while not list(found.glob("umap-2d-*.npy")):
        assert time.monotonic() < deadline
        page.wait_for_timeout(500)
    settled(page)
    page.locator(".js-plotly-plot").first.wait_for()
    shoot(page, "umap")


def test_an_upload_beyond_the_bound_is_refused(open_page: Callable[..., Any], recordings: Path, tmp_path: Path) -> None:
    with serve("--data", str(recordings), "--output", "out", "--max-upload", "1", cwd=tmp_path) as (address, log):
        page = open_page(address)
        view(page, "Place a file")
        (tmp_path / "large.wav").write_bytes(b"\0" * 1_500_000)
        page.locator("input[type=file]").set_input_files(str(tmp_path / "large.wav"))
        seen(page, "File must be 1.0MB or smaller")
        assert page.locator("audio").count() == 0
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    "path",
    [
        "/media/../../../../etc/passwd",
        "/media/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/media/x",
    ],
)
def test_no_path_leads_out_of_the_page(served: str, path: str) -> None:
    with closing(http.client.HTTPConnection(served.removeprefix("http://"), timeout=20)) as connection:
        connection.request("GET", path)
        assert connection.getresponse().status in (400, 403, 404)


@pytest.mark.parametrize(
    ("origin", "host"), [("http://evil.example", None), ("null", None), ("http://evil.example", "evil.example")]
)
def test_another_site_cannot_connect(served: str, origin: str, host: str | None) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    def stream(**options: Any) -> Any:
        given: dict[str, Any] = {"subprotocols": ["streamlit"], **options}
        return connect(served.replace("http", "ws") + "/_stcore/stream", **given)

    with stream(origin=served):
        pass
    with pytest.raises(InvalidStatus):
        stream(origin=origin, additional_headers={"Host": host} if host else None)
