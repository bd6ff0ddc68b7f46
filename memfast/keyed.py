"""A text of keys and numbers that is parsed where it is looked at."""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar, Self

__all__ = ["Keyed"]


def attribute_of(key: str) -> str:
    """Active(anon) -> active_anon, MemTotal -> mem_total, DirectMap4k -> direct_map4k."""
    name = ""
    before = "_"
    for character in key:
        if character.isupper() and before.islower():
            name += "_"
        name += character.lower() if character.isalnum() else "_"
        before = character
    return name.rstrip("_").replace("__", "_")


class Keyed(Mapping[str, int]):
    """
    A mapping over the text of one reading; its keys are also attributes, in snake_case.

    A key that is asked for is looked for in the text; only who asks for all of
    them pays for all of them. Where an attribute has its underscores does not
    matter (``hugepages_total``, ``huge_pages_total``). A subclass says whose text
    it is, and has beside it a class that keeps and parses it (``_fast.Reading``).
    """

    __slots__ = ()
    _numbers: dict[str, int] | None
    _source: ClassVar[str]
    _keys: ClassVar[dict[str, str]]  # attribute without underscores -> key, of all texts so far

    @property
    def _text(self) -> bytes:
        raise NotImplementedError

    def _field(self, key: str, /) -> int | None:
        raise NotImplementedError

    def _table(self) -> dict[str, int]:
        raise NotImplementedError

    def _all(self) -> dict[str, int]:
        if self._numbers is None:
            self._numbers = self._table()
        return self._numbers

    def __getitem__(self, key: str) -> int:
        if self._numbers is not None:
            return self._numbers[key]
        value = self._field(key)
        if value is None:
            raise KeyError(key)
        return value

    def __getattr__(self, name: str) -> int:
        if not name.startswith("_"):
            plain = name.replace("_", "")
            if plain not in self._keys:
                self._keys.update((attribute_of(key).replace("_", ""), key) for key in self._all())
            key = self._keys.get(plain)
            if key is not None and key in self:
                return self[key]
        raise AttributeError(f"{self._source} of this kernel has no {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._asdict()]

    def __hash__(self) -> int:
        return hash(self._text)

    def _asdict(self) -> dict[str, int]:
        """Return the figures under their attribute names."""
        return {attribute_of(key): value for key, value in self._all().items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._all()!r})"

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (self._text,)
