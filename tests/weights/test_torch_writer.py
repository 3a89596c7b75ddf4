"""Writing `.pt` files: our strict reader and the opcodes that torch's own safe unpickler knows are the judges."""

import io
import pickletools
import zipfile

import ml_dtypes
import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.weights.torch_file import read_torch_file
from beats_jax.weights.torch_writer import write_torch_file

# What torch's own weights_only unpickler knows (torch/_weights_only_unpickler.py), as opcode names.
UNDERSTOOD = {
    "PROTO", "STOP", "GLOBAL", "REDUCE", "MARK", "TUPLE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "APPENDS", "SETITEMS",
    "BINFLOAT", "BINUNICODE", "LONG1", "NEWTRUE", "NEWFALSE", "NONE", "BINPERSID",
}  # fmt: skip


def test_what_is_written_is_read_back(tmp_path):
    shared = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {
        "cfg": {"layers": 12, "rate": -0.5, "name": "ä", "flag": True, "off": False, "none": None, "big": 2**40,
            "list": [1, (2, "x")]},
        "model": {
            "a": shared, "b": shared, "half": np.ones(3, np.float16), "brain": np.ones((2, 2), ml_dtypes.bfloat16),
            "count": np.arange(4), "empty": np.zeros((0, 3), np.float32), "scalar": np.array(7.0, np.float32),
            "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        },
    }  # fmt: skip
    path = write_torch_file(tmp_path / "x.pt", content)
    back = read_torch_file(path)
    assert back["cfg"] == content["cfg"]
    assert list(back["model"]) == list(content["model"])
    for key, value in content["model"].items():
        assert back["model"][key].dtype == value.dtype
        np.testing.assert_array_equal(back["model"][key], value)
    assert np.shares_memory(back["model"]["a"], back["model"]["b"])
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]  # nothing temporary is left
    assert write_torch_file(tmp_path / "y.pt", content).read_bytes() == path.read_bytes()


def test_the_archive_is_as_torch_makes_it(tmp_path):
    path = write_torch_file(tmp_path / "x.pt", {"a": np.ones(5, np.float32), "b": np.ones((3, 3), np.int64)})
    with zipfile.ZipFile(path) as archive:
        assert {"archive/data.pkl", "archive/version", "archive/byteorder", "archive/data/0", "archive/data/1"} == set(
            archive.namelist()
        )
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        program = archive.read("archive/data.pkl")
        for info in archive.infolist():
            with path.open("rb") as file:
                file.seek(info.header_offset + 26)
                name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            assert (info.header_offset + 30 + name + extra) % 64 == 0
    assert {opcode.name for opcode, *_ in pickletools.genops(io.BytesIO(program))} <= UNDERSTOOD


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    cases = {"model.x is a set": {"model": {"x": {1}}}, "model.c is complex64": {"model": {"c": np.ones(2, np.complex64)}}}
    for part, content in cases.items():
        with pytest.raises(UserError, match=part):
            write_torch_file(tmp_path / "x.pt", content)
    with pytest.raises(UserError, match="cannot be written"):
        write_torch_file(tmp_path / "nowhere" / "x.pt", {})
    assert not list(tmp_path.iterdir())
