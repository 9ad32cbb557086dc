"""What the server receives for each kind of request, to the byte."""

from __future__ import annotations

from typing import Any

from door import Door
from scene import Observation, Scene, scenario
from scripted_server import Answer, Received, reply

METHODS = ("GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE")


def sent(
    door: Door,
    scene: Scene,
    url: str = "/x",
    method: str = "GET",
    body: Any = None,
    query: Any = None,
    headers: Any = None,
) -> Observation:
    """Sends one request to a server of its own: status and error of the caller, and the request itself."""
    with scene.server() as server:
        told = door.one(server.origin + url, method, body, query, headers)
        records = server.seen(own=list(headers or []))
    caller = {name: told.get(name) for name in ("status", "error", "refused_at_construction")}
    # One name for all servers of a scenario, so that the cases read alike.
    for record in records:
        for header in record["own_headers"] + record["other_headers"]:
            header[1] = header[1].replace(str(server.port), "<port>")
    return {**caller, "requests": records}


@scenario("K8", "K16")
def six_methods_without_body(door: Door, scene: Scene) -> Observation:
    return {method: sent(door, scene, method=method) for method in METHODS}


@scenario("K8", "K13", "K16")
def six_methods_with_body(door: Door, scene: Scene) -> Observation:
    return {method: sent(door, scene, method=method, body={"a": [1, "b"]}) for method in METHODS}


@scenario("K8", "K16")
def six_methods_with_empty_body(door: Door, scene: Scene) -> Observation:
    return {method: sent(door, scene, method=method, body={}) for method in METHODS}


@scenario("K13")
def json_bodies(door: Door, scene: Scene) -> Observation:
    bodies: dict[str, dict[Any, Any]] = {
        "separators": {"a": 1, "b": {"c": [1, 2, {"d": None}]}},
        "key_order": {"z": 1, "a": 2, "m": 3},
        "unicode": {"é": "日本 🎉", "del": "\x7f", "line": "\u2028"},
        "escapes": {"a": '"quoted" \\ / \b\f\n\r\t\x00\x1f'},
        "lone_surrogate": {"a": "\ud83c"},
        "floats": {"a": 0.1, "b": 1.0, "c": 1e22, "d": 1e-7, "e": -0.0, "f": 123456789.123456789},
        "big_integers": {"a": 2**63 - 1, "b": -(2**63), "c": 2**64, "d": 2**200},
        "booleans": {"a": True, "b": False, "c": None},
        "tuples": {"a": (1, (2, 3))},
        "other_keys": {1: "int", 2.5: "float", False: "boolean", None: "none"},
        "large": {"a": ["0123456789"] * 20_000},
    }
    return {name: sent(door, scene, method="PUT", body=body) for name, body in bodies.items()}


@scenario("K13")
def bodies_that_json_cannot_carry(door: Door, scene: Scene) -> Observation:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    bodies: dict[str, dict[Any, Any]] = {
        "not_a_number": {"a": float("nan")},
        "infinite": {"a": [float("-inf")]},
        "set": {"a": {1}},
        "bytes": {"a": b"bytes"},
        "object": {"a": object()},
        "cycle": cycle,
        "tuple_key": {(1, 2): "a"},
    }
    return {name: sent(door, scene, method="PUT", body=body) for name, body in bodies.items()}


@scenario("K14")
def query_parameters(door: Door, scene: Scene) -> Observation:
    cases: dict[str, tuple[str, Any]] = {
        "simple": ("/x", {"type": "meat-and-filler", "format": "json"}),
        "order": ("/x", {"z": "1", "a": "2", "m": "3"}),
        "space": ("/x", {"q": "a b  c"}),
        "plus": ("/x", {"q": "1+1"}),
        "space_in_name": ("/x", {"a b": "1"}),
        "plus_in_name": ("/x", {"a+b": "1"}),
        "delimiters": ("/x", {"q": "a&b=c;d#e"}),
        "delimiters_in_name": ("/x", {"a&b=c#d": "1"}),
        "percent": ("/x", {"q": "100% %20 %zz"}),
        "unicode": ("/x", {"q": "é日本🎉", "é": "1"}),
        "unreserved": ("/x", {"q": "AZaz09-._~"}),
        "sub_delimiters": ("/x", {"q": "!$'()*,"}),
        "path_characters": ("/x", {"q": "/?:@"}),
        "other_ascii": ("/x", {"q": '"<>[]\\^`{|}'}),
        "control": ("/x", {"q": "a\tb\r\nc\x00d"}),
        "empty_value": ("/x", {"q": ""}),
        "empty_name": ("/x", {"": "v"}),
        "no_parameters": ("/x", {}),
        "after_own_query": ("/x?own=1", {"q": "2"}),
        "same_name_as_own": ("/x?q=1", {"q": "2"}),
        "after_empty_own_query": ("/x?", {"q": "2"}),
        "before_fragment": ("/x#part", {"q": "2"}),
        "no_path": ("", {"q": "2"}),
    }
    return {name: sent(door, scene, url, query=query) for name, (url, query) in cases.items()}


