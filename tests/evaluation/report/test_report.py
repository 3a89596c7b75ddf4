"""The report: well-formed, complete, self-contained, and deaf to hostile names."""

import base64
import dataclasses
import io
import os
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from beats_jax.config.schema import EvaluationConfig, Experiment
from beats_jax.evaluation.metrics.result import evaluate_predictions
from beats_jax.evaluation.report import html
from beats_jax.evaluation.report.examples import ConfusedPair
from beats_jax.evaluation.report.html import audio_uri, text
from beats_jax.evaluation.report.page import Example, write_page
from beats_jax.evaluation.report.run import run_page

HOSTILE = '<script>alert("x")</script>'
NAMES = ("crow", HOSTILE, "Häher 日本 $title ${body}")
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and insists that tags close in order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def sources(self, prefix):
        return [value for name, value in self.attributes if name == "src" and value.startswith(prefix)]


def make_result(num_examples=40, multi_label=False):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (num_examples, 3)) if multi_label else rng.integers(0, 3, num_examples)
    config = EvaluationConfig(bootstrap_resamples=20)
    groups = np.arange(num_examples) // 2
    return evaluate_predictions(labels, rng.dirichlet(np.ones(3), num_examples), NAMES, groups, multi_label, config, 0)


def make_worst(count=2, seconds=1.0):
    waveform = np.sin(np.arange(int(16_000 * seconds))).astype(np.float32)
    return [Example(f"{HOSTILE}{i}.wav", 1.25, NAMES[1], NAMES[0], 0.9, waveform, 16_000) for i in range(count)]


def render(tmp_path, **changes):
    arguments = {
        "title": f"Run {HOSTILE}",
        "result": make_result(),
        "history": [{"step": 1, "train/loss": 1.0, "val/loss": 1.0, "val/accuracy": 0.5}],
        "data_summary": {"recordings": 3, HOSTILE: HOSTILE, "split": {"train": 2, HOSTILE: 1}},
        "settings": dataclasses.asdict(Experiment(name=HOSTILE)),
        "errors": [(f"{HOSTILE}.wav", "truncated"), (os.fsdecode(b"bad\xff.wav"), HOSTILE)],
        "worst_examples": make_worst(),
        "versions": {"jax": "0.10.2", HOSTILE: HOSTILE},
        "command": f"train --x '{HOSTILE}'",
        "class_counts": {"train": {NAMES[0]: 3, HOSTILE: 1}},
    } | changes
    write_page(tmp_path / "report.html", run_page(**arguments))
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    return source, Page(source)


def test_everything_is_in_it_and_nothing_runs_or_is_fetched(tmp_path):
    source, page = render(tmp_path)
    assert "<script" not in source
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(page.tags)
    assert all(value.startswith("data:") for name, value in page.attributes if name in ("src", "href"))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "url(" not in source
    assert "@import" not in source
    assert "default-src 'none'" in source
    shown = "\n".join(page.texts)
    for heading in ("Findings", "Metrics", "Training", "Classes", "Confusions", "Worst errors", "Data", "Bad files", "Settings"):
        assert heading in page.texts
    for expected in (f"{HOSTILE}0.wav at 1.25 s", "Häher 日本 $title ${body}", r"bad\udcff.wav", "truncated", "jax 0.10.2"):
        assert expected in shown
    assert f"train 2, {HOSTILE} 1" in shown
    assert "filterbank.num_mel_bins" in shown
    value = make_result().metrics["accuracy"].value
    assert page.texts.count(f"{value:.3f}") >= 1
    assert page.tags.count("audio") == 2
    assert page.tags.count("img") == 6  # curves, bars, confusions, balance, two spectrograms


def test_players_hold_the_sound(tmp_path):
    _, page = render(tmp_path)
    body = base64.b64decode(page.sources("data:audio/mpeg;base64,")[0].split(",")[1])
    waveform, sample_rate = soundfile.read(io.BytesIO(body), dtype="float32")
    assert sample_rate == 16_000
    assert abs(len(waveform) - 16_000) < 2500  # MP3 comes in whole frames
    peak = np.abs(np.fft.rfft(waveform[2000:12_000])).argmax() * 16_000 / 10_000
    assert peak == pytest.approx(16_000 / (2 * np.pi), abs=3)
    np.testing.assert_allclose(np.sqrt(np.mean(waveform[2000:12_000] ** 2)), np.sqrt(0.5), rtol=0.02)


