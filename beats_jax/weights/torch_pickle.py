"""The globals that the pickle of a PyTorch checkpoint may name (`ALLOWED`): tensors and plain containers, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from beats_jax.weights.pickle_machine import Call, Damage, Refused, dict_of, execute, shorten

# Type, key, number of values and (older files) view of a storage → its flat values; None in the pass that lists the storages.
StorageLoader = Callable[[np.dtype, str, int, Any], np.ndarray | None]

MAX_RANK = 64


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray | None:
    """`torch._utils._rebuild_tensor_v2`: a strided view that must lie inside its storage."""
    if storage is None:
        return None
    values = _flat(storage)
    if not all(isinstance(sizes, tuple | list) and len(sizes) <= MAX_RANK for sizes in (size, stride)):
        raise Damage("a tensor without size and stride")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(n, int) for n in numbers):
        raise Damage("a tensor whose size, stride and offset are no whole numbers")
    if min(numbers) < 0:
        raise Damage(f"tensor of size {size}, stride {stride}, offset {offset}"[:200])
    count = int(np.prod([int(n) for n in size], dtype=object)) if size else 1
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and last >= len(values):
        raise Damage(f"tensor of size {tuple(size)}"[:200] + f" reaches past its storage of {len(values)} values")
    if count > max(len(values), 2**24):
        raise Refused(f"a tensor of size {tuple(size)}"[:200] + f" is spread from a storage of {len(values)} values")
    if not count:
        return np.empty(tuple(size), values.dtype)
    steps = tuple(step * values.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(values[offset:], tuple(size), steps, writeable=False)


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> Any:
    """`torch._utils._rebuild_tensor_v3`: an untyped storage read as `dtype`; offset and strides count values of it."""
    if storage is None:
        return None
    values = _flat(storage)
    if not isinstance(dtype, np.dtype) or values.nbytes % dtype.itemsize:
        raise Damage("storage size is not a multiple of the value size")
    return _tensor(values.view(dtype), offset, size, stride)


def _flat(storage: Any) -> np.ndarray:
    """The values of a storage. A strided view is refused as one, because its memory may be smaller than it claims."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1 or not storage.flags.c_contiguous:
        raise Damage("a tensor without a storage")
    return storage


def _size(sizes: Any) -> tuple[Any, ...]:
    if not isinstance(sizes, tuple | list) or len(sizes) > MAX_RANK:
        raise Damage("torch.Size of something else")
    return tuple(sizes)


def _device(kind: Any, index: Any = None) -> str:
    if not isinstance(kind, str) or not isinstance(index, int | None):
        raise Damage("torch.device of something else")
    return kind if index is None else f"{kind}:{index}"


def _version(text: Any) -> str:
    if not isinstance(text, str):
        raise Damage("TorchVersion of something else")
    return text


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
    ("collections", "OrderedDict"): Call(lambda pairs=(): dict_of(pairs)),
    ("torch", "Size"): Call(_size),
    ("torch", "device"): Call(_device),
    ("torch._utils", "_rebuild_tensor"): Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Call(_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): Call(lambda data, *_: data),
    ("torch._utils", "_rebuild_parameter_with_state"): Call(lambda data, *_: data),
    ("torch.torch_version", "TorchVersion"): Call(_version),
    ("torch.storage", "UntypedStorage"): np.dtype(np.uint8),
    **{("torch", f"{name}Storage"): np.dtype(kind) for name, kind in _STORAGES.items()},
    **{("torch", name): np.dtype(kind) for name, kind in _DTYPES.items()},
}


def unpickle(stream: Any, load_storage: StorageLoader | None = None) -> Any:
    """`pickle_machine.execute` with `ALLOWED` and with the storages of `load_storage`; ordered dicts become plain ones."""

    def load_persistent(pid: Any) -> np.ndarray | None:
        if load_storage is None or not isinstance(pid, tuple) or len(pid) not in (5, 6):
            raise Damage("persistent id")
        word, kind, key, _, numel, *view = pid
        if word != "storage" or not isinstance(kind, np.dtype) or not isinstance(numel, int) or numel < 0:
            raise Damage("storage record")
        if not isinstance(key, str) or not key.isalnum():
            raise Damage(f"storage key {shorten(key) if isinstance(key, str) else type(key).__name__!r}")
        return load_storage(kind, key, numel, view[0] if view else None)

    return execute(stream, ALLOWED, load_persistent)