@scenario("K14")
def query_values_of_other_types(door: Door, scene: Scene) -> Observation:
    values = {"integer": 7, "float": 2.5, "list": ["1", "2"], "list_of_integers": [1, 2]}
    return {name: sent(door, scene, query={"q": value}) for name, value in values.items()}


@scenario("K14")
def boolean_query_values(door: Door, scene: Scene) -> Observation:
    told = sent(door, scene, query={"q": True})
    lines = [record["line"].lower() for record in told.pop("requests")]
    return {**told, "lines_in_lower_case": lines}


@scenario("K15")
def urls_go_out_as_given(door: Door, scene: Scene) -> Observation:
    urls = {
        "nothing": "",
        "root": "/",
        "query_without_path": "?a=1",
        "empty_query": "/x?",
        "fragment": "/x?a=1#part",
        "escaped_slash": "/a%2Fb",
        "escaped_unreserved": "/%7Euser/%41",
        "lower_case_escape": "/%c3%a9",
        "upper_case_escape": "/%C3%A9",
        "double_escape": "/a%252Fb",
        "escaped_delimiters": "/%3A%40%21%24%26%27%28%29%2A%2B%2C%3B%3D",
        "legal_delimiters": "/:@!$&'()*+,;=",
        "lone_percent": "/100%",
        "space_in_path": "/a b",
        "unicode_in_path": "/é/日本",
        "dots": "/a/./b/../c",
        "double_slash": "/a//b/",
        "query_space": "/x?q=a b",
        "query_plus": "/x?q=a+b",
        "query_escaped_plus": "/x?q=a%2Bb",
        "query_escaped_space": "/x?q=a%20b",
        "query_unicode": "/x?q=é",
        "query_lower_case_escape": "/x?q=%c3%a9",
        "query_escaped_delimiters": "/x?q=a%2Fb%3Fc%3Dd%26e%3A%40",
        "query_legal_delimiters": "/x?q=/?:@!$()*,;",
        "query_names_without_value": "/x?a&b=&=c&&d",
        "query_apostrophe": "/x?q='a'",
        "query_quotation_mark": '/x?q="b"',
        "query_brackets": "/x?a[0]=1&b{c}=|2|",
        "signed": "/bucket/key%2Bname?X-Amz-Credential=AK%2F20260101%2Fs3&X-Amz-Signature=ab%7Ecd%3D",
        "signed_date": "/o?Expires=1700000000&Signature=a%2Bb%2fc%3d%3D&Key-Pair-Id=K",
    }
    return {name: sent(door, scene, url) for name, url in urls.items()}


@scenario("K15")
def own_query_stays_untouched_beside_parameters(door: Door, scene: Scene) -> Observation:
    urls = {
        "signature": "/x?sig=a%2Fb%3D",
        "lower_case_escape": "/x?q=%c3%a9",
        "plus": "/x?q=a+b",
        "escaped_space": "/x?q=a%20b",
        "name_without_value": "/x?flag",
    }
    return {name: sent(door, scene, url, query={"p": "1 2"}) for name, url in urls.items()}


@scenario("K15")
def control_characters_in_urls(door: Door, scene: Scene) -> Observation:
    urls = {"tab": "/a\tb", "line_feed": "/a\nb", "carriage_return": "/a\rb", "smuggled": "/a\r\nX: y"}
    return {name: sent(door, scene, url) for name, url in urls.items()}


@scenario("K18")
def request_headers_keep_spelling_and_order(door: Door, scene: Scene) -> Observation:
    cases = {
        "spelling": {"x-lower": "1", "X-UPPER": "2", "MiXeD-case": "3", "a": "4"},
        "order": {"Zeta": "1", "Alpha": "2", "mid": "3"},
        "user_agent": {"user-agent": "mine"},
        "accept": {"ACCEPT": "application/json"},
        "accept_encoding": {"accept-encoding": "identity"},
        "host": {"host": "example.test"},
        "authorization": {"authorization": "Bearer t0ken"},
        "cookie": {"cookie": "a=1; b=2"},
        "connection_close": {"connection": "close"},
        "empty_value": {"X-Empty": ""},
        "spaces_within": {"X-Spaces": "a  b"},
        "unicode_value": {"X-Unicode": "é日本"},
        "no_headers": {},
    }
    return {name: sent(door, scene, headers=headers) for name, headers in cases.items()}


@scenario("K18")
def content_type_of_the_user_wins(door: Door, scene: Scene) -> Observation:
    types = {"vendor": {"content-type": "application/vnd.api+json"}, "text": {"Content-Type": "text/plain"}}
    return {name: sent(door, scene, method="PUT", body={"a": 1}, headers=headers) for name, headers in types.items()}


