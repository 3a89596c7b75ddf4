"""JSON of the expected shape, or one line that names the file and the place in it."""

import json
import time

import pytest

from beats_jax.errors import UserError
from beats_jax.json_files import read_json

POINT = {
    "names": [str],
    "values": [(float, None)],
    "n": int,
    "at_limit": bool,
    "wanted": (float, None),
    "more": {str: {"x": int}},
}
GOOD = {"names": ["ü"], "values": [0.5, 1, None], "n": 3, "at_limit": False, "wanted": None, "more": {"a": {"x": 1}}}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"n": 3.0}, "n is 3.0, not int"),
        ({"n": True}, "n is True, not int"),
        ({"at_limit": 1}, "at_limit is 1, not bool"),
        ({"values": [0.5, float("nan")]}, "values[1] is nan"),
        ({"values": [10**400]}, f"values[0] is {'1' + '0' * 39}..."),
        ({"values": [True]}, "values[0] is True"),
        ({"values": {"0": 1.0}}, "values is dict, not list"),
        ({"names": [["x"]]}, "names[0] is list, not str"),
        ({"more": {"b": {"y": 1}}}, "more.b lacks x"),
        ({"wanted": "much"}, "wanted is 'much'"),
    ],
)
def test_what_has_another_shape_is_named(tmp_path, change, fault):
    file = tmp_path / "point.json"
    file.write_text(json.dumps(GOOD))
    assert read_json(file, POINT) == GOOD
    file.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(UserError) as refusal:
        read_json(file, POINT, remedy="train it anew")
    assert str(refusal.value) == f"{file} is damaged ({fault}); train it anew"


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b'"x"', b"-5", b"null", b"{", b'{"a": 1}', b"\xff\xfe{}"),
        *(b"[" * 200_000, b'{"a":' * 60 + b"1" + b"}" * 60, b"9" * 5000),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_whatever_stands_in_the_file_it_is_one_line(tmp_path, data):
    file = tmp_path / "x.json"
    file.write_bytes(data)
    started = time.process_time()
    with pytest.raises(UserError, match=r"x\.json is damaged \(.*\); restore it") as refusal:
        read_json(file, {"b": int})
    assert time.process_time() - started < 1
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"x\.json is missing; restore"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"is no file; restore"):
        read_json(tmp_path)
