"""Reads files of `torch.save` without torch, and without executing code that a file names.

Two layouts (torch/serialization.py): a zip archive with `data.pkl` and one entry per storage (since 1.6), and the older stream of
five pickles followed by the storages. The pickles may only name the few things in `beats_jax.weights.torch_pickle.ALLOWED`.
"""

from __future__ import annotations

import errno
import io
import mmap
import re
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from beats_jax.errors import UserError
from beats_jax.weights.pickle_machine import Damage, Refused, shorten
from beats_jax.weights.torch_pickle import unpickle

ZIP_START = b"PK"
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_PICKLE_BYTES = 64 * 2**20
MAX_EXPANSION = 8  # a compressed archive may unpack to this many times its size (plus 64 MiB); weights hardly compress

# zipfile raises all of these for damaged directories: names that are no text, places beyond the file, unknown compressions
# (NotImplementedError), encryption (RuntimeError).
_ZIP_ERRORS = (
    Damage, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, OverflowError,
    LookupError,
)  # fmt: skip

_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"\x89HDF", "an HDF5 file"),
    (b"{", "JSON text"),
    (b"%PDF", "a PDF"),
)


def read_torch_file(path: str | Path) -> Any:
    """Reads a PyTorch checkpoint.

    Args:
      path: a file written by `torch.save`, zip or legacy layout.
    Returns:
      nested dicts, lists, tuples, numbers and strings with numpy arrays for tensors (bfloat16 by ml_dtypes). Arrays of an
      uncompressed file are read-only views of the mapped file; shared storages stay shared.
    Raises:
      UserError: the file is missing, empty, truncated, damaged or not a PyTorch file (the message names its likely kind), or its
        pickle names anything but tensors and plain containers.
    """
    path = Path(path)
    head = read_head(path)
    try:
        if head.startswith(ZIP_START):
            return _read_zip(path)
        if head.startswith(PICKLE_STARTS):
            with path.open("rb") as file:
                return _read_legacy(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except Refused as error:
        raise UserError(f"{path}: {error}; only tensors and plain containers are read") from error
    except _ZIP_ERRORS as error:
        raise UserError(f"{path} is truncated or damaged ({shorten(str(error))}); get the file again") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place before the start of the file, by a damaged directory
            raise UserError(f"{path} is truncated or damaged ({error.strerror}); get the file again") from error
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    raise UserError(f"{path} is not a PyTorch file: it looks like {_looks_like(head)}")


def read_head(path: Path) -> bytes:
    """The first 512 bytes of a file, which show its kind. Raises `UserError` if it is not a file or cannot be read."""
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def is_torch(head: bytes) -> bool:
    """Whether a file with these first bytes can be one of `torch.save`."""
    return head.startswith((ZIP_START, *PICKLE_STARTS)) and not is_safetensors(head)


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a JSON header and the header, as safetensors files do."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**30


def _looks_like(head: bytes) -> str:
    if not head:
        return "an empty file"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (HTML), perhaps a log-in or error page saved in place of the download"
    if is_safetensors(head):
        return "a safetensors file"
    for magic, kind in _OTHER_KINDS:
        if start.startswith(magic.lower()) or head.startswith(magic):
            return kind
    return "text" if head[:64].isascii() and b"\0" not in head else "unknown binary data"


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = {info.filename: info for info in archive.infolist()}
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        unpacked = sum(info.file_size for info in entries.values())
        if unpacked > MAX_EXPANSION * len(mapped) + 64 * 2**20:
            raise Refused(f"the archive would unpack to {unpacked} bytes from {len(mapped)}, which no checkpoint does")
        pickles = [name for name in entries if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
        if len(pickles) != 1:
            raise Refused(f"the zip archive holds {len(pickles)} data.pkl where torch.save writes one")
        prefix = pickles[0].removesuffix("data.pkl")
        if f"{prefix}constants.pkl" in entries:
            raise Refused("this is a TorchScript program; save its state_dict() with torch.save instead")
        if entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise Refused(f"data.pkl has {entries[pickles[0]].file_size} bytes, more than any checkpoint needs")
        order = archive.read(f"{prefix}byteorder").decode("ascii", "replace") if f"{prefix}byteorder" in entries else "little"
        if order not in ("little", "big"):
            raise Damage(f"byte order {order[:20]!r}")
        storages: dict[str, np.ndarray] = {}
        used: dict[str, np.ndarray] = {}  # stored entries; their checksums are compared at the end

        def load_storage(kind: np.dtype, key: str, numel: int, view: Any) -> np.ndarray:
            if view is not None:
                raise Damage("a storage view in a zip archive")
            if key not in storages:
                raw = _entry(archive, entries, mapped, f"{prefix}data/{key}", used)
                storages[key] = _as_dtype(raw, kind, numel, key, order)
            return storages[key]

        content = unpickle(io.BytesIO(archive.read(pickles[0])), load_storage)
        _check_sums(entries, used)
        return content


def _check_sums(entries: dict[str, zipfile.ZipInfo], used: dict[str, np.ndarray]) -> None:
    # In two threads, because the CRC-32 takes half the time of reading a large file.
    with ThreadPoolExecutor(2) as threads:
        sums = threads.map(lambda raw: zlib.crc32(raw.data), used.values())
        for name, checksum in zip(used, sums, strict=True):
            if checksum != entries[name].CRC:
                raise Damage(f"wrong checksum of {name[-80:]!r}")


def _entry(
    archive: zipfile.ZipFile,
    entries: dict[str, zipfile.ZipInfo],
    mapped: np.ndarray,
    name: str,
    used: dict[str, np.ndarray],
) -> np.ndarray:
    """Bytes of one archive entry; a stored entry is a view of the mapped file, added to `used` for its CRC-32."""
    info = entries.get(name)
    if info is None:
        raise Damage(f"no entry {name[-80:]!r}")
    if info.compress_type != zipfile.ZIP_STORED:
        return np.frombuffer(archive.read(info), np.uint8)
    local = mapped[info.header_offset : info.header_offset + 30].tobytes()
    if len(local) != 30 or local[:4] != b"PK\x03\x04":
        raise Damage(f"no local header for {name[-80:]!r}")
    name_length, extra_length = struct.unpack("<HH", local[26:30])
    start = info.header_offset + 30 + name_length + extra_length
    raw = mapped[start : start + info.file_size]
    if len(raw) != info.file_size:
        raise Damage(f"wrong size of {name[-80:]!r}")
    used[name] = raw
    return raw


def _as_dtype(raw: np.ndarray, dtype: np.dtype, numel: int, key: str, order: str = "little") -> np.ndarray:
    """Views bytes as `numel` values of `dtype`; their sizes must agree."""
    if len(raw) != numel * dtype.itemsize:
        raise Damage(f"storage {key} has {len(raw)} bytes, its header says {numel} x {dtype.itemsize}")
    if order == "big" and dtype.itemsize > 1:
        part = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        raw = raw.reshape(-1, part)[:, ::-1].reshape(-1)
    if raw.ctypes.data % dtype.alignment:
        raw = raw.copy()
    return raw.view(dtype)


def _read_legacy(file: mmap.mmap) -> Any:
    """Reads pickles of magic number, protocol, system facts, object and storage keys; then per key an int64 count and values."""
    if not _is(unpickle(file), LEGACY_MAGIC):
        raise Refused("this is a bare pickle, not a PyTorch checkpoint")
    protocol, facts = unpickle(file), unpickle(file)
    if not _is(protocol, 1001) or not isinstance(facts, dict):
        raise Damage("legacy header")
    if facts.get("little_endian") is False:
        raise Refused("this legacy file was written on a big-endian machine")

    wanted: dict[str, tuple[np.dtype, int]] = {}  # first pass: the storages, whose values follow the pickles

    def note_storage(kind: np.dtype, key: str, numel: int, view: Any) -> None:
        wanted[key] = (kind, numel)

    start = file.tell()
    unpickle(file, note_storage)
    roots = _legacy_storages(file, unpickle(file), wanted)

    def load_storage(kind: np.dtype, key: str, numel: int, view: Any) -> np.ndarray:
        if key not in roots:
            raise Damage(f"no storage {key[:40]!r}")
        if view is None:
            return roots[key]
        if isinstance(view, tuple) and len(view) == 3 and all(isinstance(number, int) for number in view[1:]):
            _, offset, length = view
            if 0 <= offset <= offset + length <= numel:
                return roots[key][offset : offset + length]
        raise Damage(f"view of storage {key[:40]!r}")

    file.seek(start)
    return unpickle(file, load_storage)


def _legacy_storages(file: mmap.mmap, keys: Any, wanted: dict[str, tuple[np.dtype, int]]) -> dict[str, np.ndarray]:
    """The storages from the position of `file` on, in the order of `keys`."""
    if not isinstance(keys, list):
        raise Damage("legacy header")
    position, mapped = file.tell(), np.frombuffer(file, np.uint8)
    roots: dict[str, np.ndarray] = {}
    for key in keys:
        if not isinstance(key, str) or key not in wanted:
            raise Damage(f"storage key {key[:40]!r}" if isinstance(key, str) else "storage key")
        dtype, numel = wanted[key]
        count = int.from_bytes(mapped[position : position + 8].tobytes(), "little", signed=True)
        size = numel * dtype.itemsize
        if count not in (numel, size):  # untyped storages count bytes
            raise Damage(f"storage {key[:40]!r} has {count} values, its header says {numel}")
        roots[key] = _as_dtype(mapped[position + 8 : position + 8 + size], dtype, numel, key)
        position += 8 + size
    return roots


def _is(value: Any, number: int) -> bool:
    return isinstance(value, int) and value == number
