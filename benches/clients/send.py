"""`loamy.send`: the list of URLs in, the list of responses out."""

from __future__ import annotations

import answers
import loamy


def main() -> None:
    """Send the task's URLs as one list and check each answer."""
    task = answers.job()
    responses = loamy.send([task.url] * task.count, concurrency=task.connections)
    right = 0
    for response in responses:
        if task.expected is not None:
            task.check_json(response.status_code, response.json())
        else:
            task.check_bytes(response.status_code, response.content)
        right += 1
    answers.report(task, right)


main()
