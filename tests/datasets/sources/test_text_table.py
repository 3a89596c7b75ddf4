"""Tables as texts: pandas as second reader, what stands above the header, line numbers, and tables that are no tables."""

import csv
import gzip
import io
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beats_jax.datasets.sources.text_table import Table, read_table
from beats_jax.errors import UserError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_cells_are_those_that_pandas_reads(tmp_path: Path, separator: str, line_end: str) -> None:
    rng = np.random.default_rng(0)
    parts = ["a", "ö", "7", ",", ";", '"', " x", "\n", "鳥", "\t|"]
    cells = ["".join(rng.choice(parts, rng.integers(1, 6))).strip() or "x" for _ in range(4 * 200)]
    rows = [["file", "label", "n", "t"], *(cells[i : i + 4] for i in range(0, len(cells), 4))]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=line_end).writerows(rows)
    path = written(tmp_path, text.getvalue())
    frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    assert read_table(path) == {name: [cell.strip() for cell in frame[name]] for name in frame.columns}


ABOVE = {
    "nothing": "",
    "the separator": "sep=;\n",
    "the separator as Excel saves it again": '"sep=;"\r\n',
    "comments": "# made by hand, in 2024\n#\n\n",
    "both": "\ufeffsep=;\n# site A\n",
}


@pytest.mark.parametrize("above", ABOVE.values(), ids=ABOVE)
def test_what_stands_above_the_header_is_no_row_and_lines_are_counted(tmp_path: Path, above: str) -> None:
    text = (
        above + 'filename;label;note\na.wav;owl;"two\nlines, of; text"\n\n# not sure of the next\n;;\nb.wav;wren;\n#1.wav;owl;x\n'
    )
    table = read_table(written(tmp_path, text))
    assert table == {
        "filename": ["a.wav", "b.wav", "#1.wav"],
        "label": ["owl", "wren", "owl"],
        "note": ["two\nlines, of; text", "", "x"],
    }
    assert table.decimal_comma
    lines = text.splitlines()
    assert [lines[number - 1][:6] for number in table.lines] == ["a.wav;", "b.wav;", "#1.wav"]


def test_a_separator_that_is_named_wins(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "sep=|\nf,x|l\na,b|owl\n")) == {"f,x": ["a,b"], "l": ["owl"]}
    assert read_table(written(tmp_path, '"a;b;c",l\nx,owl\n')) == {"a;b;c": ["x"], "l": ["owl"]}


def test_columns_without_a_name_and_of_one_name(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, ",f,x,x,\n0,a.wav,1,2,\n1,b.wav,3,4\n"))
    assert table == {"column 1": ["0", "1"], "f": ["a.wav", "b.wav"], "x": ["1", "3"], "x.4": ["2", "4"], "column 5": ["", ""]}
    assert table.repeated == {"x"}


def test_formulas_come_back(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "f,'=l\n'=a.wav,'@owl\n-5,'tis\n"))
    assert table == {"f": ["=a.wav", "-5"], "=l": ["@owl", "'tis"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f,l\na,x\nb\0,y\n", "line 3 holds a NUL"),
        ('f,l\na,x\n"b,y\nc,z\n', "line 3 cannot be read: a quote is not closed"),
        ('f,l\na,"x', "line 2 cannot be read: a quote is not closed"),
        ('f,l\na,"x\n', "line 2 cannot be read: a quote is not closed"),
        ('f,l\na,x\nb,"' + "y" * 200_000 + '"\n', "line 3 cannot be read: field larger"),
        ("f,l\na,x\n" + ",".join(["b"] * 500_000) + "\nc,y\n", r"line 3 has more cells \(500000\) than the header \(2\)"),
        (",".join(f"c{i}" for i in range(200_000)) + "\n" + ",".join(["1"] * 200_000) + "\n", "200000 columns, at most 16384"),
        ("# only\n\n", "it is empty"),
        ("sep=;\n", "it is empty"),
        ("f,l\n,\n", "has no rows"),
        (gzip.compress(b"f,l\na,x\n" * 9, mtime=0), "is compressed by gzip; unpack it first"),
        (b"f,l\na,\x8b\n", "is not UTF-8 text"),
    ],
)
def test_what_is_no_table_ends_in_a_line_quickly(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = written(tmp_path, text)
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as caught:
            read_table(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))
    assert time.process_time() - began < 3  # 20 s once
    assert peak < 128 << 20  # 736 MiB once


def test_a_table_in_memory_has_no_lines() -> None:
    assert (Table({"a": ["x"]}).lines, Table({}).decimal_comma) == ((), False)
