"""The review page in a real browser: an oracle clicks and types through a review, kills come in between, and attacks fail."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from page_in_browser import counted, seen

from beats_jax.audio.io import write_wav
from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.registry import write_events
from beats_jax.datasets.tables.reviews import read_reviews, standing

pytestmark = pytest.mark.browser

RATE = 16_000
HOSTILE = "<img src=x onerror=document.title='owned'>"
FORMULA = "=HYPERLINK(1)"
OUTSIDE = (
    "/../../etc/passwd",
    "/static/../../../etc/passwd",
    "/app/static/review.csv",
    "/media/../review.csv",
    "/media/%2e%2e/%2e%2e/etc/passwd",
    "/component/../../etc/passwd",
    "/detections.csv",
)
NAMES = ("night_0530.wav", f"{FORMULA} {HOSTILE.replace('/', '')}.wav", "gone.wav")


@pytest.fixture(scope="module")
def detections(tmp_path_factory):
    """20 owls in two recordings, two of a class whose name is markup, and one in a recording that has gone."""
    folder = tmp_path_factory.mktemp("review")
    audio = folder / "audio"
    audio.mkdir()
    draw = np.random.default_rng(0)
    for name in NAMES[:2]:
        noise = 0.01 * draw.standard_normal(30 * RATE)
        noise[: 10 * RATE] += 0.2 * np.sin(2 * np.pi * 3000 * np.arange(10 * RATE) / RATE)
        write_wav(audio / name, noise.astype(np.float32), RATE)
    files = [str(audio / NAMES[row % 2]) for row in range(20)] + [str(audio / NAMES[1])] * 2 + [str(audio / NAMES[2])]
    starts = [row * 1.25 for row in range(20)] + [1, 2, 0]
    labels = ["owl"] * 20 + [HOSTILE] * 2 + ["owl"]
    scores = [*np.linspace(0.99, 0.5, 20), 0.9, 0.8, 0.45]
    write_events(Events.from_columns(files, starts, np.add(starts, 1), labels, scores=scores), folder, ["csv"], {})
    return folder


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def read(url):
    """The body of an answer, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


def served(detections, *arguments):
    """The page's address, and its server, which is killed at the end."""
    return served_page(["--detections", str(detections), *arguments], detections)


@contextmanager
def served_page(arguments, folder):
    """`served` for any arguments of the verb; the log goes into a folder."""
    port = free_port()
    command = [sys.executable, "-m", "beats_jax.review", "--port", str(port), *arguments]
    log = folder / f"server_{port}.txt"
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                read(f"{address}/_stcore/health")
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
        yield address, server
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


@contextmanager
def tab(browser, address, **size):
    context = browser.new_context(viewport={"width": 1280, "height": 900, **size})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.get_by_text("Keys: Y yes").wait_for()  # the last words of the page
    page.wait_for_function("() => window.beatsJaxReview?.listener")
    idle(page)
    try:
        yield page
    finally:
        context.close()


def idle(page):
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget]')")


def press(page, key, expected):
    """Presses a key, and waits for the words that must follow."""
    page.keyboard.press(key)
    page.get_by_text(expected).first.wait_for()
    idle(page)


def verdicts(path):
    return [(found.start, found.verdict, found.other_label) for found in standing(read_reviews(path)).values()]


def test_an_oracle_reviews_by_keyboard_mouse_kill_and_second_tab(detections, browser, tmp_path):
    table = tmp_path / "review.csv"
    options = ("--review", str(table), "--reviewer", "ana", "--label", "owl")
    with served(detections, *options) as (address, server):
        with tab(browser, address) as page:
            page.locator("img[alt^='Spectrogram of']").nth(11).wait_for()
            counted(page.locator("audio"), 12)
            press(page, "y", "1 of 21 reviewed")
            press(page, "n", "2 of 21 reviewed: 1 yes, 1 no")
            press(page, "u", "3 of 21 reviewed: 1 yes, 1 no, 1 unsure")
            press(page, "z", "Taken back")
            press(page, "y", "3 of 21 reviewed: 2 yes, 1 no")
            with tab(browser, address) as second:  # another tab sees it, and adds to it
                second.get_by_text("3 of 21 reviewed").wait_for()
                second.get_by_role("button", name="No", exact=True).nth(5).click()
                second.get_by_text("4 of 21 reviewed").wait_for()
            press(page, "y", "5 of 21 reviewed: 3 yes, 2 no")
            page.keyboard.press(" ")
            page.wait_for_function("() => [...document.querySelectorAll('audio')].some((one) => !one.paused)")
            box = page.get_by_role("combobox", name="No, clip")
            box.fill(FORMULA)
            box.press("Enter")
            page.get_by_text("6 of 21 reviewed: 3 yes, 3 no").wait_for()
        server.send_signal(signal.SIGKILL)  # in the middle of a review
        server.wait()
    before = verdicts(table)
    assert [verdict for _, verdict, _ in before].count("yes") == 3
    assert FORMULA in [other for _, _, other in before]
    with table.open("ab") as file:
        file.write(b"a torn li")
    with served(detections, *options) as (address, server), tab(browser, address) as page:
        page.get_by_text("6 of 21 reviewed: 3 yes, 3 no").wait_for()
        press(page, "n", "7 of 21 reviewed")
        page.reload()
        page.get_by_text("7 of 21 reviewed: 3 yes, 4 no").wait_for()
    assert verdicts(table)[:6] == before


