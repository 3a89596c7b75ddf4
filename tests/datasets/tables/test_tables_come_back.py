# ruff: noqa: E501  labels are of any length
"""Every kind of table written and read back: equal, safe for spreadsheets, and refused where it would not come back."""

import csv
import math
import random

import numpy as np
import pytest

from beats_jax.datasets.tables.cells import base_and_factor, decimal, table_names
from beats_jax.datasets.tables.registry import TABLES, Events, ReadOptions, read_events, write_events
from beats_jax.errors import UserError

NAN = math.nan


def rows(events):
    return list(zip(*(column.tolist() for column in events.columns().values()), strict=True))


def assert_rows(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one[0], one[3]) == (other[0], other[3])
        np.testing.assert_array_equal([one[1], one[2], *one[4:]], [other[1], other[2], *other[4:]])


LABELS = [
    "Turdus merula", "=cmd|' /C calc'!A0", "+1", "-call", "@x", "'=quoted", "''+", 'say "hi"', "a,b;c", "Zauneidechse \u00e4\u00f6\u00fc \u9ce5 \U0001f426",
    "", "x" * 5000, "a\u2028b", "0.5", "a;0.9", "#hash", "sep=;", "nan", "\uff1dwide", "a_b", "\\",
]  # fmt: skip
FILES = [
    "/d/a.wav",
    "/d/sub dir/b,c.flac",
    "/d/sub dir/=x.wav",
    '/d/\u00e9 "q".wav',
    "/d/sub/a.wav",
    "/d/sub/A.flac",
    "/d/-m.mp3",
]
KEEPS = {  # what a kind cannot hold
    "audacity": ("score",), "hawkears": ("low_hz", "high_hz"), "birdnet": ("low_hz", "high_hz"),
}  # fmt: skip


def generate(seed, labels=LABELS, files=FILES):
    draw = random.Random(seed)
    count = draw.choice([0, 1, 2, 30])
    starts = [round(draw.uniform(0, 3600), draw.choice([0, 3, 6])) for _ in range(count)]
    ends = [round(start + draw.choice([0, draw.uniform(0, 9)]), 6) for start in starts]
    bounds = [(NAN, NAN) if draw.random() < 0.3 else (draw.uniform(0, 900), draw.uniform(1000, 1e5)) for _ in range(count)]
    return Events.from_columns(
        [draw.choice(files) for _ in range(count)], starts, [max(pair) for pair in zip(starts, ends, strict=True)],
        [draw.choice(labels) for _ in range(count)], scores=[draw.choice([NAN, draw.random(), 1e-9, -3.5]) for _ in range(count)],
        low_hz=[low for low, _ in bounds], high_hz=[high for _, high in bounds],
    )  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("seed", range(8))
def test_every_kind_comes_back(tmp_path, kind, seed):
    events = generate(seed)
    written = write_events(events, tmp_path, [kind], dict.fromkeys(FILES, 3700.0))
    if kind == "audacity":  # a track has no name of its recording
        names = table_names(FILES, ".labels.txt")
        parts = [read_events(tmp_path / "audacity" / names[file], kind, ReadOptions(recording=file)) for file in FILES]
    elif kind == "raven":
        parts = [read_events(path, kind) for path in written[:-1]]
    else:
        parts = [read_events(path, kind) for path in written]
    lost = {name: np.full(len(events), NAN) for name in KEEPS.get(kind, ())}
    kept = Events.from_columns(**{
        "files": events.files, "starts": events.starts, "ends": events.ends, "labels": events.labels,
        "scores": lost.get("score", events.scores), "low_hz": lost.get("low_hz", events.low_hz), "high_hz": lost.get("high_hz", events.high_hz),
    })  # fmt: skip
    found = Events.concatenate(parts)
    by_place = lambda event: repr(event)  # noqa: E731
    assert_rows(sorted(rows(found), key=by_place), sorted(rows(kept), key=by_place))


