# ruff: noqa: E501  headers are whole lines of other programs
"""Tables as the programs write them, read by hand; and every kind written and read back."""

import csv
import math
import random

import numpy as np
import pytest

from beats_jax.datasets.tables.cells import base_and_factor, decimal, table_names
from beats_jax.datasets.tables.registry import TABLES, Events, ReadOptions, kind_of, read_events, write_events
from beats_jax.errors import UserError

NAN = math.nan
RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tDelta Time (s)\tSpecies\tNotes\n"
    '1\tWaveform 1\t1\t12.5\t14.0\t\t\t1.5\tGreat Tit\t"clear\n'
    '1\tSpectrogram 1\t1\t12.5\t14.0\t2000\t6000\t1.5\tGreat Tit\t"clear\n'
    "2\tSpectrogram 1\t1\t30.1\t31.0\t1000.5\t4000\t0.9\tParus major\t\n"
)
RAVEN_MANY = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\tFile Offset (s)\tAnnotation\n"
    "1\tSpectrogram 1\t1\t5.0\t6.0\t1000\t3000\ta.wav\t5.0\tEuropean Robin\n"
    "2\tSpectrogram 1\t1\t65.1\t66.6\t1000\t3000\tb.wav\t5.1\tWren\n"
)
BIRDNET_RAVEN = (
    "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\tScientific Name\tSpecies Code\tConfidence\tView\tChannel\tFile Offset (s)"
    "\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin Path\n"
    "1\t0.0\t3.0\tEurasian Blackbird\tTurdus merula\teurbla\t0.8123\tSpectrogram 1\t1\t0.0\t0\t15000\t/data/rec1.wav\n"
    "3\t60.0\t63.0\tEurasian Blue Tit\tCyanistes caeruleus\teubtit\t0.9101\tSpectrogram 1\t1\t0.0\t0\t15000\t/data/rec2.wav\n"
)
KALEIDOSCOPE_ID = (
    "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,AUTO ID*,PULSES,MATCHING,Fc,Fmax,Fmin,MANUAL ID\n"
    "D:\\bats,night1,S4U0001_20240701_213000.wav,0,0,5,PIPPIP,12,10,45.1,60.5,44.25,\n"
    "D:\\bats,night1,S4U0001_20240701_213100.wav,0,1.5,2.5,PIPPIP,12,10,45.1,,,MYODAU\n"
)
FOREIGN = {  # name of the file → text, kind, rows as (file, start, end, label, score, low, high)
    "rec1.Table.1.selections.txt": (RAVEN, "raven", [
        ("rec1", 12.5, 14.0, "Great Tit", NAN, 2000, 6000), ("rec1", 30.1, 31.0, "Parus major", NAN, 1000.5, 4000)]),
    "deployment.selections.txt": (RAVEN_MANY, "raven", [
        ("a.wav", 5.0, 6.0, "European Robin", NAN, 1000, 3000), ("b.wav", 5.1, 6.6, "Wren", NAN, 1000, 3000)]),
    "BirdNET_SelectionTable.txt": (BIRDNET_RAVEN, "raven", [
        ("/data/rec1.wav", 0, 3, "Eurasian Blackbird", 0.8123, 0, 15000), ("/data/rec2.wav", 0, 3, "Eurasian Blue Tit", 0.9101, 0, 15000)]),
    "BirdNET_CombinedTable.csv": (
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n0.0,3.0,Turdus merula,Eurasian Blackbird,0.8123,/data/rec1.wav\n",
        "csv", [("/data/rec1.wav", 0, 3, "Eurasian Blackbird", 0.8123, NAN, NAN)]),
    "BirdNET_RTable.csv": (
        "filepath,start,end,scientific_name,common_name,confidence,lat,lon,week,overlap\n"
        "/data/rec1.wav,0.0,3.0,Turdus merula,Eurasian Blackbird,0.8123,-1,-1,-1,0.0\n",
        "csv", [("/data/rec1.wav", 0, 3, "Eurasian Blackbird", 0.8123, NAN, NAN)]),
    "rec9.BirdNET.results.csv": (
        "Start (s),End (s),Scientific name,Common name,Confidence\n0.0,3.0,Turdus merula,Eurasian Blackbird,0.8123\n",
        "csv", [("rec9", 0, 3, "Eurasian Blackbird", 0.8123, NAN, NAN)]),
    "BirdNET_Kaleidoscope.csv": (
        "OFFSET,confidence,INDIR,FOLDER,IN FILE,DURATION,TOP1MATCH\n3.0,0.4411,/data,site1,rec1.wav,3.0,European Robin\n",
        "kaleidoscope", [("/data/site1/rec1.wav", 3, 6, "European Robin", 0.4411, NAN, NAN)]),
    "id.csv": (KALEIDOSCOPE_ID, "kaleidoscope", [
        ("D:\\bats\\night1\\S4U0001_20240701_213000.wav", 0, 5, "PIPPIP", NAN, 44250, 60500),
        ("D:\\bats\\night1\\S4U0001_20240701_213100.wav", 1.5, 4.0, "MYODAU", NAN, NAN, NAN)]),
    "cluster.csv": (
        "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmean,Fmax,DATE,TIME,HOUR,TOP1MATCH,TOP1DIST,MANUAL ID\n"
        "/d,,a.wav,0,10.25,1.5,2437.5,3000,4125,2024-07-01,21:30:00,21,cluster7,0.31,\n",
        "kaleidoscope", [("/d/a.wav", 10.25, 11.75, "cluster7", NAN, 2437.5, 4125)]),
    "scores.csv": (
        "recording,name,start_time,end_time,score\nmarsh,COYE,1.250,4.250,0.912\n",
        "csv", [("marsh", 1.25, 4.25, "COYE", 0.912, NAN, NAN)]),
    "birdcode.txt": (
        "Begin Time (s)\tEnd Time (s)\tSpecies\tScore\n3.8157894736842106\t5.7894736842105265\tCorvus brachyrhynchos\t0.6134416\n",
        "raven", [("birdcode", 3.8157894736842106, 5.7894736842105265, "Corvus brachyrhynchos", 0.6134416, NAN, NAN)]),
    "europe.csv": (
        "\ufeffFile;Start (sec);End (sec);Class;Probability;Low Freq (kHz)\nrec.wav;1,5;2,5;Blue Tit;0,42;1,25\n",
        "csv", [("rec.wav", 1.5, 2.5, "Blue Tit", 0.42, 1250, NAN)]),
    "track.txt": (
        "0.101385\t0.367520\tSP\n\\\t6441.064453\t12296.577148\n0.5\t0.5\t\n1,25\t2\tCRER\n\\\t-1\t8000\n2\t3\tx\t0.75\n",
        "audacity", [("track", 0.101385, 0.36752, "SP", NAN, 6441.064453, 12296.577148), ("track", 0.5, 0.5, "", NAN, NAN, NAN),
                     ("track", 1.25, 2, "CRER", NAN, NAN, 8000), ("track", 2, 3, "x", 0.75, NAN, NAN)]),
    "empty.csv": ("Start (s),End (s),Scientific name,Common name,Confidence,File\n", "csv", []),
    "empty.selections.txt": ("Selection\tView\tBegin Time (s)\tEnd Time (s)\tAnnotation\n", "raven", []),
    "quiet.labels.txt": ("", "audacity", []),
}  # fmt: skip


