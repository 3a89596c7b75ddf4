"""Executes the pickle opcodes that `torch.save` writes, within bounds: a stream reaches nothing else, and ends soon.

Python's own unpickler is unsafe for untrusted files even with a list of allowed names: it hashes keys in C, and one key of nested
shared tuples (121 bytes) keeps it busy for ever, past Ctrl-C.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

MAX_OPCODES = 2**20  # the largest checkpoints with optimizer states need a tenth; this many take two seconds
MAX_BITS = 2048  # of an integer: larger ones make arithmetic slow
MAX_INT_KEY = 2**32  # larger ones can be chosen so that a dict takes quadratic time
MAX_DEPTH = 100  # of containers in containers
MAX_EXTENT = 2**21  # items (and 64ths of texts), shared ones counted at every place: the work of one walk over the content


class Refused(Exception):
    """The file holds something that is refused on purpose."""


class Damage(Exception):
    """The file contradicts itself."""


class Call(NamedTuple):
    """A function of ours; a named tuple, so that no stream can change its state."""

    function: Callable[..., Any]


PERSISTENT = Callable[[Any], Any]
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_OLD_TEXTS = {"BINSTRING", "SHORT_BINSTRING"}  # of Python 2
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
_ERRORS = (
    AttributeError, TypeError, ValueError, LookupError, OverflowError,
    DeprecationWarning,  # of damaged texts of protocol 0, where warnings are errors
)  # fmt: skip


def execute(stream: Any, allowed: Mapping[tuple[str, str], Any], load_persistent: PERSISTENT) -> Any:
    """Builds the object of a pickle and leaves `stream` behind its end.

    Args:
      stream: binary file (or mapped file) at the start of a pickle.
      allowed: (module, name) → value of a global; the stream can call a `Call`.
      load_persistent: persistent id → object.
    Returns:
      plain dicts, lists, tuples, texts, bytes and numbers, at most `MAX_DEPTH` deep and `MAX_EXTENT` large, and values from
      `allowed` and `load_persistent`. Dict keys are texts, bytes, None or integers below `MAX_INT_KEY`.
    Raises:
      Refused: the pickle names another global, has other opcodes, or exceeds the bounds.
      Damage: it is not a well-formed pickle.
    """
    machine = _Machine(allowed, load_persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.spend(1)
            if opcode.name == "STOP":
                result = machine.stack.pop()
                _extent(result, 0, {})
                return result
            machine.step(opcode.name, argument)
    except _ERRORS as error:
        raise Damage(f"pickle: {ascii(str(error)[:80])[1:-1]}") from error
    raise Damage("pickle without an end")


def dict_of(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A dict of (key, value) pairs; keys are checked before they are hashed."""
    result = {}
    for key, value in pairs:
        if not (key is None or isinstance(key, str | bytes) or (isinstance(key, int) and abs(key) < MAX_INT_KEY)):
            raise Refused(f"its pickle has a dict with a {type(key).__name__} as key")
        result[key] = value
    return result


def shorten(text: str) -> str:
    """The beginning of an untrusted text, on one line of ASCII."""
    return ascii(text[:80])[1:-1]


class _Machine:
    def __init__(self, allowed: Mapping[tuple[str, str], Any], load_persistent: PERSISTENT) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._left = MAX_OPCODES
        self._allowed, self._load_persistent = allowed, load_persistent

    def spend(self, steps: int) -> None:
        """Counts work, so that every stream ends."""
        self._left -= steps
        if self._left < 0:
            raise Refused(f"its pickle has more than {MAX_OPCODES} steps, which no checkpoint needs")

    def step(self, name: str, argument: Any) -> None:
        """Executes one opcode."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
                raise Refused(f"its pickle has an integer of {argument.bit_length()} bits")
            self.stack.append(argument)
        elif name in _OLD_TEXTS:
            self.stack.append(argument.encode("latin-1").decode("utf-8"))
        elif "PUT" in name or "GET" in name or name == "MEMOIZE":
            self._use_memo(name, argument)
        elif not self._build(name):
            self._reach_out(name, argument)

    def _use_memo(self, name: str, argument: Any) -> None:
        if "GET" in name:
            return self.stack.append(self._memo[argument])
        index = len(self._memo) if name == "MEMOIZE" else argument
        if not 0 <= index <= MAX_OPCODES:
            raise Damage("memo index")
        self._memo[index] = self.stack[-1]

    def _build(self, name: str) -> bool:
        """Executes opcodes of containers and of the stack; returns False for others."""
        stack = self.stack
        if name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("TUPLE", "LIST"):
            stack.append((tuple if name == "TUPLE" else list)(self._pop_to_mark()))
        elif name == "DICT":
            stack.append(_pairs(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            _require(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            _require(stack[-1], dict).update(_pairs(items))
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name == "POP_MARK":
            self._pop_to_mark()
        elif name == "POP":
            stack.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            return name in ("PROTO", "FRAME")
        return True

    def _reach_out(self, name: str, argument: Any) -> None:
        """Executes opcodes that leave the stream: globals, calls, persistent ids, states of objects."""
        if name in ("GLOBAL", "INST"):
            self.stack.append(self._global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            self.stack.append(self._global(*(_require(text, str) for text in self._pop(2))))
        elif name == "BINPERSID":
            self.stack.append(self._load_persistent(self.stack.pop()))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            _require(arguments, tuple)
            self.spend(sum(len(item) for item in arguments if isinstance(item, list | tuple | dict | str)))
            self.stack.append(_require(function, Call).function(*arguments))
        elif name == "BUILD":  # attributes of a state dict, such as its versions: nothing here needs them
            self.stack.pop()
            _require(self.stack[-1], dict)
        else:
            raise Refused(f"its pickle has the opcode {name}")

    def _global(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise Refused(f"its pickle refers to {shorten(f'{module}.{name}')}")
        return self._allowed[module, name]

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise Damage("pickle: empty stack")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict_of(zip(items[::2], items[1::2], strict=True))


def _require(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Damage(f"pickle: a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _extent(value: Any, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Number of items in a value and its height; shared containers count each time and are visited once.

    Raises:
      Refused: the bounds are exceeded (a container in itself exceeds them too).
    """
    if isinstance(value, str | bytes):
        return 1 + len(value) // 64, 0
    if not isinstance(value, dict | list | tuple):
        return 1, 0
    if id(value) not in known:
        if depth > MAX_DEPTH:
            raise Refused(f"its pickle nests containers more than {MAX_DEPTH} deep")
        inner = [_extent(item, depth + 1, known) for item in (value.values() if isinstance(value, dict) else value)]
        size, height = 1 + sum(one for one, _ in inner), 1 + max((one for _, one in inner), default=0)
        if height > MAX_DEPTH or size > MAX_EXTENT:
            raise Refused(f"its pickle shares containers so that they are {height} deep and {size} items large")
        known[id(value)] = size, height
    return known[id(value)]
