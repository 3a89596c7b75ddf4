"""Decisions on clusters: what follows from them, and that no region is ever lost or doubled."""

import numpy as np
import pytest

from beats_jax.datasets.tables.refinements import (
    BEGIN,
    DROP,
    DROPPED,
    MERGE,
    MOVE,
    NAME,
    NAMED,
    SPLIT,
    UNDO,
    Refinement,
    read_refinements,
    refine,
    refinement_lines,
    rows_text,
)
from beats_jax.errors import UserError

NAMES = ["c01", "c02", "c01", "unclustered", "c03", "c02", "c01", "c03"]
SPLIT_C01 = Refinement(SPLIT, "c01", "2", ((0, 6), (2,)))


def state(*lines):
    """{id: (name, status, rows)} after the lines."""
    found = refine(NAMES, [Refinement(BEGIN, value="hash"), *lines])
    return {key: (one.name, one.status, one.rows.tolist()) for key, one in found.clusters.items()}


def test_each_decision_does_what_it_says():
    assert state() == {"c01": ("c01", "open", [0, 2, 6]), "c02": ("c02", "open", [1, 5]), "c03": ("c03", "open", [4, 7])}
    assert state(Refinement(NAME, "c02", "great tit"))["c02"] == ("great tit", NAMED, [1, 5])
    assert state(Refinement(DROP, "c02"))["c02"] == ("c02", DROPPED, [1, 5])
    merged = state(Refinement(NAME, "c01", "owl"), Refinement(MERGE, "c03", "c01"))
    assert merged == {"c01": ("owl", NAMED, [0, 2, 4, 6, 7]), "c02": ("c02", "open", [1, 5])}
    parts = state(SPLIT_C01, Refinement(NAME, "c01.2", "wren"))
    assert (parts["c01.1"], parts["c01.2"]) == (("c01.1", "open", [0, 6]), ("wren", NAMED, [2]))
    moved = state(Refinement(MOVE, "c01", "c02", ((0, 2),)), Refinement(MOVE, "c03", "", ((4, 7),)))
    assert moved == {"c01": ("c01", "open", [6]), "c02": ("c02", "open", [0, 1, 2, 5])}


def test_undo_takes_any_earlier_line_out():
    lines = [SPLIT_C01, Refinement(NAME, "c02", "owl"), Refinement(UNDO, "c01", "2")]
    assert state(*lines) == state(Refinement(NAME, "c02", "owl"))
    found = refine(NAMES, [Refinement(BEGIN), *lines])
    assert (found.lines, found.standing) == (4, [3])
    assert found.names(8)[0] == ["c01", "owl", "c01", "unclustered", "c03", "owl", "c01", "c03"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (Refinement(NAME, "c09", "owl"), "decision 2: there is no cluster 'c09'"),
        (Refinement(MERGE, "c01", "c01"), "cannot be merged with itself"),
        (Refinement(SPLIT, "c01", "2", ((0,), (2,))), "are not its regions"),
        (Refinement(SPLIT, "c01", "2", ((0, 2), (2, 6))), "are not its regions"),
        (Refinement(MOVE, "c01", "c02", ((1,),)), "does not have these regions"),
        (Refinement(MOVE, "c01", "c02"), "does not have these regions"),
    ],
)
def test_what_cannot_be_done_is_named(line, message):
    with pytest.raises(UserError, match=message):
        state(line)


def test_random_decisions_keep_every_region_once(tmp_path):
    draw = np.random.default_rng(0)
    names = [f"c{k:02d}" for k in draw.integers(0, 12, 300)]
    lines = [Refinement(BEGIN, value="h", reviewer="a", time="t")]
    for _ in range(60):
        clusters = refine(names, lines).clusters
        one, other = draw.choice(sorted(clusters), 2, replace=False)
        rows = draw.permutation(clusters[one].rows).tolist()
        kinds = [
            Refinement(NAME, one, f"=kind,{len(lines)}"),
            Refinement(MERGE, one, other),
            Refinement(DROP, one),
            Refinement(MOVE, one, other, (tuple(rows[:3]),)),
            Refinement(SPLIT, one, "2", (tuple(rows[:1]), tuple(rows[1:])) if len(rows) > 1 else ()),
        ]
        chosen = kinds[int(draw.integers(len(kinds) if len(rows) > 1 else 4))]
        if len(clusters) > 4 or chosen.action != MERGE:
            lines.append(chosen._replace(reviewer="ana", time="2026-11-29T00:00:00+00:00"))
    found = np.concatenate([one.rows for one in refine(names, lines).clusters.values()])
    assert sorted(found.tolist()) == list(range(300))
    path = tmp_path / "refinements.csv"
    path.write_bytes(refinement_lines(lines, header=True))
    again = read_refinements(path)
    assert [(*line[:3], [sorted(part) for part in line.regions]) for line in again] == [
        (*line[:3], [sorted(part) for part in line.regions]) for line in lines
    ]


def test_rows_are_written_short_and_nonsense_is_refused(tmp_path):
    assert rows_text([9, 2, 0, 1]) == "0-2 9"
    head = "action,cluster,value,regions,reviewer,time\nbegin,,h,,a,t\n"
    for line, message in {
        "name,c01,owl,x,a,t": "'x' are no rows",
        "eat,c01,owl,,a,t": "'eat' is no whole decision",
        "name,c01,owl,,a,": "'name' is no whole decision",
        "undo,c01,owl,,a,t": "undo needs the number",
    }.items():
        (tmp_path / "r.csv").write_text(head + line + "\n")
        with pytest.raises(UserError, match=message):
            read_refinements(tmp_path / "r.csv")
    (tmp_path / "r.csv").write_text("action,cluster,value,regions,reviewer,time\nname,c01,owl,,a,t\n")
    with pytest.raises(UserError, match="does not start with the action begin"):
        read_refinements(tmp_path / "r.csv")
