"""Build ``memfast._core``: ``csrc/memfast.h`` is the cffi cdef itself, so the two cannot drift."""

from glob import glob
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent


def cdef_of(header: str) -> str:
    """Blank the preprocessor lines; were they removed, a parse error would name a wrong line."""
    return "\n".join("" if line.startswith("#") else line for line in header.splitlines())


ffibuilder = FFI()
ffibuilder.cdef(cdef_of((ROOT / "csrc" / "memfast.h").read_text()))
ffibuilder.set_source(
    "memfast._core",
    '#include "memfast.h"',
    sources=sorted(glob("csrc/*.c")),
    depends=sorted(glob("csrc/*.h")),
    include_dirs=["csrc"],
    extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", "-fno-strict-aliasing"],
    extra_link_args=["-Wl,-z,relro,-z,now", "-Wl,--build-id"],
)
