"""`loamy.send`: the list of URLs in, the list of responses out."""

from __future__ import annotations

from typing import Any

import answers
import loamy


def main() -> None:
    """Send the task's URLs as one list and check each answer."""
    task = answers.job()
    urls = task.urls * (task.count // len(task.urls))
    rows: list[Any] = list(urls)
    if task.upload is not None:
        body = task.upload.read_bytes()
        rows = [{"url": url, "method": "PUT", "content": body} for url in urls]
    protocol: dict[str, Any] = {}
    if task.is_http2:
        protocol = {"http_version": "2", "h2_connections": task.connections, "h2_streams": task.streams}
    responses = loamy.send(rows, concurrency=task.connections * task.streams, **protocol)
    right = 0
    for response in responses:
        if task.expected is not None:
            task.check_json(response.status_code, response.json())
        else:
            # Read where it lies: `content` would be a copy.
            task.check_bytes(response.status_code, memoryview(response))
        right += 1
    answers.report(task, right)


main()
