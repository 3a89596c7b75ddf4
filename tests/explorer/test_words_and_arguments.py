"""The page's texts and arguments, without Streamlit."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from string import Formatter

import pytest

import beats_jax
from beats_jax import explore
from beats_jax.command_line import run_verb
from beats_jax.errors import UserError
from beats_jax.explorer.arguments import LANGUAGES, page_arguments, parser
from beats_jax.explorer.words import NAMES, WORDS, Words

VIEWS = Path(beats_jax.__file__).parent / "explorer"


def test_every_text_is_there_in_every_language_with_the_same_values() -> None:
    assert set(NAMES) == set(LANGUAGES)
    for key, texts in WORDS.items():
        assert set(texts) == set(LANGUAGES), key
        assert all(text.strip() for text in texts.values()), key
        values = {tuple(sorted(name for _, name, _, _ in Formatter().parse(text) if name)) for text in texts.values()}
        assert len(values) == 1, key


def test_every_text_that_a_view_names_is_in_the_table_and_none_is_left_over() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in VIEWS.glob("*.py") if path.name != "words.py")
    named = set(re.findall(r"words\(\s*[\"'](\w+)[\"']", code))
    assert named <= WORDS.keys()
    by_kind = ("note_", "method_", "colour_", "group_", "view_", "mouse_")
    assert [key for key in WORDS if not re.search(rf"[\"']{key}[\"']", code) and not key.startswith(by_kind)] == []
    assert Words("es")("selection", count=3) == "Ventanas seleccionadas: 3"


def test_the_flags_of_seed_000_are_understood(tmp_path: Path) -> None:
    given = ["--data_dir", str(tmp_path), "--checkpoint_path", "checkpoint.pt", "--max_samples", "1000"]
    settings = page_arguments(parser().parse_args(given)).settings
    assert (settings.data, settings.model, settings.max_samples) == (str(tmp_path), "checkpoint.pt", 1000)


def test_the_server_binds_to_this_machine_and_bounds_uploads() -> None:
    parsed = parser().parse_args(["--data", "x"])
    command = explore.server_command(["--data", "x"], parsed.address, parsed.port, parsed.max_upload)
    assert "--server.address=127.0.0.1" in command
    assert "--server.maxUploadSize=200" in command
    assert "--browser.gatherUsageStats=false" in command
    assert command[command.index("--") + 1 :] == ["--data", "x"]


@pytest.mark.parametrize("argv", [[], ["--data", "nowhere"], ["--data", ".", "--max-samples", "0"], ["--language", "fr"]])
def test_mistakes_end_in_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(explore.verb, argv) == 2
    assert re.fullmatch(r"error: [^\n]+\n", capsys.readouterr().err)


def test_a_port_in_use_or_none_is_refused_before_anything_is_embedded() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (other.getsockname()[1], 70_000):
            with pytest.raises(UserError, match="--port"):
                explore.require_free("127.0.0.1", port)


def test_without_streamlit_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    assert run_verb(explore.verb, ["--data", str(tmp_path)]) == 2
    assert "streamlit" not in sys.modules