def rows(events):
    return list(zip(*(column.tolist() for column in events.columns().values()), strict=True))


def assert_rows(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one[0], one[3]) == (other[0], other[3])
        np.testing.assert_array_equal([one[1], one[2], *one[4:]], np.array([other[1], other[2], *other[4:]], float))


@pytest.mark.parametrize("name", FOREIGN)
def test_tables_of_other_programs(tmp_path, name):
    text, kind, expected = FOREIGN[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert kind_of(tmp_path / name) == kind
    found = rows(read_events(tmp_path / name))
    assert_rows(found, expected)


def test_windows_line_ends_change_nothing(tmp_path):
    for name, (text, _, _) in FOREIGN.items():
        (tmp_path / name).write_bytes(text.encode())
        unix = rows(read_events(tmp_path / name))
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode())
        assert_rows(rows(read_events(tmp_path / name)), unix)


def test_spinetail(shared):
    """The label file that scikit-maad ships; its first and last lines by hand."""
    found = read_events(shared / "data/spinetail/spinetail.audacity.txt", options=ReadOptions(recording="spinetail.flac"))
    text = (shared / "data/spinetail/spinetail.audacity.txt").read_text()
    assert len(found) == sum(not line.startswith("\\") for line in text.splitlines() if line)
    assert set(found.labels.tolist()) == {"SP", "CRER"}
    assert (found.starts[0], found.high_hz[0]) == (0.101385, 12296.577148)


def test_finch_and_bats(shared):
    finch = read_events(shared / "data/finch/annotations.csv")
    assert len(finch) == 1379
    assert np.isnan(finch.scores).all()
    bats = read_events(shared / "data/bats/annotations.csv")
    assert len(bats) == 44
    assert (bats.low_hz[0], bats.high_hz[0], bats.labels[0]) == (33203, 107492, "Myotis mystacinus")


def test_hawkears_label_tracks(tmp_path):
    (tmp_path / "marsh_scores.txt").write_text("2\t4\tMAWR;0.88\n5.5\t8\tCistothorus palustris;1\n")
    assert_rows(
        rows(read_events(tmp_path / "marsh_scores.txt", "hawkears")),
        [("marsh", 2, 4, "MAWR", 0.88, NAN, NAN), ("marsh", 5.5, 8, "Cistothorus palustris", 1, NAN, NAN)],
    )


