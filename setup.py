"""The two bindings of one C core; everything else is in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

setup(
    cffi_modules=["csrc/build_core.py:ffibuilder"],
    ext_modules=[
        Extension(
            "memfast._fast",
            sources=sorted(glob("csrc/*.c") + glob("csrc/fast/*.c")),
            depends=sorted(glob("csrc/*.h") + glob("csrc/fast/*.h")),
            include_dirs=["csrc"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
            extra_compile_args=[
                *("-std=c11", "-O2", "-fvisibility=hidden", "-fno-strict-aliasing"),
                *("-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"),
            ],
            extra_link_args=["-Wl,-z,relro,-z,now", "-Wl,--build-id"],
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
