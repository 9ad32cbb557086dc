"""What `make demo` runs: the documentation's example, then 1,000 mixed requests, against a server of our own."""

import json
import runpy
import socket
import sys
import time
from pathlib import Path
from typing import Any

import loamy
import loamy.testing

METHODS = ("GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE")


def main() -> None:
    documentation()
    with loamy.testing.serve(keep_log=False) as server:
        mixed(server)
        speed(server)


def documentation() -> None:
    """Run the example of the documentation as it stands."""
    heading("The documentation's example: three GETs through Clump")
    runpy.run_path(str(Path(__file__).with_name("clump.py")))


def mixed(server: loamy.testing.TestServer) -> None:
    """Send 1,000 rows of all six methods, a few of which cannot end well."""
    heading("1,000 mixed rows through loamy.send; one in four takes 0.2 s, a few cannot end well")
    rows = [ordinary(server, number) for number in range(1000)]
    rows[100] = {"url": f"http://127.0.0.1:{refused_port()}/nobody-listens"}
    rows[300] = {"url": server.url("/status/404")}
    rows[500] = {"url": server.url("/html")}
    rows[700] = {"url": server.url("/delay/30"), "timeout": 1.0}
    rows[900] = {"url": server.url("/reset"), "method": "POST", "json": {"pay": 100}}

    began = time.perf_counter()
    responses = loamy.send(rows, progress=show_progress)
    took = time.perf_counter() - began
    print(f"\nprint(responses) says:\n{responses}")

    print("\nand what each failure says in full:")
    for response in responses.failed:
        try:
            response.raise_for_status()
        except loamy.LoamyError as error:
            tell(response.index, error)
    print(f"\nrow 500 is ok, with status {responses[500].status_code}; only its JSON cannot be had:")
    try:
        responses[500].json()
    except loamy.JSONDecodeError as error:
        tell(500, error)

    check(rows, responses)
    print(f"\n{len(rows):,} rows went in, {len(responses):,} responses came out, each in its row's place")
    slowest = max(response.elapsed for response in responses)
    print(f"in {took:.2f} s, {len(rows) / took:,.0f} requests per second; the slowest row alone took {slowest:.2f} s")


def ordinary(server: loamy.testing.TestServer, number: int) -> dict[str, Any]:
    """Make a row that the server answers with what it received."""
    method = METHODS[number % len(METHODS)]
    url = server.url("/delay/0.2" if number % 4 == 0 else "/anything")
    row: dict[str, Any] = {"url": url, "method": method, "params": {"n": number}, "tag": number}
    if method in ("POST", "PUT", "PATCH"):
        row["json"] = {"number": number}
    return row


def tell(index: int, error: loamy.LoamyError) -> None:
    text = str(error).replace("\n", "\n  ")
    print(f"\n  row {index}: {text}\n  in_doubt={error.in_doubt}, retryable={error.retryable}")


def check(rows: list[dict[str, Any]], responses: loamy.Responses) -> None:
    """Fail unless every row has its own answer, in its own place."""
    assert len(responses) == len(rows) == 1000
    for number, (row, response) in enumerate(zip(rows, responses, strict=True)):
        assert response.index == number
        assert response.request is row
        if "tag" in row:
            answer = response.json()
            assert response.ok and response.tag == number
            assert answer["args"] == {"n": str(number)} and answer["method"] == row["method"]
            assert answer["json"] == row.get("json")
    kinds = [responses[number].kind for number in (100, 300, 500, 700, 900)]
    assert kinds == ["connect.refused", None, None, "timeout.total", "closed"], kinds
    assert [response.index for response in responses.failed] == [100, 300, 700, 900]


def speed(server: loamy.testing.TestServer) -> None:
    """Send many small rows, for the figure."""
    rows = [server.url("/json")] * 20_000
    heading(
        f"{len(rows):,} GETs of {len(loamy.send(rows[:1])[0].content)} bytes, server and client in this one process"
    )
    began = time.perf_counter()
    responses = loamy.send(rows)
    took = time.perf_counter() - began
    assert all(response.ok for response in responses) and json.loads(responses[-1].content)
    print(f"{len(rows) / took:,.0f} requests per second")


def show_progress(now: loamy.Progress) -> None:
    """Show where the call stands; called ten times a second."""
    bar = "█" * (20 * now.done // now.total)
    line = f"  {now.elapsed:4.1f} s {bar:░<20} {now.done:,} done, {now.in_flight} in flight, {now.failed} failed   "
    print(line, end="\r" if sys.stdout.isatty() and now.done < now.total else "\n", flush=True)


def refused_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":
    main()
