"""The pickle inside a PyTorch checkpoint, read with an allow-list: tensors and plain containers, nothing else.

Anything callable that the stream can reach is one of the entries of `ALLOWED`; every other global is refused by name.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class Refused(Exception):
    """The file asks for something that is not read on purpose."""


class Damage(Exception):
    """The file contradicts itself."""


# The classes below are named tuples because a pickle can change the state of almost anything else that it can name.


class StorageType(NamedTuple):
    """Stand-in for a torch storage class or dtype."""

    dtype: np.dtype


class Storage(NamedTuple):
    """Flat values; None while only the list of storages is collected."""

    values: np.ndarray | None


class _Call(NamedTuple):
    """A callable of ours."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


StorageLoader = Callable[[StorageType, str, int, Any], Storage]


def _tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray | None:
    """`torch._utils._rebuild_tensor_v2`: a strided view of a storage, checked to lie inside it."""
    values = storage.values
    if values is None:
        return None
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise Damage(f"tensor of size {size}, stride {stride}, offset {offset}")
    count = int(np.prod([int(n) for n in size], dtype=object)) if size else 1
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and last >= len(values):
        raise Damage(f"tensor of size {tuple(size)} reaches past its storage of {len(values)} values")
    if count > max(len(values), 2**24):
        raise Refused(f"a tensor of size {tuple(size)} is spread from a storage of {len(values)} values")
    if not count:
        return np.empty(tuple(size), values.dtype)
    steps = tuple(step * values.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(values[offset:], tuple(size), steps, writeable=False)


def _tensor_v3(storage: Storage, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: StorageType, *_: Any) -> Any:
    """`torch._utils._rebuild_tensor_v3`: an untyped storage read as `dtype`; offset and strides count values of it."""
    if storage.values is None:
        return None
    if storage.values.nbytes % dtype.dtype.itemsize:
        raise Damage("storage size is not a multiple of the value size")
    return _tensor(Storage(storage.values.view(dtype.dtype)), offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


_STORAGES = {
    "Float": np.float32, "Double": np.float64, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16, "Long": np.int64,
    "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_, "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
}  # fmt: skip
_DTYPES = {
    "float32": np.float32, "float": np.float32, "float64": np.float64, "double": np.float64, "float16": np.float16,
    "half": np.float16, "bfloat16": ml_dtypes.bfloat16, "int64": np.int64, "long": np.int64, "int32": np.int32, "int": np.int32,
    "int16": np.int16, "short": np.int16, "int8": np.int8, "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32,
    "uint64": np.uint64, "bool": np.bool_, "complex64": np.complex64, "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip

ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): _Call(tuple),
    ("torch", "device"): _Call(lambda kind, index=None: f"{kind}" if index is None else f"{kind}:{index}"),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Call(_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Call(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Call(_parameter),
    ("torch.torch_version", "TorchVersion"): _Call(str),
    ("torch.storage", "UntypedStorage"): StorageType(np.dtype(np.uint8)),
    **{("torch", f"{name}Storage"): StorageType(np.dtype(kind)) for name, kind in _STORAGES.items()},
    **{("torch", name): StorageType(np.dtype(kind)) for name, kind in _DTYPES.items()},
}


_PICKLE_ERRORS = (
    pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, LookupError, OverflowError, RecursionError,
)  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, load_storage: StorageLoader | None) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        allowed = ALLOWED.get((module, name))
        if allowed is None:
            raise Refused(f"its pickle refers to {module}.{name}")
        return allowed

    def persistent_load(self, pid: Any) -> Storage:
        if self._load_storage is None or not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise Damage(f"persistent id {str(pid)[:60]!r}")
        _, kind, key, _, numel = pid[:5]
        if not isinstance(kind, StorageType) or not isinstance(numel, int) or numel < 0:
            raise Damage(f"storage record {str(pid)[:60]!r}")
        if not isinstance(key, str) or not key.isalnum():
            raise Damage(f"storage key {str(key)[:40]!r}")
        return self._load_storage(kind, key, numel, pid[5] if len(pid) == 6 else None)


def skip_pickle(stream: Any, size: int) -> int:
    """Moves `stream` past the pickle at its position, without building anything; returns the new position.

    Args:
      stream: file-like, of `size` bytes.
    Raises:
      Damage: the pickle has no end, or numbers its memo beyond the file's size (the C unpickler would allocate that much).
    """
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if "PUT" in opcode.name and isinstance(argument, int) and argument > size:
                raise Damage("memo index")
    except ValueError as error:
        raise Damage(str(error)[:80]) from error
    return stream.tell()


def unpickle(data: bytes, load_storage: StorageLoader | None) -> Any:
    """The object in `data` with plain dicts for ordered ones.

    Raises:
      Refused: it refers to anything outside `ALLOWED`.
      Damage: it is not a well-formed pickle.
    """
    skip_pickle(io.BytesIO(data), len(data))
    try:
        return _plain(_Unpickler(data, load_storage).load(), {})
    except _PICKLE_ERRORS as error:
        raise Damage(f"pickle: {str(error)[:80]}") from error


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Ordered dicts as dicts, dtypes and bare storages as numpy's.

    What is shared stays shared, so that a small stream cannot grow into a large object.
    """
    if isinstance(value, StorageType | Storage):
        return value[0]
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, tuple):
        result: Any = tuple(_plain(item, done) for item in value)
    elif isinstance(value, list):
        result = done[id(value)] = []
        result.extend(_plain(item, done) for item in value)
    else:
        result = done[id(value)] = {}
        result.update((key, _plain(item, done)) for key, item in value.items())
    done[id(value)] = result
    return result
