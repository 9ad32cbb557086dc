"""Each failure is an exception with a stable kind, an honest text and, where there is one, a hint."""

import pickle

import loamy
from loamy import testing

with testing.serve() as server:
    nobody = testing.serve()
    nobody.stop()
    responses = loamy.send(
        [
            server.url("/json"),
            nobody.url("/"),
            "example.com",
            ("get", server.url("/json")),
            {"url": server.url("/hang"), "timeout": {"first_byte": 0.2}},
            server.url("/status/503"),
        ]
    )

for response in responses.failed:
    print(f"row {response.index}: {response.error or response}\n")

kinds = [response.kind for response in responses]
assert kinds == [None, "connect.refused", "bad_request", "bad_request", "timeout.first_byte", None]

# The classes are also the builtin ones that code for other clients catches.
for response, builtin in ((responses[1], ConnectionError), (responses[2], ValueError), (responses[4], TimeoutError)):
    try:
        response.raise_for_status()
    except builtin as error:
        assert isinstance(error, loamy.LoamyError) and isinstance(error, builtin)

try:
    responses.raise_for_failures()
except loamy.FailedResponses as error:
    print(f"{len(error.responses)} of {len(responses)} failed; first of them: {error.__cause__}")
    assert str(pickle.loads(pickle.dumps(error.__cause__))) == str(error.__cause__)
