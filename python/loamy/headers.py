"""Headers of a response: a dict that finds its names in any spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from loamy._loamy import canonical_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

T = TypeVar("T")


class Headers(dict[str, str]):
    """The headers of a response.

    Keys have their canonical spelling (``Content-Type``) and are found in any (``headers["content-type"]``). Values of a header
    that came more than once are joined with ``", "``, save ``Set-Cookie``, of which the first stands here: ``get_list`` has all,
    and ``raw`` has the bytes as they came; both tell what came, whatever is set or deleted here. JSON, msgspec, pickle, ``copy`` and
    ``dict(headers)`` work as with any dict.
    """

    __slots__ = ("_lines",)
    _lines: bytes

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = (), /) -> None:
        super().__init__()
        self._lines = b""
        self.update(fields)

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Every field as received: name and value in bytes, in the order of the wire."""
        fields = []
        for line in self._lines.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b":")
            fields.append((name, value.removeprefix(b" ")))
        return fields

    def get_list(self, name: str) -> list[str]:
        """Every value of the header, one for each time that it came; empty when it did not."""
        wanted = name.lower().encode()
        values = [value for own, value in self.raw if own.lower() == wanted]
        if not values and name in self:
            return [self[name]]
        return [_text(value) for value in values]

    def __missing__(self, name: object) -> str:
        if isinstance(name, str) and (canonical := canonical_name(name)) != name and dict.__contains__(self, canonical):
            return dict.__getitem__(self, canonical)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or (
            isinstance(name, str) and dict.__contains__(self, canonical_name(name))
        )

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    @overload
    def get(self, name: str, default: T, /) -> str | T: ...
    def get(self, name: str, default: Any = None, /) -> Any:
        """Return the header's value, its name in any spelling, or the default."""
        try:
            return self[name]
        except KeyError:
            return default

    def __setitem__(self, name: str, value: str) -> None:
        dict.__setitem__(self, canonical_name(name), value)

    def __delitem__(self, name: str) -> None:
        dict.__delitem__(self, canonical_name(name))

    def pop(self, name: str, *default: Any) -> Any:
        """Remove the header, its name in any spelling, and return its value."""
        return dict.pop(self, canonical_name(name), *default)

    def setdefault(self, name: str, default: str = "", /) -> str:
        """Return the header's value; set it to the default first when it is missing."""
        return dict.setdefault(self, canonical_name(name), default)

    def update(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = (), /) -> None:  # type: ignore[override]
        """Set every field given, names in any spelling."""
        for name, value in dict(fields).items():
            self[name] = value

    def __or__(self, fields: Mapping[str, str]) -> Headers:  # type: ignore[override]
        if not isinstance(fields, Mapping):
            return NotImplemented
        whole = self.copy()
        whole.update(fields)
        return whole

    def __ior__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]]) -> Self:  # type: ignore[override]
        self.update(fields)
        return self

    def copy(self) -> Headers:
        """Return an independent copy, ``raw`` included."""
        return _restore(dict(self), self._lines)

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (dict(self), self._lines)


def _restore(fields: dict[str, str], lines: bytes) -> Headers:
    headers = Headers(fields)
    headers._lines = lines
    return headers


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
