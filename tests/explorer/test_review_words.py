"""The review page's texts and arguments, without Streamlit."""

import re
import sys
from pathlib import Path
from string import Formatter

import pytest

import beats_jax
from beats_jax import review
from beats_jax.command_line import run_verb
from beats_jax.explorer import server
from beats_jax.explorer.arguments import LANGUAGES
from beats_jax.explorer.refining.words import WORDS as REFINE_WORDS
from beats_jax.explorer.reviewing.arguments import cluster_arguments, parser, review_arguments
from beats_jax.explorer.reviewing.words import WORDS, ReviewWords
from beats_jax.pipelines.reviewing.order import ORDERS

VIEWS = Path(beats_jax.__file__).parent / "explorer"
TABLE = "file,start,end,label,score\na.wav,0,1,owl,0.5\n"


def test_every_text_is_there_in_every_language_with_the_same_values():
    for key, texts in (*WORDS.items(), *REFINE_WORDS.items()):
        assert set(texts) == set(LANGUAGES), key
        values = {tuple(sorted(name for _, name, _, _ in Formatter().parse(text) if name)) for text in texts.values()}
        assert len(values) == 1, key
    assert ReviewWords("es")("page", page=1, pages=2) == "Página 1 de 2"


def test_every_text_that_the_page_names_is_there_and_none_is_left_over():
    code = "\n".join((VIEWS / "reviewing" / f"{name}.py").read_text(encoding="utf-8") for name in ("page", "view", "keys"))
    named = set(re.findall(r"words\(\s*[\"'](\w+)[\"']", code))
    assert named | set(ORDERS) | {"yes", "no", "unsure"} <= WORDS.keys()
    others = {key for key in WORDS if not key.startswith("said_") and key not in {*ORDERS, "yes", "no", "unsure"}}
    assert [key for key in others if not re.search(rf"[\"']{key}[\"']", code)] == []


def test_the_table_of_verdicts_lies_beside_the_detections(tmp_path):
    table = tmp_path / "found.csv"
    table.write_text(TABLE)
    for place in (table, tmp_path):
        assert review_arguments(parser().parse_args(["--detections", str(place)])).review == tmp_path / "review.csv"
    given = parser().parse_args(["--detections", str(table), "--review", "x.csv", "--reviewer", "ana"])
    assert (review_arguments(given).review, review_arguments(given).reviewer, given.address) == (
        Path("x.csv"),
        "ana",
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--detections", "nowhere"],
        ["--detections", "TABLE", "--context", "31"],
        ["--detections", "TABLE", "--order", "diverse"],
        ["--detections", "TABLE", "--of", "windows"],
        ["--detections", "TABLE", "--audio", "nowhere"],
        ["--detections", "TABLE", "--port", "99999"],
    ],
)
def test_mistakes_end_in_one_line(argv, tmp_path, monkeypatch, capsys):
    table = tmp_path / "found.csv"
    table.write_text(TABLE)
    monkeypatch.setattr(server, "find_spec", lambda name: True)
    assert run_verb(review.verb, [str(table) if text == "TABLE" else text for text in argv]) == 2
    assert re.fullmatch(r"error: [^\n]+\n", capsys.readouterr().err)


def test_a_table_that_cannot_be_added_to_is_refused_at_the_start(tmp_path, monkeypatch, capsys):
    (tmp_path / "found.csv").write_text(TABLE)
    (tmp_path / "review.csv").write_text("file;start;end;label;verdict\na.wav;0;1;owl;yes\n")
    monkeypatch.setattr(server, "find_spec", lambda name: True)
    assert run_verb(review.verb, ["--detections", str(tmp_path / "found.csv"), "--port", "0"]) == 2
    assert "another header" in capsys.readouterr().err


def test_without_streamlit_the_remedy_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    assert run_verb(review.verb, ["--detections", str(tmp_path)]) == 2
    assert "beats-jax[ui]" in capsys.readouterr().err
    assert "streamlit" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clusters", "found", "--label", "owl"], "--label has no use with --clusters"),
        (["--clusters", "found", "--detections", "found"], "are two pages"),
        (["--clusters", "found", "--context", "99"], "--context is 99"),
        (["--clusters", "nowhere"], "holds no regions.csv; give the --output of python -m beats_jax.discover"),
        ([], "give --detections, an output of detect or a table of events, or --clusters"),
    ],
)
def test_arguments_of_the_page_of_clusters(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(server, "require_streamlit", lambda: None)
    monkeypatch.setattr(server, "require_free", lambda address, port: None)
    assert run_verb(review.verb, arguments) == 2
    assert message in capsys.readouterr().err
    assert cluster_arguments(parser().parse_args(["--clusters", "found"])).context == 0.3
