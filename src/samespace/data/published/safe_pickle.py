"""A pickle read without running it: plain containers, numbers, text and numpy arrays, and nothing else.

A pickle is a program that may call any function by name. Here every name but a few leads to an error before anything is
called, and those few lead to stand-ins of our own, which check what they are given. No function of numpy and no class
with a state of its own is ever handed to the pickle.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.files import require_file

_DTYPE = re.compile(r"[biu][1248]|f[248]|c8|c16|[SU]\d{1,6}")
_BROKEN = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, OverflowError,
           MemoryError, RecursionError, ImportError)  # fmt: skip
_SHOWN = 80


def load_plain(path: str | Path, what: str) -> Any:
    """Read a pickle that holds only lists, tuples, dictionaries, sets, numbers, text, bytes and numpy arrays.

    Text pickled by Python 2 is read as Latin-1. Arrays are read-only; arrays of Python objects and structured arrays
    are refused.

    Raises:
        InputError: the file is missing, damaged or no pickle, or asks for anything else, which is not executed.
    """
    path = Path(path)
    require_file(path, what)
    try:
        with path.open("rb") as file:
            return _settle(_Reader(file, encoding="latin1").load(), {})
    except _Refused as refusal:
        raise InputError(
            f"{path}: refused, for this pickle asks for {refusal}; {what} holds only plain containers, numbers, text "
            "and numpy arrays, and nothing else is executed"
        ) from None
    except _BROKEN as error:
        raise InputError(f"{path} is damaged or no pickle; expected {what}") from error


class _Refused(Exception):
    """The pickle asked for something that is not plain."""


class _Sealed:
    """A value that a pickle may contain but whose state it may not set."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise _Refused("a change of what it was given")


class _Name(_Sealed):
    """Stands for a name the pickle may use, such as `numpy.dtype`; called as the pickle calls it."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: object) -> Any:
        return self.make(*arguments)


class _Dtype(_Sealed):
    """Stands for a dtype of numbers or text."""

    __slots__ = ("value",)

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"an array of dtype {str(code)[:_SHOWN]!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise _Refused("a malformed dtype")
        if any(part is not None for part in state[2:5]):
            raise _Refused("a structured array")
        self.value = self.value.newbyteorder(state[1])


class _Array(_Sealed):
    """Stands for an array until its state comes."""

    __slots__ = ("value",)

    def __init__(self, *_: object) -> None:
        self.value = np.zeros(0)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("a malformed array")
        _, shape, dtype, fortran, data = state
        self.value = _filled(data, dtype, shape, "F" if fortran else "C")


def _filled(data: object, dtype: object, shape: object, order: object) -> Any:
    if isinstance(data, str):
        # Python 2 pickled bytes as text
        data = data.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _Refused("an array of Python objects")
    if not isinstance(shape, tuple) or any(type(side) is not int or side < 0 for side in shape):
        raise _Refused("an array without a shape")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} does not fit its {len(data)} bytes")
    array = np.frombuffer(bytes(data), dtype=dtype.value)
    return array.reshape(shape, order="F" if order == "F" else "C")


def _frombuffer(data: object, dtype: object, shape: object, order: object) -> Any:
    array = _Array()
    array.value = _filled(data, dtype, shape, order)
    return array


def _scalar(dtype: object, data: object) -> Any:
    return _filled(data, dtype, (), "C").item()


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("an unknown encoding")
    return text.encode("latin1")


def _bytes(*arguments: object) -> bytes:
    if not arguments:
        return b""
    given, *encoding = arguments
    return bytes(given) if isinstance(given, bytes | bytearray) else _encoded(given, *encoding)


def _collected(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    def collect(items: object = ()) -> Any:
        if not isinstance(items, list | tuple):
            raise _Refused("a malformed set")
        return kind(items)

    return collect


def _complex(real: object, imaginary: object) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise _Refused("a malformed number")
    return complex(real, imaginary)


def _never(*_: object) -> Any:
    raise _Refused("a new 'numpy.ndarray'")


_NAMES: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _never,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encoded,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _frombuffer for core in ("core", "_core")},
    **{f"{built}.set": _collected(set) for built in ("builtins", "__builtin__")},
    **{f"{built}.frozenset": _collected(frozenset) for built in ("builtins", "__builtin__")},
    **{f"{built}.bytes": _bytes for built in ("builtins", "__builtin__")},
    **{f"{built}.bytearray": _bytes for built in ("builtins", "__builtin__")},
    **{f"{built}.complex": _complex for built in ("builtins", "__builtin__")},
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows only the names above."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; any other name is refused, and nothing is imported."""
        full = f"{module}.{name}"
        if full not in _NAMES:
            raise _Refused(repr(full[:_SHOWN]))
        return _Name(_NAMES[full])

    def persistent_load(self, identifier: object) -> Any:
        """Refuse objects kept outside the file."""
        raise _Refused("an object kept outside the file")


def _settle(value: Any, seen: dict[int, Any]) -> Any:
    """The value with arrays in the place of their stand-ins; what is shared stays shared."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Sealed):
        raise _Refused("a bare name in the place of a value")
    if isinstance(value, list):
        result: Any = []
        seen[id(value)] = result
        result.extend(_settle(item, seen) for item in value)
    elif isinstance(value, dict):
        result = {}
        seen[id(value)] = result
        result.update((_settle(key, seen), _settle(item, seen)) for key, item in value.items())
    elif isinstance(value, tuple | set | frozenset):
        result = type(value)(_settle(item, seen) for item in value)
        seen[id(value)] = result
    else:
        result = value
    return result