@pytest.mark.parametrize("seed", range(4))
def test_cumulative_raven_table(tmp_path, seed):
    """Begin Time runs on, File Offset does not, and both give the same place."""
    events = generate(seed)
    lengths = {file: 3700.0 + 100 * place for place, file in enumerate(FILES)}
    path = write_events(events, tmp_path, ["raven"], lengths)[-1]
    found = read_events(path)
    assert len(found) == len(events)
    order = {file: place for place, file in enumerate(FILES)}
    rows_in_order = sorted(range(len(events)), key=lambda row: order[events.files[row]])
    expected = events.take(np.array(rows_in_order, int))
    assert found.files.tolist() == expected.files.tolist()
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_array_equal(found.starts, expected.starts)
    np.testing.assert_allclose(found.ends, expected.ends, atol=1e-6, rtol=0)
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[1:] if line]
    begun = np.cumsum([0.0, *lengths.values()])
    for number, (line, row) in enumerate(zip(lines, rows_in_order, strict=True), start=1):
        assert int(line[0]) == number
        assert float(line[3]) == begun[order[events.files[row]]] + events.starts[row]


def test_nothing_written_is_a_formula(tmp_path):
    events = generate(3)
    for path in write_events(
        events, tmp_path, ["csv", "raven", "kaleidoscope", "birdnet", "hawkears", "audacity"], dict.fromkeys(FILES, 3700.0)
    ):
        separator = "\t" if path.suffix == ".txt" else ","
        with path.open(encoding="utf-8", newline="") as file:
            cells = [
                cell
                for row in csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE if separator == "\t" else 0)
                for cell in row
            ]
        assert not [cell for cell in cells if cell[:1] in "=+-@\t\r" and cell and not _is_number(cell)]


def _is_number(cell):
    try:
        return float(cell) is not None
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("kind", "label"),
    [("raven", "a\tb"), ("raven", "a\nb"), ("audacity", "a\tb"), ("csv", "a\rb"), ("csv", "a\0b")],
)
def test_texts_that_would_not_come_back_are_refused(tmp_path, kind, label):
    events = Events.from_columns(["/d/a.wav"], [0], [1], [label])
    with pytest.raises(UserError, match="cannot be written"):
        write_events(events, tmp_path, [kind], {"/d/a.wav": 9.0})
    with pytest.raises(UserError, match="none of the 1 recordings"):
        write_events(Events.from_columns(["/d/b.wav"], [0], [1], ["x"]), tmp_path, ["raven"], {"/d/a.wav": 9.0})


def test_names_of_tables_do_not_collide():
    names = table_names(["/d/x/a.wav", "/d/x/a.flac", "/d/y/a.wav", "/d/x/B.wav", "/d/x/b.wav"], ".t")
    assert len({str(name).casefold() for name in names.values()}) == 5
    assert str(names["/d/y/a.wav"]) == "y/a.t"
    assert str(names["/d/x/a.flac"]) == "x/a.flac.t"


def test_numbers_and_units():
    assert [decimal(value) for value in (1e-7, 12.0, 0.1, NAN, 1e20)] == [
        "0.0000001",
        "12.0",
        "0.1",
        "",
        "100000000000000000000.0",
    ]
    assert base_and_factor("Low Freq (kHz)") == ("low freq", 1000)
    assert base_and_factor("start_ms") == ("start", 0.001)
    assert base_and_factor("Begin Time (s)") == ("begin time", 1)
    assert base_and_factor("class") == ("class", 1)


def test_events_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="rows"):
        Events.from_columns(["a"], [0, 1], [1, 2], ["x"])
    with pytest.raises(ValueError, match="finite"):
        Events.from_columns(["a"], [1], [0], ["x"])
    events = generate(7)
    assert events.to_pandas().equals(Events.from_pandas(events.to_pandas()).to_pandas())
    assert rows(events.take(np.arange(len(events)) < 0)) == []