@scenario("K9", "K19")
def header_values_that_would_smuggle(door: Door, scene: Scene) -> Observation:
    values = {"line_feed": "a\nX: y", "carriage_return": "a\rb", "both": "a\r\nX: y"}
    return {name: sent(door, scene, headers={"X-A": value}) for name, value in values.items()}


@scenario("K15")
def userinfo_becomes_basic_authorization(door: Door, scene: Scene) -> Observation:
    with scene.server() as server:
        url = server.origin.replace("http://", "http://user:p%40ss@")
        told = door.one(f"{url}/x")
        records = server.seen(own=["Authorization"])
    # The spelling of a header that the user did not write is nobody's contract.
    authorization = [value for record in records for _, value in record.pop("own_headers")]
    return {"status": told["status"], "authorization": authorization, "requests": records}


def redirecting(status: int, location: str) -> Answer:
    return reply(status, b"", headers=[("Location", location)])


@scenario("K8", "K11")
def redirects_keep_or_change_the_method(door: Door, scene: Scene) -> Observation:
    told: Observation = {}
    for status in (301, 302, 303, 307, 308):
        for method in ("GET", "POST", "PUT"):

            def script(request: Received, status: int = status) -> Answer:
                return redirecting(status, "/there?a=1") if request.path == "/here" else reply()

            with scene.server(script) as server:
                body = None if method == "GET" else {"a": 1}
                outcome = door.one(f"{server.origin}/here", method, body)
                hops = [
                    [r.line, r.body.decode(), r.header("Content-Length"), r.header("Content-Type")]
                    for r in server.received
                ]
            told[f"{status}_{method}"] = {
                "status": outcome["status"],
                "error": outcome["error"],
                "hops": hops,
            }
    return told


@scenario("K11")
def redirect_locations(door: Door, scene: Scene) -> Observation:
    locations = {
        "relative": "there",
        "absolute_path": "/there",
        "other_query": "?b=2",
        "network_path": "//127.0.0.1:{port}/there",
        "absolute": "http://127.0.0.1:{port}/there",
        "with_fragment": "/there#part",
    }
    told: Observation = {}
    for name, location in locations.items():
        first = [True]

        def script(_request: Received, location: str = location, first: list[bool] = first) -> Answer:
            if first.pop() if first else False:
                return redirecting(302, location.format(port=server.port))
            return reply()

        with scene.server(script) as server:
            outcome = door.one(f"{server.origin}/dir/here?a=1")
            lines = [request.line for request in server.received]
        told[name] = {"status": outcome["status"], "lines": lines}
    return told


@scenario("K9", "K11", "K19")
def redirects_end(door: Door, scene: Scene) -> Observation:
    """A chain of nine hops arrives; an endless one is given up after the same number of requests."""

    def chain(request: Received) -> Answer:
        left = int(request.path[1:])
        return redirecting(302, f"/{left - 1}") if left else reply()

    told: Observation = {}
    for name, hops in {"nine": 9, "ten": 10, "endless": 1000}.items():
        with scene.server(chain) as server:
            outcome = door.one(f"{server.origin}/{hops}")
            told[name] = {
                "status": outcome["status"],
                "error": outcome["error"],
                "requests": len(server.received),
            }
    with scene.server(lambda _: reply(302, b'{"no": "location"}')) as server:
        outcome = door.one(server.origin)
        told["no_location"] = {
            "status": outcome["status"],
            "body": outcome["body"],
            "error": outcome["error"],
        }
    return told


@scenario()
def authorization_stays_with_its_origin(door: Door, scene: Scene) -> Observation:
    headers = {"Authorization": "Bearer t0ken", "X-Trace": "1"}
    own = list(headers)
    with scene.server() as other:

        def script(request: Received) -> Answer:
            targets = {"/away": other.origin + "/there", "/near": "/there"}
            return redirecting(302, targets[request.path]) if request.path in targets else reply()

        with scene.server(script) as server:
            told = {name: door.one(f"{server.origin}/{name}", headers=headers)["status"] for name in ("away", "near")}
            return {
                **told,
                "here": [[r["line"], r["own_headers"]] for r in server.seen(own)],
                "elsewhere": [[r["line"], r["own_headers"]] for r in other.seen(own)],
            }


@scenario("K12")
def cookies_of_one_answer_in_the_next_request(door: Door, scene: Scene) -> Observation:
    def script(request: Received) -> Answer:
        if request.path == "/start":
            return reply(302, b"", headers=[("Set-Cookie", "a=1; Path=/"), ("Location", "/next")])
        return reply()

    with scene.server(script) as server:
        # Cookies of hosts that are bare addresses are never kept, so this one has a name.
        outcome = door.one(f"http://localhost:{server.port}/start")
        cookies = {request.path: request.header("Cookie") for request in server.received}
    return {"status": outcome["status"], "cookies": cookies}
