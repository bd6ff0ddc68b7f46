"""
Write ``memfast/_core.pyi`` from what the compiled module says of itself.

cffi knows the type of every function it bound, so the stub is derived, never
typed by hand. Parameter names come from csrc/memfast.h. To renew the stub after
a change of the header: ``make stub``.
"""

import keyword
import re
from pathlib import Path
from typing import Any

from memfast._core import ffi, lib

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "memfast" / "_core.pyi"

HEAD = '''\
"""Types of the cffi binding of csrc/memfast.h; written by `make stub`, never by hand."""

from typing import Any, Final, type_check_only

from _cffi_backend import FFI

_CData = FFI.CData

@type_check_only
class _Lib:
'''

TAIL = """
@type_check_only
class _FFI(FFI):
    # The fields of a struct are known to the compiled module only: hence Any.
    def addressof(self, cdata: Any, /, *fields_or_indexes: str | int) -> Any: ...
    def cast(self, cdecl: Any, value: Any) -> Any: ...
    def from_buffer(self, *args: Any, **kwargs: Any) -> Any: ...
    def gc(self, cdata: Any, destructor: Any, size: int = ...) -> Any: ...
    def new(self, cdecl: Any, init: Any = ...) -> Any: ...

ffi: _FFI
lib: _Lib
"""

# cffi lends a bytes object to a C parameter of these types.
BYTES = ("void", "char", "unsigned char", "uint8_t")


def parameter_names(header: str) -> dict[str, list[str]]:
    """Map each function of the header to its parameters' names."""
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    found: dict[str, list[str]] = {}
    for name, inside in re.findall(r"\b(mf_\w+)\(((?:[^()]|\([^()]*\))*)\)\s*;", code):
        # A function pointer's name stands in its first parentheses: int (*ready)(const void *).
        flat = re.sub(r"\(\*(\w+)\)\s*\([^()]*\)", r"\1", inside)
        words = [re.findall(r"\w+", parameter) for parameter in flat.split(",")]
        names = [word[-1] for word in words if word and word != ["void"]]
        found[name] = [word + "_" * keyword.iskeyword(word) for word in names]
    return found


def type_of(ctype: Any, *, result: bool) -> str:
    """Name the Python type that cffi takes, or gives, for a C type."""
    if ctype.kind == "void":
        return "None"
    if ctype.kind in ("primitive", "enum"):
        if ctype.cname in ("float", "double"):
            return "float"
        if ctype.cname == "_Bool":
            return "bool"
        return "bytes" if ctype.cname == "char" else "int"
    if not result and ctype.kind == "pointer" and ctype.item.cname in BYTES:
        return "_CData | bytes"
    return "_CData"


def function_line(name: str, names: list[str]) -> str:
    """Write the stub of one function."""
    ctype = ffi.typeof(getattr(lib, name))
    if len(names) != len(ctype.args):
        raise ValueError(f"{name}: {len(ctype.args)} parameters bound, {names} in memfast.h")
    parameters = [
        f"{parameter}: {type_of(argument, result=False)}"
        for parameter, argument in zip(names, ctype.args, strict=True)
    ]
    inside = ", ".join(["self", *parameters, *(["/"] if parameters else [])])
    return f"    def {name}({inside}) -> {type_of(ctype.result, result=True)}: ...\n"


def stub() -> str:
    """Return the whole stub."""
    names = parameter_names((ROOT / "csrc" / "memfast.h").read_text())
    members = []
    for name in sorted(dir(lib)):
        if isinstance(getattr(lib, name), int):
            members.append(f"    {name}: Final = {getattr(lib, name)}\n")
        else:
            members.append(function_line(name, names[name]))
    return HEAD + "".join(members) + TAIL


if __name__ == "__main__":
    STUB.write_text(stub())
