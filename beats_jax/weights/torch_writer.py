"""Writes files for `torch.load(weights_only=True)` without torch: the zip layout of `torch.save` (torch/serialization.py).

The pickle is emitted opcode by opcode, because Python's pickler only writes names that it can import.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from beats_jax.errors import UserError
from beats_jax.files import whole_file

_STORAGES = {
    np.dtype(kind): name
    for name, kind in {
        "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16, "BFloat16Storage": ml_dtypes.bfloat16,
        "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8,
        "ByteStorage": np.uint8, "BoolStorage": np.bool_,
    }.items()
}  # fmt: skip
_ALIGNMENT = 64  # torch begins every storage at a multiple of this, so that mapped values are aligned
_DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes


def write_torch_file(path: str | Path, content: Any) -> Path:
    """Writes a checkpoint, whole or not at all, replaces an older file, and returns the path.

    Args:
      content: nested dicts, lists and tuples of numbers, texts, None and numpy arrays (which become tensors). The same array
        object in several places becomes one shared storage.
    Raises:
      UserError: `content` holds something else, or the file cannot be written.
    """
    path = Path(path)
    arrays: dict[int, np.ndarray] = {}
    program = b"\x80\x02" + _pickle(content, arrays, "") + b"."
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "archive/data.pkl", program)
        _add(archive, "archive/byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _add(archive, f"archive/data/{key}", np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        _add(archive, "archive/version", b"3\n")
    return path


def _add(archive: zipfile.ZipFile, name: str, data: Any) -> None:
    """Adds a stored entry whose data begin at a multiple of 64 bytes."""
    info = zipfile.ZipInfo(name, _DATE)
    start = archive.fp.tell() + 30 + len(name.encode()) + 4  # type: ignore[union-attr]
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, data)


def _pickle(value: Any, arrays: dict[int, np.ndarray], where: str) -> bytes:
    """Pickle opcodes (protocol 2) that build `value`; `arrays` collects the storages by identity."""
    if value is None:
        return b"N"
    if isinstance(value, bool | np.bool_):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int | np.integer):
        encoded = pickle.encode_long(int(value))
        if len(encoded) > 255:
            raise UserError(f"{where or 'the content'} is a number of {len(encoded)} bytes; torch files hold 64-bit ones")
        return b"\x8a" + struct.pack("<B", len(encoded)) + encoded
    if isinstance(value, float | np.floating):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, np.ndarray):
        return _tensor(value, arrays, where)
    if isinstance(value, Mapping):
        items = (_pickle(k, arrays, where) + _pickle(v, arrays, f"{where}.{k}".lstrip(".")) for k, v in value.items())
        return b"}(" + b"".join(items) + b"u"
    if isinstance(value, list | tuple):
        items = b"".join(_pickle(item, arrays, f"{where}[{i}]") for i, item in enumerate(value))
        return b"](" + items + b"e" if isinstance(value, list) else b"(" + items + b"t"
    raise UserError(
        f"{where or 'the content'} is a {type(value).__name__}; a torch file takes tensors, numbers, texts and containers"
    )


def _tensor(array: np.ndarray, arrays: dict[int, np.ndarray], where: str) -> bytes:
    """`torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`."""
    storage = _STORAGES.get(array.dtype)
    if storage is None:
        raise UserError(f"{where or 'the tensor'} is {array.dtype}, which is not written; cast it")
    arrays.setdefault(id(array), array)
    key = str(list(arrays).index(id(array)))  # its place in the order of writing
    size = array.shape
    stride = tuple(int(np.prod(size[i + 1 :], dtype=np.int64)) for i in range(len(size)))

    def simple(value: Any) -> bytes:
        return _pickle(value, arrays, where)

    record = simple("storage") + f"ctorch\n{storage}\n".encode() + simple(key) + simple("cpu") + simple(array.size)
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + record + b"tQ" + simple(0) + simple(size) + simple(stride) + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