def test_players_stop_at_the_budget(tmp_path, monkeypatch):
    one = len(audio_uri(make_worst()[0].waveform, 16_000))
    monkeypatch.setattr(html, "AUDIO_BYTES", 2 * one)
    _, page = render(tmp_path, worst_examples=make_worst(3))
    assert page.tags.count("audio") == 2
    assert any("1 of them without sound" in text for text in page.texts)


def test_loud_sound_is_clipped_not_wrapped():
    """At a rate that MP3 does not have: WAV, which holds every sample."""
    body = base64.b64decode(audio_uri(np.array([2.0, -2.0, 0.0]), 96_000).removeprefix("data:audio/wav;base64,"))
    counts, _ = soundfile.read(io.BytesIO(body), dtype="int16")
    assert counts.tolist() == [32767, -32767, 0]


def test_parts_without_content_are_left_out(tmp_path):
    _, page = render(
        tmp_path, history=[], errors=[], worst_examples=[], data_summary=["3 recordings", HOSTILE], class_counts=None
    )
    assert not {"Training", "Worst errors", "Cross-validation"} & set(page.texts)
    assert "None: every file could be used." in page.texts
    assert "3 recordings" in page.texts


def test_unreadable_worst_example_is_still_listed(tmp_path):
    _, page = render(tmp_path, worst_examples=[make_worst()[0]._replace(waveform=None)])
    assert f"{HOSTILE}0.wav at 1.25 s" in page.texts
    assert "audio" not in page.tags


def test_folds_with_mean_and_deviation(tmp_path):
    folds = [{"fold": "1", "n": 80, "accuracy": 0.8, "auroc": None}, {"fold": "2", "n": 80, "accuracy": 0.9, "auroc": None}]
    _, page = render(tmp_path, folds=folds)
    shown = "".join(page.texts)
    assert "Cross-validation" in page.texts
    assert "0.850 ± 0.071" in shown


@pytest.mark.parametrize(
    "changes", [{"result": make_result(multi_label=True)}, {"result": make_result(0)}, {"result": make_result(1)}]
)
def test_multi_label_and_degenerate_results(tmp_path, changes):
    source, page = render(tmp_path, **changes)
    assert "nan" not in "".join(page.texts)
    assert ("Confusions" in page.texts) == (changes["result"].n == 1)
    if changes["result"].multi_label:
        assert "Hits, misses and false alarms" in source
        assert "true: <b>" in source


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(html, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render(tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"


def test_every_class_is_shown_as_heard_and_as_the_model_sees_it(tmp_path, monkeypatch):
    shown = [example._replace(fbank=np.random.default_rng(0).normal(size=(98, 128))) for example in make_worst(3)]
    _, page = render(tmp_path, worst_examples=[], gallery=shown, history=[], class_counts=None)
    assert "Gallery" in page.texts
    assert (page.tags.count("img"), page.tags.count("audio")) == (2 + 6, 3)  # bars and confusions; two pictures of each
    monkeypatch.setattr(html, "PICTURE_BYTES", 0)
    _, page = render(tmp_path, worst_examples=[], gallery=shown, history=[], class_counts=None)
    assert (page.tags.count("img"), page.tags.count("audio")) == (2, 3)
    assert any("3 without pictures" in text for text in page.texts)


def test_frequent_confusions_come_with_clips_and_the_making_with_its_facts(tmp_path):
    pair = ConfusedPair(NAMES[1], HOSTILE, 3, 8, tuple(make_worst(2)))
    source, page = render(tmp_path, worst_examples=[], confused=[pair], provenance={"code": HOSTILE})
    assert f"{NAMES[1]} taken for {HOSTILE}: 3 of 8" in page.texts
    assert f"code: {HOSTILE}" in page.texts
    assert page.tags.count("audio") == 2
    assert "<script" not in source


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("a\u2069\u2068\u202d<b", "a\\u2069\\u2068\\u202d&lt;b"),
        ("نورس & co", "\u2068نورس &amp; co\u2069"),
        ("Häher", "Häher"),
    ],
)
def test_a_name_cannot_turn_the_text_around_it(name, shown):
    assert text(name) == shown
