"""`Clump.send_requests`, as its documentation shows it: the same file for the published 0.0.10 and for this package.

The whole list of responses is held until the end. Clump sets its own number of connections: 100.
"""

from __future__ import annotations

import answers
from loamy.session import Clump, RequestMap


def main() -> None:
    """Send the task's requests as one list and check each answer's status and decoded JSON."""
    task = answers.job()
    responses = Clump(requests=[RequestMap(url=task.url, http_op="GET") for _ in range(task.count)]).send_requests()
    right = 0
    for response in responses:
        task.check_json(response.status_code, response.body)
        right += 1
    answers.report(task, right)


main()
