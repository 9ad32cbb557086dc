"""What failed is sent again, and the answers take their places in the list. What is in doubt is not, unless you say so."""

import loamy
from loamy import testing

with testing.serve() as server:
    rows = [
        server.url("/json"),
        server.url("/count/a?fail=1&status=503"),  # answers 503 to its first visitor
        ("POST", server.url("/reset")),  # the connection breaks after the request was sent
    ]
    responses = loamy.send(rows)
    print(responses)
    assert [response.status_code for response in responses] == [200, 503, 0]

    again = responses.resend(timeout=10)
    print(f"\nafter resend: {again}")
    assert [response.status_code for response in again] == [200, 200, 0]
    assert again[0] is responses[0]  # what was answered is kept, not asked for again

    # The POST may have taken effect: nobody can tell. Sending it again is your decision.
    error = again[2].error
    assert error is not None and error.in_doubt
    seen_before = len(server.requests)
    again.resend(in_doubt=True)
    assert len(server.requests) == seen_before + 1
    print("\nthe row in doubt went out again only when told to")
