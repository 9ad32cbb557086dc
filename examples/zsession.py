"""The documentation's example of `zSession`, with a request that fails added; only its host is another one."""

from loamy import testing
from zconcurrent.zsession import RequestMap, RequestResults, zSession

server = testing.serve()

# Create RequestMap objects
req1 = RequestMap(
    url=server.url("/anything/api"),
    httpOperation="GET",
    queryParams={"type": "meat-and-filler", "format": "json"},
)
req2 = RequestMap(url=server.url("/html"), httpOperation="GET")
req3 = RequestMap(url=server.url("/anything/api"), httpOperation="POST", body={"type": "all-meat"})

# Create zSession and call sendRequests()
session = zSession(requestMaps=[req1, req2, req3])
reqResps: RequestResults = session.sendRequests(return_exceptions=True)

# Handle exceptions raised for individual requests
if len(reqResps.taskExceptions) > 0:
    print("Handling exceptions")
    for error in reqResps.taskExceptions:
        print(error)

# Handle responses for individual requests
for resp in reqResps.requestResponses:
    httpVerb = resp.requestMap.httpOperation
    print(f"Evaluating response for {httpVerb} request to {resp.requestMap.url}")
    print(f"Status Code: {resp.statusCode}")
    if resp.body is not None:
        print(resp.body)

assert [resp.requestMap for resp in reqResps.requestResponses] == [req1, req3]
assert [getattr(error, "request_map", None) for error in reqResps.taskExceptions] == [req2]
server.stop()
