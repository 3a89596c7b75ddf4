# ruff: noqa: E501  headers are whole lines of other programs
"""Tables as the programs write them, read by hand; and every kind written and read back."""

import io
import math
import random

import numpy as np
import pandas as pd
import pytest

from beats_jax.audio.io import write_wav
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


def test_windows_line_ends_and_its_byte_order_mark_change_nothing(tmp_path):
    for name, (text, _, _) in FOREIGN.items():
        (tmp_path / name).write_bytes(text.encode())
        unix = rows(read_events(tmp_path / name))
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode())
        assert_rows(rows(read_events(tmp_path / name)), unix)
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.removeprefix("\ufeff").encode())
        assert_rows(rows(read_events(tmp_path / name)), unix)


def test_labels_with_frequencies_on_a_line_of_their_own(tmp_path):
    """The first labels of the spinetail's file in scikit-maad."""
    (tmp_path / "song.txt").write_text(
        "0.101385\t0.367520\tSP\n\\\t6441.064453\t12296.577148\n0.506924\t3.041545\tCRER\n\\\t2593.156006\t8866.920898\n"
    )
    found = read_events(tmp_path / "song.txt", options=ReadOptions(recording="spinetail.flac"))
    assert_rows(
        rows(found),
        [
            ("spinetail.flac", 0.101385, 0.36752, "SP", NAN, 6441.064453, 12296.577148),
            ("spinetail.flac", 0.506924, 3.041545, "CRER", NAN, 2593.156006, 8866.920898),
        ],
    )


def test_a_csv_with_and_without_frequencies(tmp_path):
    (tmp_path / "finch.csv").write_text("file,start,end,label\n0.flac,1.07,1.154,0\n")
    assert_rows(rows(read_events(tmp_path / "finch.csv")), [("0.flac", 1.07, 1.154, "0", NAN, NAN, NAN)])
    (tmp_path / "bats.csv").write_text("file,start,end,low_hz,high_hz,label\na.wav,0.0225,0.028,33203,107492,Myotis mystacinus\n")
    assert_rows(rows(read_events(tmp_path / "bats.csv")), [("a.wav", 0.0225, 0.028, "Myotis mystacinus", NAN, 33203, 107492)])


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


def test_raven_events_without_frequencies_have_those_of_the_recording(tmp_path):
    """crowsetta and opensoundscape refuse a table without the columns, and crowsetta blank cells."""
    write_wav(tmp_path / "a.wav", np.zeros(800, np.float32), 24_000)
    file = str(tmp_path / "a.wav")
    events = Events.from_columns([file, file], [0, 1], [1, 2], ["x", "y"], low_hz=[NAN, 500], high_hz=[NAN, NAN])
    for path in write_events(events, tmp_path, ["raven"], {file: 2.0}):
        found = read_events(path)
        assert (found.low_hz.tolist(), found.high_hz.tolist()) == ([0, 500], [12_000, 12_000])


RUN_ON = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tSpecies\n"
    "1\tWaveform 1\t1\t602\t603\tC:\\a\\b.wav\t2\towl\n"
    "1\tSpectrogram 1\t1\t602\t603\tC:\\a\\b.wav\t2\towl\n"
    "2\tSpectrogram 1\t1\t1204\t1205.5\tC:\\a\\c.wav\t4\towl\n"
)


@pytest.mark.parametrize("form", ["commas", "semicolons", "quotes", "small letters", "no unit", "parquet"])
def test_a_table_of_ravens_counts_once_and_within_its_files_however_it_was_saved(tmp_path, form):
    path = tmp_path / ("a.parquet" if form == "parquet" else "a.csv")
    quoted = "\n".join("\t".join(f'"{cell}"' for cell in line.split("\t")) for line in RUN_ON.splitlines())
    texts = {
        "commas": RUN_ON.replace("\t", ","),
        "semicolons": RUN_ON.replace("\t", ";"),
        "quotes": quoted,  # write.table of R
        "small letters": RUN_ON.replace("Begin Time", "begin time").replace("Offset", "offset").replace("View", "view"),
        "no unit": RUN_ON.replace("Offset (s)", "Offset"),
    }
    if form == "parquet":
        pd.read_csv(io.StringIO(RUN_ON), sep="\t").to_parquet(path)
    else:
        path.write_text(texts[form])
    found = read_events(path)
    assert [*zip(found.files, found.starts, found.ends, strict=True)] == [("C:\\a\\b.wav", 2, 3), ("C:\\a\\c.wav", 4, 5.5)]


AMBIGUOUS = {
    "file,start,end,label,label\na.wav,1,2,owl,crow\n": "several columns 'label', the label",
    "Selection\tBegin Time (s)\tEnd Time (s)\tSpecies\tSpecies\n1\t1\t2\towl\tcrow\n": "several columns 'Species', the label",
    "file,start,Start (s),end,label\na.wav,1,5,7,owl\n": "'start' and 'Start \\(s\\)' may both be the start",
    "sound,start,end,label\nx.wav,1,2,owl\ny.wav,1,2,owl\n": "column 'sound' holds names of recordings, 'x.wav' first",
    "name,start,end,species\nx.wav,1,2,owl\n": "column 'name' holds names of recordings",
}


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_columns_that_may_mean_two_things_are_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=AMBIGUOUS[text]):
        read_events(tmp_path / "a.csv")


def test_a_column_of_recordings_of_any_usual_name_counts_beside_ravens_times(tmp_path):
    (tmp_path / "a.txt").write_text("Begin Time (s)\tEnd Time (s)\tFile\tSpecies\n1\t2\tx.wav\towl\n1\t2\ty.wav\towl\n")
    assert read_events(tmp_path / "a.txt").files.tolist() == ["x.wav", "y.wav"]


def test_tables_of_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\n")
    (tmp_path / "b.csv").write_text("sep=;\nfile;start;end;label\n")
    (tmp_path / "c.csv").write_text("# a comment\nfile,start,end,label\n")
    assert [len(read_events(tmp_path / name)) for name in ("a.txt", "b.csv", "c.csv")] == [0, 0, 0]


def test_hawkears_label_tracks_are_known_by_their_labels(tmp_path):
    (tmp_path / "a.txt").write_text("0\t3\tBDOW;0.91\n3\t6\tBDOW;1.00\n")
    found = read_events(tmp_path / "a.txt")
    assert (found.labels.tolist(), found.scores.tolist()) == (["BDOW", "BDOW"], [0.91, 1.0])


def test_bounds_of_opensoundscape(tmp_path):
    (tmp_path / "a.csv").write_text(
        "audio_file,annotation_file,annotation,start_time,end_time,low_f,high_f\na.wav,a.txt,owl,1,2,300,900\n"
    )
    assert_rows(rows(read_events(tmp_path / "a.csv")), [("a.wav", 1.0, 2.0, "owl", NAN, 300.0, 900.0)])