def test_keys_that_come_faster_than_the_server_answers_are_all_taken_for_their_clips(detections, browser, tmp_path):
    table = tmp_path / "review.csv"
    with served(detections, "--review", str(table), "--label", "owl") as (address, _), tab(browser, address) as page:
        page.keyboard.type("ynuyn")
        page.keyboard.press("ArrowRight")  # leaves one out
        page.keyboard.type("ynnyuyn")  # more than the page has left, whose last clips are the one left out
        page.get_by_text("Page 2 of 2").wait_for()
        page.get_by_text("12 of 21 reviewed: 5 yes, 5 no, 2 unsure").wait_for()
        page.keyboard.type("zz")
        page.get_by_text("10 of 21 reviewed").wait_for()
    order = [row * 1.25 for row in range(20)]
    lines = [(found.start, found.verdict) for found in read_reviews(table)]
    taken = [(start, verdict[0]) for start, verdict in lines[:12]]
    assert taken == list(zip([*order[:5], *order[6:12], order[5]], "ynuynynnyuyn", strict=True))
    assert [start for start, _ in lines[12:]] == [order[5], order[11]]


def test_a_key_right_after_undo_never_meets_another_clip(detections, browser, tmp_path):
    table = tmp_path / "review.csv"
    with served(detections, "--review", str(table), "--label", "owl") as (address, _), tab(browser, address) as page:
        page.keyboard.type("yzn")
        page.get_by_text("Taken back").wait_for()
        page.wait_for_function("() => window.beatsJaxReview.seen >= window.beatsJaxReview.turning")
        press(page, "u", "1 of 21 reviewed: 0 yes, 0 no, 1 unsure")
    assert {found.start for found in read_reviews(table)} == {0.0}
    assert verdicts(table) == [(0.0, "unsure", "")]


def test_markup_in_names_and_labels_is_text(detections, browser, tmp_path):
    options = ("--review", str(tmp_path / "review.csv"), "--label", HOSTILE)
    with served(detections, *options) as (address, _), tab(browser, address) as page:
        page.locator("img[alt^='Spectrogram of']").nth(1).wait_for()
        assert page.locator("img[src='x']").count() == 0
        assert page.title() == "beats-jax review"
        box = page.get_by_role("combobox", name="No, clip")
        box.fill("<script>document.title='owned'</script>")
        box.press("Enter")
        page.get_by_text("1 of 2 reviewed").wait_for()
        seen(page, "<script>document.title='owned'</script>")
        assert page.title() == "beats-jax review"


def test_a_lost_recording_is_said_and_a_narrow_page_has_no_sideways_scroll(detections, browser, tmp_path):
    with served(detections, "--review", str(tmp_path / "review.csv"), "--label", "owl", "--language", "es") as (address, _):
        context = browser.new_context(viewport={"width": 400, "height": 800})
        page = context.new_page()
        page.goto(address)
        page.get_by_text("Teclas: Y sí").wait_for(timeout=60_000)
        page.get_by_text("0 de 21 revisados").wait_for(timeout=60_000)
        idle(page)
        page.keyboard.press("PageDown")
        page.get_by_text("Página 2 de 2").wait_for(timeout=60_000)
        page.get_by_text("is missing").wait_for(timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        context.close()


def test_attacks_from_other_pages_and_paths_fail(detections, tmp_path):
    with served(detections, "--review", str(tmp_path / "review.csv"), "--label", "owl") as (address, _):
        for path in OUTSIDE:
            body = read(address + path)
            assert b"root:" not in body
            assert b"night_0530" not in body
        host = address.removeprefix("http://")
        assert handshake(host, host, address) == 101
        assert handshake(host, host, "http://evil.example") == 403
        assert handshake(host, f"evil.example:{host.rpartition(':')[2]}", "http://evil.example") == 403  # a name that was rebound
        assert handshake(host, host, "null") == 403
        upload = urllib.request.Request(f"{address}/_stcore/upload_file/a/b", data=b"x", method="PUT")
        assert b"night" not in read(upload)
        with pytest.raises(urllib.error.HTTPError, match=r"4\d\d"):
            urllib.request.urlopen(upload, timeout=10)
        health = urllib.request.Request(f"{address}/_stcore/health", headers={"Origin": "http://evil.example"})
        with urllib.request.urlopen(health, timeout=10) as answer:
            assert answer.headers.get("Access-Control-Allow-Origin") not in ("*", "http://evil.example")


def handshake(place, host, origin):
    """The status of a WebSocket's handshake from a page of `origin`, which calls the server `host`."""
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Origin: {origin}",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "",
        "",
    ]
    name, _, port = place.rpartition(":")
    with socket.create_connection((name, int(port)), timeout=10) as one:
        one.sendall("\r\n".join(lines).encode())
        return int(one.recv(100).split()[1])
