"""In a notebook an event loop runs already. `send` and `Clump` work there as anywhere; nothing has to be patched."""

import asyncio

import loamy
from loamy import testing
from loamy.session import Clump, RequestMap


async def cell(server: testing.TestServer) -> None:
    """Do what a cell of a notebook does: call ordinary code beneath a running loop."""
    assert asyncio.get_running_loop().is_running()
    responses = loamy.send([server.url("/json"), server.url("/status/503")])
    print(responses)  # as the last line of a cell, `responses` alone shows the same
    print(Clump([RequestMap(server.url("/json"), "GET")]).send_requests()[0].body)

    rows = responses.rows()  # plain dicts, for a data frame: pandas.DataFrame(responses.rows())
    assert [row["status_code"] for row in rows] == [200, 503]
    assert responses._repr_html_().startswith("<p>2 responses")


with testing.serve() as own:
    asyncio.run(cell(own))
