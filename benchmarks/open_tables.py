"""Tables of events as other programs read them, each in an environment of its own.

    python benchmarks/open_tables.py [--data FOLDER_WITH_AUDIO_AND_ANNOTATIONS] [--crowsetta PYTHON] [--opensoundscape PYTHON]
        [--duckdb PYTHON]

Writes the events of real recordings (annotations.csv: file,start,end,label; scores and frequencies are drawn) and some with
hostile labels as every kind of table, reads each kind back, and gives the folder to the other programs, which must find the same
numbers and labels: crowsetta its formats raven and aud-bbox, opensoundscape `BoxedAnnotations.from_raven_files`, DuckDB
the CSV and the Parquet file. The Raven table of all recordings is checked in both ways in which Raven opens it: Begin Time on the
recordings joined end to end, and File Offset within the file of Begin Path. opensoundscape is imported without the start of its
package, with an empty torch: reading tables needs neither.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.audio.io import audio_info
from beats_jax.datasets.tables.registry import TABLES, Events, read_events, write_events
from beats_jax.spreadsheets import safe_cell

HOSTILE = ("=1+1", "+x", "@SUM(A1)", "-5", "Grünspecht, alt", "'quoted'", "白鹭", "a;b", "?", "two  words", "0", "1e5")

READ_CROWSETTA = """
import json, sys, warnings
warnings.simplefilter("ignore")
import crowsetta
found = {"program": "crowsetta " + crowsetta.__version__, "raven": {}, "audacity": {}}
for name, path in json.load(sys.stdin).items():
    if path.endswith(".selections.txt"):
        boxes = crowsetta.formats.bbox.Raven.from_file(path).to_bbox()
        found["raven"][name] = [[b.onset, b.offset, b.low_freq, b.high_freq, str(b.label)] for b in boxes]
    else:
        boxes = crowsetta.formats.bbox.AudBBox.from_file(path).to_bbox()
        found["audacity"][name] = [[b.onset, b.offset, b.low_freq, b.high_freq, str(b.label)] for b in boxes]
print(json.dumps(found))
"""
READ_OPENSOUNDSCAPE = """
import importlib.machinery, importlib.metadata, importlib.util, json, sys, types
for name in ("torch", "librosa"):
    if importlib.util.find_spec(name) is None:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].Tensor = type("Tensor", (), {})  # scipy asks for it
package = types.ModuleType("opensoundscape")
package.__path__ = importlib.util.find_spec("opensoundscape").submodule_search_locations
sys.modules["opensoundscape"] = package
from opensoundscape.annotations import BoxedAnnotations
found = {"program": "opensoundscape " + importlib.metadata.version("opensoundscape"), "raven": {}}
for name, path in json.load(sys.stdin).items():
    if path.endswith(".selections.txt"):
        table = BoxedAnnotations.from_raven_files([path], annotation_column="Annotation").df
        columns = table[["start_time", "end_time", "low_f", "high_f"]].to_numpy(float).tolist()
        found["raven"][name] = [[*row, str(label)] for row, label in zip(columns, table["annotation"])]
        if "all" in name:
            found["places"] = [[str(p), float(o)] for p, o in zip(table["Begin Path"], table["File Offset (s)"])]
print(json.dumps(found))
"""
READ_DUCKDB = """
import json, sys
import duckdb
paths = json.load(sys.stdin)
found = {"program": "duckdb " + duckdb.__version__}
for name in ("csv", "parquet"):
    query = f"select file, start, "+'"end"'+f", label, score, low_hz, high_hz from '{paths[name]}'"
    found[name] = [list(row) for row in duckdb.sql(query).fetchall()]
