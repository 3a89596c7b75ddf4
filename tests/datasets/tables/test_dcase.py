"""Tables of DCASE task 5."""

import pytest

from beats_jax.datasets.tables.dcase import any_undecided, is_undecided
from beats_jax.datasets.tables.registry import read_events
from beats_jax.errors import UserError


def written(tmp_path, *lines):
    table = tmp_path / "ME1.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def test_one_class_in_the_column_q(tmp_path):
    found = read_events(written(tmp_path, "Audiofilename,Starttime,Endtime,Q", "ME1.wav,10.2,10.6,POS", "ME1.wav,12,12.5,UNK"))
    assert found.files.tolist() == ["ME1.wav", "ME1.wav"]
    assert found.labels.tolist() == ["POS", "UNK"]
    assert found.starts.tolist() == [10.2, 12.0]
    assert any_undecided(found.labels).tolist() == [False, True]
    assert is_undecided(found.labels, "POS").tolist() == [False, True]


def test_a_column_for_each_class(tmp_path):
    found = read_events(written(tmp_path, "Audiofilename,Starttime,Endtime,AGGM,SOCM", "a.wav,1,2,POS,NEG", "a.wav,3,4,UNK,POS"))
    assert found.labels.tolist() == ["AGGM", "AGGM UNK", "SOCM"]
    assert found.starts.tolist() == [1, 3, 3]
    assert is_undecided(found.labels, "AGGM").tolist() == [False, True, False]
    assert not is_undecided(found.labels, "SOCM").any()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.wav,1,2,MAYBE", "write POS, NEG or UNK"),
        ("a.wav,3,2,POS", "Endtime is before Starttime"),
        ("a.wav,x,2,POS", "Starttime"),
    ],
)
def test_other_cells_are_refused(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        read_events(written(tmp_path, "Audiofilename,Starttime,Endtime,Q", line))


def test_a_table_without_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="no column Q"):
        read_events(written(tmp_path, "Audiofilename,Starttime,Endtime", "a.wav,1,2"))
