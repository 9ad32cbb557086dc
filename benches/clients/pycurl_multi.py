"""pycurl's multi interface with reused handles: perform() and select().

Measured here at less than half the CPU of socket_action() with epoll, whose callbacks into Python cost more than
libcurl's own look at 64 sockets.

Started as it is, it does what the other clients of the table do: each row has its URL, and each answer is kept in its
place with status, headers as a dict and decoded body. With ``bare`` after the task, the URL is set once, headers are
not asked for and nothing is kept: the least that a check of status and body allows.

The wheel's libcurl looks for certificates nowhere by itself, so it is told what ``SSL_CERT_FILE`` names.
"""

from __future__ import annotations

import os
import sys

import answers
import orjson
import pycurl


class Transfer:
    """One reusable handle and what it received."""

    def __init__(self, url: str, bare: bool) -> None:
        """A handle for `url`."""
        self.row = 0
        self.lines: list[bytes] = []
        self.chunks: list[bytes] = []
        self.handle = pycurl.Curl()
        self.handle.setopt(pycurl.URL, url)
        self.handle.setopt(pycurl.WRITEFUNCTION, self.chunks.append)
        self.handle.setopt(pycurl.NOSIGNAL, 1)
        self.handle.setopt(pycurl.PROXY, "")
        if roots := os.environ.get("SSL_CERT_FILE"):
            self.handle.setopt(pycurl.CAINFO, roots)
        if not bare:
            self.handle.setopt(pycurl.HEADERFUNCTION, self.lines.append)

    def body(self) -> bytes:
        """The body received; the handle is ready for the next one."""
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return body

    def headers(self) -> dict[str, str]:
        """The headers received; the handle is ready for the next ones."""
        lines = b"".join(self.lines).decode("latin-1").split("\r\n")
        self.lines.clear()
        # Without the status line, and the empty line with what follows it.
        return dict([line.split(": ", 1) for line in lines[1:-2]])


def main() -> None:
    """Send the task's requests over a fixed set of handles and check each answer as it comes."""
    task = answers.job()
    bare = sys.argv[5:] == ["bare"]
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, task.connections)
    kept: list[tuple[int, dict[str, str], object] | None] = [] if bare else [None] * task.count
    begun = min(task.connections, task.count)
    transfers = {}
    for row in range(begun):
        transfer = Transfer(task.url, bare)
        transfer.row = row
        transfers[transfer.handle] = transfer
        multi.add_handle(transfer.handle)

    right = 0
    while right < task.count:
        multi.perform()
        waiting = 1
        while waiting:
            waiting, finished, failed = multi.info_read()
            if failed:
                answers.fail(str(failed[0][1:]))
            for handle in finished:
                transfer = transfers[handle]
                status = handle.getinfo(pycurl.RESPONSE_CODE)
                body = transfer.body()
                if task.expected is None:
                    answer = body
                    task.check_bytes(status, body)
                else:
                    answer = orjson.loads(body)
                    task.check_json(status, answer)
                right += 1
                if not bare:
                    kept[transfer.row] = (status, transfer.headers(), answer)
                multi.remove_handle(handle)
                if begun < task.count:
                    if not bare:
                        transfer.row = begun
                        handle.setopt(pycurl.URL, task.url)
                    begun += 1
                    multi.add_handle(handle)
        if right < task.count:
            multi.select(1.0)
    if None in kept:
        answers.fail("a row has no answer")
    answers.report(task, right)


main()