print(json.dumps(found))
"""


def make_events(data: Path, recordings: dict[str, float]) -> Events:
    """The annotated events of the first recordings, and one for each hostile label."""
    rng = np.random.default_rng(0)
    table = read_events(data / "annotations.csv")
    rows = [row for row, file in enumerate(table.files.tolist()) if str(data / "audio" / file) in recordings]
    files = [str(data / "audio" / table.files[row]) for row in rows] + [next(iter(recordings))] * len(HOSTILE)
    starts = [*table.starts[rows], *np.linspace(0.1, 0.9, len(HOSTILE)).round(6)]
    ends = [*table.ends[rows], *np.linspace(0.2, 1.0, len(HOSTILE)).round(6)]
    low = rng.uniform(300, 3000, len(files)).round(3)
    bounds = {"low_hz": low, "high_hz": (low + rng.uniform(100, 5000, len(files))).round(3)}
    labels = [*(f"syllable {label}" for label in table.labels[rows]), *HOSTILE]
    return Events.from_columns(files, starts, ends, labels, scores=rng.random(len(files)).round(6), **bounds)


def come_back(events: Events, kind: str, paths: list[Path], recordings: dict[str, float]) -> bool:
    """Whether the tables of a kind hold the same events, but for what the kind has no place for."""
    lost = {"audacity": ("score",), "birdnet": ("low_hz", "high_hz"), "hawkears": ("low_hz", "high_hz")}.get(kind, ())
    found = Events.concatenate([read_events(path, kind) for path in (paths[-1:] if kind == "raven" else paths)]).columns()
    whole = {Path(file).stem: file for file in recordings}  # a label track has no name of its recording
    found["file"] = np.array([whole.get(Path(file).stem, file) for file in found["file"].tolist()])
    rows = []
    for columns in (found, events.columns()):
        kept = [columns[name] for name in columns if name not in lost]
        cells = [column.tolist() if column.dtype.kind in "UT" else column.round(6).tolist() for column in kept]
        rows.append(sorted(zip(*cells, strict=True)))
    return rows[0] == rows[1]


def ask(python: str, program: str, paths: dict[str, str]) -> dict[str, Any]:
    answer = subprocess.run([python, "-c", program], input=json.dumps(paths), capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(answer.stderr[-2000:])
    return json.loads(answer.stdout.splitlines()[-1])


def expected(events: Events, rows: np.ndarray, begun: float = 0.0) -> list[list[Any]]:
    """[start, end, low, high, label as written]: a label that a spreadsheet would run has a quote before it in the file."""
    labels = list(map(safe_cell, events.labels[rows].tolist()))
    numbers = np.column_stack([begun + events.starts, begun + events.ends, events.low_hz, events.high_hz])[rows].tolist()
    return [[*values, label] for values, label in zip(numbers, labels, strict=True)]


def _verdict(same: bool) -> str:
    return "same" if same else "DIFFERENT"


def report(what: str, found: list[list[Any]], wanted: list[list[Any]]) -> int:
    pairs = list(zip(found, wanted, strict=False))
    largest = max((abs(a - b) for one, other in pairs for a, b in zip(one[:4], other[:4], strict=True)), default=0.0)
    labels = [(one[4], other[4]) for one, other in pairs if one[4] != other[4]]
    good = len(found) == len(wanted) and largest < 1e-6 and not labels
    print(
        f"{what}: {len(found)} of {len(wanted)} rows, largest difference {largest:g}, other labels {labels[:4]}: {_verdict(good)}"
    )
    return not good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("shared/data/finch"))
    for name in ("crowsetta", "opensoundscape", "duckdb"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    given = parser.parse_args()
    files = [str(path) for path in sorted((given.data.absolute() / "audio").iterdir())[:6]]
    recordings = {file: audio_info(file).seconds for file in files}
    events = make_events(given.data.absolute(), recordings)
    rows_of = events.rows_of()
    with tempfile.TemporaryDirectory() as temporary:
        written = {kind: write_events(events, Path(temporary) / kind, [kind], recordings) for kind in TABLES}
        faults = 0
        for kind, paths in written.items():
            same = come_back(events, kind, paths, recordings)
            faults += not same
            print(
                f"{kind}: {len(paths)} files, {len(events)} events of {len(recordings)} recordings, read back: {_verdict(same)}"
            )
        tables = {f"raven {place}": str(path) for place, path in enumerate(written["raven"][:-1])}
        tables |= {"raven all": str(written["raven"][-1]), "csv": str(written["csv"][0]), "parquet": str(written["parquet"][0])}
        tracks = {f"audacity {place}": str(path) for place, path in enumerate(written["audacity"])}
        begun = np.cumsum([0.0, *recordings.values()])
        whole = [row for place, file in enumerate(recordings) for row in expected(events, rows_of[file], float(begun[place]))]
        single = {f"raven {place}": expected(events, rows_of[file]) for place, file in enumerate(recordings)}
        for python, program in ((given.crowsetta, READ_CROWSETTA), (given.opensoundscape, READ_OPENSOUNDSCAPE)):
            if python:
                texts = {name: path for name, path in (tables | tracks).items() if path.endswith(".txt")}
                found = ask(python, program, texts)
                answers = found["raven"] | found.get("audacity", {})
                wanted = single | {"raven all": whole} | {f"audacity {k}": rows for k, rows in enumerate(single.values())}
                for name in [name for name in wanted if name in answers]:
                    faults += report(f"{found['program']}: {name}", answers[name], wanted[name])
                if "places" in found:
                    places = [[file, float(events.starts[row])] for file in recordings for row in rows_of[file]]
                    same = found["places"] == places
                    faults += not same
                    print(f"{found['program']}: Begin Path and File Offset of all {len(places)} rows: {_verdict(same)}")
        if given.duckdb:
            found = ask(given.duckdb, READ_DUCKDB, tables)
            for name in ("csv", "parquet"):
                got = [[row[1], row[2], row[5], row[6], row[3]] for row in found[name]]
                wanted = expected(events, np.arange(len(events)))
                plain = [[*row[:4], label] for row, label in zip(wanted, events.labels.tolist(), strict=True)]
                faults += report(f"{found['program']}: {name}", got, wanted if name == "csv" else plain)
    print(f"faults: {faults}")
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
