"""The .pt reader: golden files, both layouts assembled by hand from torch's format, and everything that must be refused."""

import io
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from beats_jax.errors import UserError
from beats_jax.weights.torch_file import LEGACY_MAGIC, read_torch_file


class Op(bytes):
    """Pickle opcodes that leave one value on the stack."""


def ops(value):
    """Protocol 2 opcodes of plain values and of `Op`s inside them, as torch's pickler writes them."""
    if isinstance(value, Op):
        return value
    if isinstance(value, tuple):
        return Op(b"(" + b"".join(map(ops, value)) + b"t")
    if isinstance(value, dict):
        return Op(b"}(" + b"".join(ops(part) for item in value.items() for part in item) + b"u")
    return Op(pickle.dumps(value, 2)[2:-1])


def name(module, attribute):
    return Op(f"c{module}\n{attribute}\n".encode())


def call(function, *arguments):
    return Op(function + ops(arguments) + b"R")


def tensor(key, kind, numel, size, stride, offset=0, view=()):
    storage = Op(ops(("storage", name("torch", kind), key, "cpu", numel, *view)) + b"Q")
    return call(
        name("torch._utils", "_rebuild_tensor_v2"), storage, offset, size, stride, False, call(name("collections", "OrderedDict"))
    )


def write_zip(path, value, storages, compression=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + ops(value) + b".")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        for entry, content in extra:
            archive.writestr(f"archive/{entry}", content)
    return path


def write_legacy(path, value, storages):
    parts = [pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {"little_endian": True, "protocol_version": 1001})]
    parts += [b"\x80\x02" + ops(value) + b".", pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


NUMBERS = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_strides_sharing_offsets_and_containers(tmp_path, write):
    kind = "FloatStorage"
    value = {
        "a": tensor("0", kind, 12, (3, 4), (4, 1)),
        "t": tensor("0", kind, 12, (4, 3), (1, 4)),
        "part": tensor("0", kind, 12, (2,), (3,), offset=5),
        "scalar": tensor("0", kind, 12, (), (), offset=7),
        "none": tensor("0", kind, 12, (0, 3), (3, 1)),
        "parameter": call(name("torch._utils", "_rebuild_parameter"), tensor("0", kind, 12, (12,), (1,)), True, None),
        "size": call(name("torch", "Size"), (3, 4)),
        "cfg": {"text": "ä", "list": [1, 2.5, None, True], "dtype": "x"},
        7: "int keys stay",
    }
    read = read_torch_file(write(tmp_path / "x.pt", value, {"0": NUMBERS}))
    np.testing.assert_array_equal(read["a"], NUMBERS.reshape(3, 4))
    np.testing.assert_array_equal(read["t"], NUMBERS.reshape(3, 4).T)
    np.testing.assert_array_equal(read["part"], [5, 8])
    np.testing.assert_array_equal(read["parameter"], NUMBERS)
    assert (read["scalar"].shape, float(read["scalar"]), read["none"].shape) == ((), 7.0, (0, 3))
    assert np.shares_memory(read["a"], read["t"])
    assert read["size"] == (3, 4)
    assert read["cfg"] == {"text": "ä", "list": [1, 2.5, None, True], "dtype": "x"}
    assert read[7] == "int keys stay"


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", np.float64), ("HalfStorage", np.float16), ("BFloat16Storage", ml_dtypes.bfloat16),
        ("LongStorage", np.int64), ("IntStorage", np.int32), ("ShortStorage", np.int16), ("CharStorage", np.int8),
        ("ByteStorage", np.uint8), ("BoolStorage", np.bool_), ("ComplexFloatStorage", np.complex64),
    ],
)  # fmt: skip
def test_every_storage_type(tmp_path, write, kind, dtype):
    values = np.array([0, 1, 1, 0, 1]).astype(dtype)
    read = read_torch_file(write(tmp_path / "x.pt", tensor("k1", kind, 5, (5,), (1,)), {"k1": values}))
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


def test_compressed_big_endian_untyped_and_legacy_views(tmp_path):
    value = {"a": tensor("0", "FloatStorage", 12, (12,), (1,))}
    big = {"0": NUMBERS.astype(">f4")}
    path = write_zip(tmp_path / "x.pt", value, big, zipfile.ZIP_DEFLATED, extra=[("byteorder", b"big")])
    np.testing.assert_array_equal(read_torch_file(path)["a"], NUMBERS)
    storage = Op(ops(("storage", name("torch.storage", "UntypedStorage"), "0", "cpu", 48)) + b"Q")
    untyped = call(
        name("torch._utils", "_rebuild_tensor_v3"), storage, 2, (3,), (2,), False, None, name("torch", "float32"), None
    )
    np.testing.assert_array_equal(read_torch_file(write_zip(tmp_path / "y.pt", untyped, {"0": NUMBERS})), [2, 4, 6])
    view = tensor("0", "FloatStorage", 12, (3,), (1,), offset=1, view=(("v", 4, 6),))
    np.testing.assert_array_equal(read_torch_file(write_legacy(tmp_path / "z.pt", view, {"0": NUMBERS})), [5, 6, 7])