def test_a_table_of_one_recording_finds_it(tmp_path):
    (tmp_path / "rec1.Table.1.selections.txt").write_text(RAVEN)
    (tmp_path / "rec1.FLAC").touch()
    (tmp_path / "rec10.wav").touch()
    assert set(read_events(tmp_path / "rec1.Table.1.selections.txt").files.tolist()) == {str(tmp_path / "rec1.FLAC")}
    (tmp_path / "rec1.wav").touch()
    with pytest.raises(UserError, match=r"rec1\.FLAC or rec1\.wav"):
        read_events(tmp_path / "rec1.Table.1.selections.txt")
    chosen = read_events(tmp_path / "rec1.Table.1.selections.txt", options=ReadOptions(recording="x.wav", label="any"))
    assert set(chosen.files.tolist()) == {"x.wav"}
    assert set(chosen.labels.tolist()) == {"any"}


def test_any_annotation_column(tmp_path):
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAvg Power Density (dB FS)\tCall type"
    path = tmp_path / "a.selections.txt"
    path.write_text(f"{head}\n1\tSpectrogram 1\t1\t0\t1\t-3\tsong\n")
    assert read_events(path).labels.tolist() == ["song"]
    path.write_text(f"{head}\tQuality\n1\tSpectrogram 1\t1\t0\t1\t-3\tsong\tgood\n")
    with pytest.raises(UserError, match="Call type, Quality"):
        read_events(path)
    assert read_events(path, options=ReadOptions(columns={"label": "Quality"})).labels.tolist() == ["good"]


BAD = {
    "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\t0\tx\tsong\n": r"line 2: column 'End Time \(s\)' is 'x'",
    "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n\n1\t07:15:32\t07:15:33\tsong\n": r"line 3: column 'Begin Time \(s\)' .* clock time",
    "Selection\tBegin Clock Time\tEnd Clock Time\tAnnotation\n1\t0\t1\tsong\n": "no column of the start",
    "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\t5\t4\tsong\n": "line 2: an event cannot go from 5 to 4",
    "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\t-1\t4\tsong\n": "line 2: an event cannot go from -1",
    "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tAnnotation\n1\t0\t1\ta.wav\tx\n2\t9\t10\tb.wav\tx\n": "File Offset",
    "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\t0\t1\tsong\tmore\n": "line 2 has 5 cells, the header 4",
    "file,start,end\na.wav,0,1\n": "no column of the label",
    "file,start,end,label\na.wav,0,,x\n": "line 2: column 'end' is blank",
    "file,start,end,label\n,0,1,x\n": "line 2: the name of the recording is blank",
    "file,start,end,label,low_hz,high_hz\na.wav,0,1,x,9,8\n": "line 2: the low frequency 9 Hz",
    "INDIR,IN FILE,OFFSET,TOP1MATCH\n/d,a.wav,1,x\n": "no column 'DURATION'",
    "0\t1\tx\n0\tone\n": "line 2: column 'end' is 'one'",
    "0\t1\tx\n\\\t5\n": "line 2 has frequencies",
}


@pytest.mark.parametrize("text", BAD)
def test_errors_name_file_line_and_column(tmp_path, text):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=BAD[text]) as raised:
        read_events(path)
    assert "bad.txt" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unknown_kinds_and_columns(tmp_path):
    (tmp_path / "a.csv").write_text("file,start,end,label\na.wav,0,1,x\n")
    with pytest.raises(UserError, match="raven"):
        read_events(tmp_path / "a.csv", "ravn")
    with pytest.raises(UserError, match="no column 'Nmae'"):
        read_events(tmp_path / "a.csv", options=ReadOptions(columns={"label": "Nmae"}))
    with pytest.raises(UserError, match="raven"):
        write_events(Events.none(), tmp_path / "out", ["csv", "ravn"], {})
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="does not exist"):
        read_events(tmp_path / "none.csv")


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
    assert rows(events.in_order().take(np.arange(len(events)) < 0)) == []


def test_damaged_tables_give_one_line_of_the_users_error(tmp_path):
    draw = random.Random(0)
    texts = [text.encode() for text, _, _ in FOREIGN.values()]
    for number in range(300):
        damaged = bytearray(draw.choice(texts) or b"x")
        for _ in range(draw.randint(1, 12)):
            place = draw.randrange(len(damaged))
            if number % 3:
                damaged[place] = draw.choice(b'\t\n,;"\\0123456789.-=:\x00\xff\r e')
            else:
                damaged[place:place] = draw.choice([b"\t", b"\n", b'"', b"1e400", b"nan", b"-1", b"\xef\xbb\xbf", b'"\n"'])
        path = tmp_path / draw.choice(["a.txt", "a.csv", "a.selections.txt", "a.parquet"])
        path.write_bytes(bytes(damaged))
        try:
            assert isinstance(read_events(path, draw.choice(["", *TABLES])), Events)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
