"""`loamy.stream`: rows pulled from a generator, each response dropped once it is checked."""

from __future__ import annotations

from collections.abc import Iterator

import answers
import loamy


def main() -> None:
    """Send the task's URLs as a stream and check each answer as it comes."""
    task = answers.job()

    def urls() -> Iterator[str]:
        for _ in range(task.count):
            yield task.url

    right = 0
    for response in loamy.stream(urls(), concurrency=task.connections):
        if task.expected is not None:
            task.check_json(response.status_code, response.json())
        else:
            task.check_bytes(response.status_code, response.content)
        right += 1
    answers.report(task, right)


main()