def test_state_dict_attributes_are_dropped_and_dtypes_are_numpys(tmp_path):
    empty, metadata = call(name("collections", "OrderedDict")), ops({"_metadata": {"v": 1}})
    state = Op(empty + b"(" + ops("w") + ops(1) + b"u" + metadata + b"b")
    read = read_torch_file(write_zip(tmp_path / "x.pt", {"state": state, "dtype": name("torch", "bfloat16")}, {}))
    assert read == {"state": {"w": 1}, "dtype": np.dtype(ml_dtypes.bfloat16)}
    assert type(read["state"]) is dict


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("argparse", "Namespace"),
    ],
)
def test_anything_but_tensors_is_refused_by_name(tmp_path, write, module, attribute):
    marker = tmp_path / "ran"
    path = write(tmp_path / "x.pt", {"a": call(name(module, attribute), f"touch {marker}")}, {})
    with pytest.raises(UserError, match=f"refers to {module}.{attribute}"):
        read_torch_file(path)
    assert not marker.exists()


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    "value",
    [
        tensor("0", "FloatStorage", 12, (13,), (1,)),
        tensor("0", "FloatStorage", 12, (4,), (4,)),
        tensor("0", "FloatStorage", 12, (2,), (1,), offset=11),
        tensor("0", "FloatStorage", 12, (2,), (-1,), offset=3),
        tensor("0", "FloatStorage", 12, (-2,), (1,)),
        tensor("0", "FloatStorage", 13, (12,), (1,)),
        tensor("0", "DoubleStorage", 12, (12,), (1,)),
        tensor("1", "FloatStorage", 12, (12,), (1,)),
        tensor("../0", "FloatStorage", 12, (12,), (1,)),
        tensor("0", "FloatStorage", 12, (2**40,), (0,)),
        Op(b"r\xff\xff\xff\x7f" + ops(1)),
        # Attempts to change what the reader itself works with.
        *(
            Op(name(*target) + ops(state) + b"b")
            for target in (("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch", "FloatStorage"))
            for state in ({"update": 1}, (None, {"update": 1}), (None, {"function": 1, "dtype": 1}))
        ),
    ],
)
def test_contradictions_are_told_in_one_line(tmp_path, write, value):
    path = write(tmp_path / "x.pt", Op(ops(1) + b"0" + ops(value)), {"0": NUMBERS})
    with pytest.raises(UserError) as error:
        read_torch_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"), (b"<!DOCTYPE html><html>Sign in</html>", "a web page"), (b"\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS pointer"), (b"\x1f\x8b\x08\0\0", "gzip"),
        (struct.pack("<Q", 60) + b'{"a":{}}', "safetensors"), (b"hello there", "text"), (b"\0\1\2\xff" * 9, "unknown binary"),
        (pickle.dumps({"a": 1}, 2), "bare pickle"), (b"PK\x03\x04 and no more", "truncated or damaged"),
    ],
)  # fmt: skip
def test_other_files_are_named(tmp_path, content, kind):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=kind):
        read_torch_file(path)


def test_archives_that_are_not_checkpoints(tmp_path):
    with pytest.raises(UserError, match="not a file"):
        read_torch_file(tmp_path)
    with pytest.raises(UserError, match="TorchScript"):
        read_torch_file(write_zip(tmp_path / "s.pt", 1, {}, extra=[("constants.pkl", b"")]))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match=r"0 data\.pkl"):
        read_torch_file(tmp_path / "z.zip")
    bomb = write_zip(tmp_path / "b.pt", 1, {"0": np.zeros(2**27, np.uint8)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="would unpack"):
        read_torch_file(bomb)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_cut_and_flipped_bytes_never_surface_as_other_errors(tmp_path, write):
    value = {"a": tensor("0", "FloatStorage", 12, (3, 4), (4, 1)), "cfg": {"n": 3}}
    whole = write(tmp_path / "x.pt", value, {"0": NUMBERS}).read_bytes()
    path, draw = tmp_path / "y.pt", np.random.default_rng(0)
    for cut in range(0, len(whole) - 1, 11):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError):
            read_torch_file(path)
    for _ in range(200):
        broken = bytearray(whole)
        broken[draw.integers(len(whole))] ^= 1 << draw.integers(8)
        path.write_bytes(broken)
        try:
            read_torch_file(path)
        except UserError as error:
            assert "\n" not in str(error), error  # noqa: PT017 (either outcome is right, any other error is not)


def test_golden_files_are_mapped_not_copied(golden_files):
    file = golden_files / "tiny_finetuned.pt"
    read = read_torch_file(file)
    weight = read["model"]["encoder.layers.0.fc1.weight"]
    assert (weight.shape, weight.dtype, weight.flags.owndata, weight.flags.writeable) == ((128, 64), np.float32, False, False)
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        stored = {archive.read(entry) for entry in archive.namelist() if "/data/" in entry}
    assert weight.tobytes() in stored
    assert sorted(read["label_dict"]) == list(range(7))
    assert os.path.getsize(file) > 0


def test_damaged_directories_of_an_archive(tmp_path):
    """Names that are no text, and entries before the start of the file: errors of other kinds than zipfile's own."""
    whole = bytearray(
        write_zip(tmp_path / "x.pt", {"a": tensor("0", "FloatStorage", 12, (12,), (1,))}, {"0": NUMBERS}).read_bytes()
    )
    directory, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    name, place = bytearray(whole), bytearray(whole)
    name[directory + 9] |= 0x08  # the flag of UTF-8
    name[directory + 46] = 0xFF
    (start,) = struct.unpack_from("<I", whole, end + 16)
    struct.pack_into("<I", place, end + 16, start + 1000)
    for content, kind in ((name, UnicodeDecodeError), (place, OSError)):
        path = tmp_path / "bad.pt"
        path.write_bytes(content)
        with pytest.raises(kind), zipfile.ZipFile(path) as archive:  # what the test is about
            archive.read("archive/data.pkl")
        with pytest.raises(UserError, match="is truncated or damaged"):
            read_torch_file(path)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "x.pt", 1, {})

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(UserError, match=r"x\.pt cannot be read: Permission denied"):
        read_torch_file(path)
