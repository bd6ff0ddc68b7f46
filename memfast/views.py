"""What every handle on attached memory has in common: its views, and how it lets go."""

from __future__ import annotations

from operator import index

from memfast import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    import numpy
    from typing_extensions import Buffer

__all__ = ["Attached"]


class Attached:
    """
    A handle on pages. The pages stay attached while the handle is open or any view of them lives.

    A memoryview, a slice of one, an array and a DLPack capsule are all views:
    each holds the pages by itself, so ``close()`` never pulls memory from under one.
    """

    __slots__ = ("__weakref__", "_pages", "_readonly", "_size")

    _pages: Any  # a memfast._fast.Pages; None once closed
    _readonly: bool
    _size: int

    @property
    def size(self) -> int:
        """The bytes that may be used; also known after ``close()``."""
        return self._size

    @property
    def readonly(self) -> bool:
        """Whether every view is read-only."""
        return self._readonly

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called on this handle."""
        return self._pages is None

    @property
    def pages(self) -> Any:
        """The ``_fast.Pages`` that hold the attachment. Raises ClosedError."""
        pages = self._pages
        if pages is None:
            raise errors.ClosedError(f"{self!r}: this handle was closed; open it again to use it")
        return pages

    @property
    def buf(self) -> memoryview:
        """A new memoryview of all bytes, which keeps them attached. Raises ClosedError."""
        return memoryview(self.pages)

    def close(self) -> None:
        """Let go of the pages; they are detached when no view of them is left. Never raises."""
        self._pages = None

    def read(self, n: int = -1, offset: int = 0) -> bytes:
        """
        Return a copy of *n* bytes from *offset*, or fewer where the memory ends; -1: up to the end.

        Any thread may call it. One copy, no system call, no lock: a writer in
        another process may be in the middle of its work. Raises ClosedError,
        ValueError (*offset* outside).
        """
        pages, n, offset = self.pages, index(n), self._offset(offset)
        if n < -1:
            raise ValueError(f"read of {n} bytes: a number of bytes, or -1 for all up to the end")
        return bytes(memoryview(pages)[offset : None if n == -1 else offset + n])

    def write(self, data: Buffer, offset: int = 0) -> int:
        """
        Copy any bytes-like *data* to *offset*; return how many bytes that were.

        All or nothing: what would not fit raises ValueError and changes
        nothing. One copy (two if *data* is not contiguous), no system call, no
        lock. Raises ClosedError, AccessError (read-only).
        """
        pages, offset = self.pages, self._offset(offset)
        if self._readonly:
            raise errors.AccessError(f"write to {self!r}: it was opened with readonly=True")
        with memoryview(data) as view:
            if view.nbytes > self._size - offset:
                raise ValueError(
                    f"write of {view.nbytes} bytes at offset {offset}:"
                    f" only {self._size - offset} of {self._size} bytes follow"
                )
            if view.nbytes == 0:  # memoryview.cast() refuses a shape with a zero
                return 0
            flat = view.cast("B") if view.c_contiguous else view.tobytes()
            memoryview(pages)[offset : offset + view.nbytes] = flat
            return view.nbytes

    def ndarray(self, shape: Any, dtype: Any, offset: int = 0) -> numpy.ndarray[Any, Any]:
        """
        Return an array of *shape* and *dtype* on the memory itself, from byte *offset* on.

        No copy. The array, and each slice of it, holds the pages; it is
        read-only where the handle is. Needs NumPy (``pip install
        memfast[numpy]``). Raises ClosedError, ValueError (it does not fit, or
        the dtype holds Python objects).
        """
        try:
            import numpy
        except ImportError:
            raise ImportError("ndarray() needs NumPy: pip install 'memfast[numpy]'") from None
        pages, offset, kind = self.pages, self._offset(offset), numpy.dtype(dtype)
        if kind.hasobject:
            raise ValueError(f"ndarray of {kind}: Python objects mean nothing to another process")
        try:
            return numpy.ndarray(shape, kind, memoryview(pages), offset)
        except TypeError as error:  # "buffer is too small for requested array"
            raise ValueError(
                f"ndarray of shape {shape} and dtype {kind} at offset {offset}"
                f" in {self._size} bytes: {error}"
            ) from None

    def __dlpack__(self, **options: Any) -> Any:
        return self.ndarray((self._size,), "uint8").__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU, as each array of NumPy

    def __enter__(self) -> Self:
        self.pages  # noqa: B018  (raises if closed)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _offset(self, offset: int) -> int:
        offset = index(offset)
        if not 0 <= offset <= self._size:
            raise ValueError(f"offset {offset} lies outside of the {self._size} bytes")
        return offset
