"""The C interface as ctypes declarations, made from its headers in csrc/include.

Nothing about a C function or structure is written a second time in Python.
"""

import ctypes
import functools
import re
import zlib
from pathlib import Path

_INCLUDE = Path(__file__).resolve().parent / "csrc" / "include"
HEADERS = (_INCLUDE / "flic.h", _INCLUDE / "flic_kernels.h")
_NUMBERS = {
    "int": ctypes.c_int,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    **{
        f"{sign}int{bits}_t": getattr(ctypes, f"c_{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
_POINTERS = ("FlicParallel", "FlicMostThreads", "FlicProgress", "FlicStream")


def checksum() -> int:
    """CRC-32 of the headers, which libraries were compiled with (setup.py)."""
    return zlib.crc32(b"".join(header.read_bytes() for header in HEADERS))


@functools.cache
def _declarations() -> str:
    """The headers without comments and line ends."""
    text = "".join(header.read_text() for header in HEADERS)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"^#.*$", "", text, flags=re.MULTILINE).split())


def statuses() -> dict[str, int]:
    """FlicStatus: what a C function returns, by name without FLIC_."""
    (found,) = re.findall(r"enum FlicStatus \{(.*?)\}", _declarations())
    return {name: int(value) for name, value in re.findall(r"FLIC_(\w+) = (\d+)", found)}


@functools.cache
def structure(name: str) -> type[ctypes.Structure]:
    """A structure of the headers."""
    (body,) = re.findall(rf"typedef struct {name} \{{(.*?)\}} {name};", _declarations())
    fields = []
    for declaration in filter(None, map(str.strip, body.split(";"))):
        kind, names = re.fullmatch(r"((?:const )?\w+\*?) (.*)", declaration).groups()
        for field in names.split(", "):
            field, _, length = field.rstrip("]").partition("[")
            fields.append((field, _type(kind) * int(length) if length else _type(kind)))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library, of whose functions ctypes knows the types now."""
    for kind, name, parameters in re.findall(r"FLIC_API ([^;(]*?)(flic_\w+)\((.*?)\);",
                                             _declarations()):  # fmt: skip
        try:
            function = getattr(library, name)
        except AttributeError:  # the CPU and the CUDA library share the header
            continue
        given = [] if parameters == "void" else parameters.split(", ")
        function.argtypes = [_type(parameter.rpartition(" ")[0]) for parameter in given]
        function.restype = ctypes.c_char_p if kind.strip() == "const char*" else _type(kind)
    return library


def _type(name: str):
    name = name.removeprefix("const ").strip()
    if name == "void":
        return None
    if name in _NUMBERS:
        return _NUMBERS[name]
    if name.endswith("*") or name in _POINTERS:
        return ctypes.c_void_p
    return structure(name)
