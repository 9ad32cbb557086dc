"""The documentation's example of `Clump`; only its host is another one."""

from loamy import testing
from loamy.session import Clump, RequestMap, RequestResponse

server = testing.serve()

# Create RequestMap objects
req1 = RequestMap(
    url=server.url("/anything/api"),
    http_op="GET",
    query_params={"type": "meat-and-filler", "format": "json"},
)
req2 = RequestMap(
    url=server.url("/anything/api"),
    http_op="GET",
    query_params={"type": "all-meat", "format": "json"},
)
req3 = RequestMap(
    url=server.url("/anything/api"),
    http_op="GET",
    query_params={"type": "meat-and-filler", "format": "json"},
)

# Create Clump and call send_requests()
session = Clump(requests=[req1, req2, req3])
responses: list[RequestResponse] = session.send_requests(return_exceptions=True)

# Handle responses for individual requests
for resp in responses:
    http_verb = resp.request_map.http_op
    print(f"Evaluating response for {http_verb} request to {resp.request_map.url}")
    if resp.error is not None:
        print("Exception raised for request")
    else:
        print(f"Status Code: {resp.status_code}")
        if resp.body is not None:
            print(resp.body)

assert [(resp.request_map, resp.status_code) for resp in responses] == [(req1, 200), (req2, 200), (req3, 200)]
