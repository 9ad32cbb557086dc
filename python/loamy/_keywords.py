"""What is said of a keyword that there is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_RECORDED = ("journal", "retry_failed", "resend_in_doubt", "keep_good")
"""Those that say what a journal is and what is done with it."""

OWN = {
    "send": ("policy", "progress", "on_response", *_RECORDED),
    "stream": ("order", "window", "policy", "progress", "on_response", *_RECORDED, "replay"),
    "send_async": ("policy", "progress", "on_response", *_RECORDED),
    "resend": ("in_doubt", "policy"),
}
"""The keywords of each door that are no fields of a policy."""

_OF_ROWS = ("url", "method", "params", "json", "data", "content", "tag", "raw_url", "cost", "limit_key")
"""What only a row can say."""

_ELSEWHERE = {
    "cert": "client certificates are not supported",
    "ssl": "verify=False, verify='bundle.pem' or extra_ca='issuer.pem' say whom to trust",
    "auth": "headers={'Authorization': …} holds for every row, user:password@ in a URL for one",
    "cookies": "none are kept; headers={'Cookie': …} sends some with every row",
    "proxy": "proxies are not spoken in this version",
    "proxies": "proxies are not spoken in this version",
    "files": "bodies of several parts are not made in this version; a row's 'content' takes the bytes of one",
    "body": "a row is a dict with its 'json', 'data' (a form) or 'content' (bytes)",
    "query": "it is a row's 'params'",
    "query_params": "it is a row's 'params'",
    "max_workers": "concurrency= says how many rows are in flight at once",
    "workers": "concurrency= says how many rows are in flight at once",
    "max_concurrency": "concurrency= says how many rows are in flight at once",
    "max_connections": "concurrency= says how many rows are in flight at once, per_host= to one host",
    "limit_per_host": "per_host= says how many rows are in flight at once to one host",
    "retry": "it is retries=",
    "max_retries": "it is retries=",
    "allow_redirects": "it is follow_redirects=; a row has both names",
    "http2": "it is http_version=",
    "user_agent": "headers={'User-Agent': …} says it",
    "callback": "it is on_response=",
    "stream": "a body arrives whole; loamy.stream() is for lists of rows that are long",
    "return_exceptions": "a row that fails raises nothing, and its response has its error",
    "raise_for_status": "raise_for_failures() of what comes back raises",
    "base_url": "a row's URL is whole",
    "session": "there is nothing to be opened or closed",
}
"""What other clients call it."""

_SIMILAR = 0.75
"""How much two names must have in common for one to be a slip for the other."""


def instead(door: str, name: str, fields: Sequence[str]) -> str:
    """Say what to write instead of a keyword that a door has not; ``fields`` are those of a policy."""
    if name in _OF_ROWS:
        return f": it belongs to a row, as in {{'url': url, {name!r}: …}}"
    if name in _ELSEWHERE:
        return f": {_ELSEWHERE[name]}"
    having = [f"{other}()" for other, own in OWN.items() if name in own]
    if door == "resend" and name in _RECORDED:
        return ": it keeps no journal; make the call again, with its journal= and retry_failed=True"
    if having:
        return f"; it is one of {' and '.join(having)}"
    return nearest(name, [*OWN.get(door, ("policy",)), *fields])


def nearest(name: str, known: Sequence[str]) -> str:
    """Say which known name is meant, or which there are."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=_SIMILAR)
    return f"; is it {close[0]!r}?" if close else f"; known are {', '.join(known)}"
