"""`zSession.sendRequests`, as zConcurrent's documentation shows it."""

from __future__ import annotations

import answers
from zconcurrent.zsession import RequestMap, zSession


def main() -> None:
    """Send the task's requests as one list and check each answer's status and decoded JSON."""
    task = answers.job()
    results = zSession(
        requestMaps=[RequestMap(url=task.url, httpOperation="GET") for _ in range(task.count)]
    ).sendRequests()
    if results.taskExceptions:
        answers.fail(repr(results.taskExceptions[0]))
    right = 0
    for response in results.requestResponses:
        task.check_json(response.statusCode, response.body)
        right += 1
    answers.report(task, right)


main()
