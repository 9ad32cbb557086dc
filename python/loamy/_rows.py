"""What a row may be, and the keywords of a call, as annotations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Unpack
elif sys.version_info >= (3, 11):
    from typing import Unpack
else:

    class Unpack:
        """Stands in for what typing has from 3.11 on, so that annotations can be read."""

        def __class_getitem__(cls, fields: Any) -> Any:
            return fields


__all__ = ["Row", "Unpack"]


class _Map(Protocol):
    """A RequestMap of `loamy.session`."""

    @property
    def url(self) -> str: ...
    @property
    def http_op(self) -> str: ...
    @property
    def body(self) -> Any: ...
    @property
    def query_params(self) -> Any: ...
    @property
    def headers(self) -> Any: ...


class _OlderMap(Protocol):
    """A RequestMap of `zconcurrent.zsession`."""

    @property
    def url(self) -> str: ...
    @property
    def httpOperation(self) -> str: ...
    @property
    def body(self) -> Any: ...
    @property
    def queryParams(self) -> Any: ...
    @property
    def headers(self) -> Any: ...


Row: TypeAlias = str | tuple[str, str] | list[str] | dict[str, Any] | _Map | _OlderMap
"""What `loamy.send` and its kin take as a row: a URL, a pair of method and URL, a dict, or a RequestMap."""
