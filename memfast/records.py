"""NamedTuple without typing, whose import costs more than half of what memfast's does."""

from __future__ import annotations

__all__ = ["NamedTuple"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    class _Fields(type):
        """Turns a class body into a namedtuple, with the methods and docstring of the body."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = list(body["__annotations__"])
            defaults = [body.pop(field) for field in fields if field in body]
            record = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            record.__doc__ = body.get("__doc__")
            record.__annotations__ = body["__annotations__"]
            for key, value in body.items():
                if key not in ("__annotations__", "__module__", "__qualname__", "__doc__"):
                    setattr(record, key, value)
            return record

    class NamedTuple(metaclass=_Fields):
        """A frozen record that is a tuple: as typing.NamedTuple."""
