"""Every permitted difference between the published packages and ours, one fact an entry.

What is not in this table must be the same. Each entry cites the decision (K1 to K21) that permits it and
says what the original shows and what ours must show; both are asserted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ABSENT = "<absent>"
"""The fact does not exist on that side."""

BOTH = ("loamy", "zconcurrent")
JSON = [["Content-Type", "application/json"]]


@dataclass(frozen=True)
class Difference:
    decision: str
    package: str
    scenario: str
    path: str
    original: Any
    ours: Any


TABLE: list[Difference] = []


def differ(decision: str, package: str, scenario: str, facts: dict[str, tuple[Any, Any]]) -> None:
    """Enters facts of one scenario: path -> (original, ours)."""
    for path, (original, ours) in facts.items():
        TABLE.append(Difference(decision, package, scenario, path, original, ours))


def error(
    package: str, cls: str, caught_as: tuple[str, ...] = (), kind: str | None = None, row: int | None = None
) -> dict[str, Any]:
    """An error as the observer tells it."""
    told = {"class": cls, "caught_as": list(caught_as), "kind": kind}
    return told if package == "loamy" else {**told, "row": row}


def theirs(package: str, name: str, *caught_as: str) -> dict[str, Any]:
    return error(package, f"aiohttp.client_exceptions.{name}", caught_as)


def builtin(package: str, *caught_as: str) -> dict[str, Any]:
    return error(package, f"builtins.{caught_as[0]}", caught_as)


OUR_CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "bad_request": ("InvalidRequest", ("ValueError",)),
    "blocked": ("Blocked", ("ValueError",)),
    "connect.refused": ("ConnectError", ("ConnectionError", "OSError")),
    "closed": ("ConnectionClosed", ("ConnectionError", "OSError")),
    "incomplete": ("IncompleteResponse", ("ConnectionError", "OSError")),
    "protocol": ("ProtocolError", ()),
    "decode": ("DecodeError", ("ValueError",)),
    "redirect": ("TooManyRedirects", ()),
    "not_json": ("JSONDecodeError", ("JSONDecodeError", "ValueError")),
}


def our(package: str, kind: str, row: int = 0) -> dict[str, Any]:
    """Our error of a kind; in zConcurrent it names its request (K9)."""
    name, caught_as = OUR_CLASSES[kind]
    return error(package, f"loamy.errors.{name}", caught_as, kind, row)


CONTENT_TYPE_ERROR = {package: theirs(package, "ContentTypeError") for package in BOTH}
JSON_ERROR = {
    package: error(package, "json.decoder.JSONDecodeError", ("JSONDecodeError", "ValueError")) for package in BOTH
}
NOT_TEXT = {package: builtin(package, "UnicodeDecodeError", "UnicodeError", "ValueError") for package in BOTH}
VALIDATION = error("loamy", "pydantic_core._pydantic_core.ValidationError", ("ValueError",))


# K1, K19: the status stays 0; the error is of our tree.
# K9: zConcurrent's errors are of our tree too, and name their request.
def other_error(
    scenario: str, paths: tuple[str, ...], original: dict[str, dict[str, Any]], kind: str, decision: str = "K19"
) -> None:
    for package in BOTH:
        facts = {f"{path}.error": (original[package], our(package, kind)) for path in paths}
        differ(decision if package == "loamy" else "K9", package, scenario, facts)


def aiohttp(name: str, *caught_as: str) -> dict[str, dict[str, Any]]:
    return {package: theirs(package, name, *caught_as) for package in BOTH}


def plain_error(*caught_as: str) -> dict[str, dict[str, Any]]:
    return {package: builtin(package, *caught_as) for package in BOTH}


DISCONNECTED = aiohttp("ServerDisconnectedError")
PAYLOAD = aiohttp("ClientPayloadError")
UNCONNECTED = aiohttp("ClientConnectorError", "OSError")

other_error("broken_answers", ("closed_without_answer",), DISCONNECTED, "closed")
other_error("broken_answers", ("reset_without_answer",), aiohttp("ClientOSError", "OSError"), "closed")
other_error("broken_answers", ("closed_in_head",), DISCONNECTED, "incomplete")
other_error("broken_answers", ("closed_in_body", "closed_in_chunks"), PAYLOAD, "incomplete")
other_error("broken_answers", ("no_http",), aiohttp("ClientResponseError"), "protocol")
other_error("broken_answers", ("corrupt_gzip",), PAYLOAD, "decode")
other_error("redirects_end", ("ten", "endless"), aiohttp("TooManyRedirects"), "redirect")
other_error(
    "header_values_that_would_smuggle",
    ("line_feed", "carriage_return", "both"),
    plain_error("ValueError"),
    "bad_request",
)
UNUSABLE = {
    "loamy": theirs("loamy", "InvalidUrlClientError", "ValueError"),
    "zconcurrent": theirs("zconcurrent", "InvalidURL", "ValueError"),
}
other_error(
    "urls_that_cannot_be_sent_to",
    ("empty", "words", "no_scheme", "no_host", "port_too_large", "open_bracket"),
    UNUSABLE,
    "bad_request",
)
other_error(
    "urls_that_cannot_be_sent_to", ("file",), {**UNUSABLE, "loamy": theirs("loamy", "NonHttpUrlClientError")}, "blocked"
)
other_error(
    "urls_that_cannot_be_sent_to",
    ("ftp",),
    {**UNCONNECTED, "loamy": theirs("loamy", "NonHttpUrlClientError")},
    "blocked",
)
for package in BOTH:
    differ("K19", package, "refused_connection", {"error": (UNCONNECTED[package], our(package, "connect.refused"))})
    differ("K19", package, "errors_can_be_pickled", {"kept.not_json": (False, True)})
differ("K1", "loamy", "head_of_a_failed_answer", {"kept": (False, True)})
for scenario in ("failures_beside_answers", "nothing_is_raised_without_return_exceptions"):
    differ(
        "K19",
        "loamy",
        scenario,
        {
            "responses.1.error": (UNCONNECTED["loamy"], our("loamy", "connect.refused")),
            "responses.3.error": (CONTENT_TYPE_ERROR["loamy"], our("loamy", "not_json")),
        },
    )
differ(
    "K9",
    "zconcurrent",
    "failures_beside_answers",
    {
        "exceptions.0": (UNCONNECTED["zconcurrent"], our("zconcurrent", "connect.refused", row=1)),
        "exceptions.1": (CONTENT_TYPE_ERROR["zconcurrent"], our("zconcurrent", "not_json", row=3)),
    },
)
differ(
    "K9",
    "zconcurrent",
    "first_failure_is_raised",
    {"raised": (CONTENT_TYPE_ERROR["zconcurrent"], our("zconcurrent", "not_json", row=2))},
)

differ(
    "K9",
    "zconcurrent",
    "lowest_row_is_raised_when_all_fail_at_once",
    {"raised": (UNUSABLE["zconcurrent"], our("zconcurrent", "bad_request", row=0))},
)

# K2: a body that is not JSON is {"text": ...}. What is no text either was lost (K3) and is decoded now.
other_error(
    "bodies_that_are_not_json",
    ("called_json", "cut_json", "two_values", "byte_order_mark"),
    JSON_ERROR,
    "not_json",
    "K2",
)
other_error(
    "bodies_that_are_not_json",
    ("html", "html_with_json_inside", "html_latin1", "html_server_error", "text", "no_type"),
    CONTENT_TYPE_ERROR,
    "not_json",
    "K2",
)
other_error(
    "bodies_that_are_not_json",
    ("html_not_utf8", "octets"),
    {**CONTENT_TYPE_ERROR, "loamy": NOT_TEXT["loamy"]},
    "not_json",
    "K2",
)
other_error("bodies_that_are_not_json", ("json_not_utf8",), NOT_TEXT, "not_json", "K2")
for case, text, content_type, length in (
    ("html_not_utf8", "<p>\ufffd</p>", "text/html", "8"),
    ("octets", "\x00\ufffd\x10ab", "application/octet-stream", "5"),
    ("json_not_utf8", '{"a": "\ufffd"}', "application/json", "10"),
):
    differ(
        "K2",
        "loamy",
        "bodies_that_are_not_json",
        {
            f"{case}.status": (0, 200),
            f"{case}.body": (None, {"text": text}),
            f"{case}.headers": (None, [["Content-Type", content_type], ["Content-Length", length]]),
        },
    )
differ("K2", "loamy", "undecoded_bytes_stay_at_hand", {"content": ([None], [{"<bytes>": "\x00\xff\x10ab"}])})

# K3: a list or scalar is the body.
for case, value, length in (
    ("list", [1, "two", {"three": 3}], "24"),
    ("empty_list", [], "2"),
    ("string", "text", "6"),
    ("integer", 7, "1"),
    ("float", 2.5, "3"),
    ("true", True, "4"),
):
    differ(
        "K3",
        "loamy",
        "json_that_is_no_object",
        {
            f"{case}.status": (0, 200),
            f"{case}.body": (None, value),
            f"{case}.error": (VALIDATION, None),
            f"{case}.headers": (None, [*JSON, ["Content-Length", length]]),
        },
    )
SAID = "Evaluating response for GET request to http://127.0.0.1:<port>/api"
differ(
    "K3",
    "loamy",
    "documentation_example_with_the_list_its_host_answers",
    {
        "printed": (
            [SAID, "Exception raised for request"] * 3,
            [SAID, "Status Code: 200", "['Bacon ipsum']"] * 3,
        )
    },
)

# K4: an empty body is None and no error. K5: JSON sent as text is decoded.
for decision, scenario, case, status, was, now in (
    ("K4", "empty_bodies", "no_content", 204, {"text": ""}, None),
    ("K4", "empty_bodies", "text", 200, {"text": ""}, None),
    ("K4", "empty_bodies", "html", 200, {"text": ""}, None),
    ("K4", "empty_bodies", "no_type", 200, {"text": ""}, None),
    ("K5", "json_under_another_type", "text_plain", 200, {"text": '{"a": 1}'}, {"a": 1}),
    ("K5", "json_under_another_type", "text_plain_charset", 200, {"text": '{"a": "é"}'}, {"a": "é"}),
):
    for package in BOTH:
        differ(decision, package, scenario, {f"{case}.error": (CONTENT_TYPE_ERROR[package], None)})
    differ(decision, "loamy", scenario, {f"{case}.body": (was, now)})
    differ(decision, "zconcurrent", scenario, {f"{case}.status": (None, status)})
    if now is not None:
        differ(decision, "zconcurrent", scenario, {f"{case}.body": (None, now)})

# K6: canonical spelling, look-up in any case, all values of a repeated header.
differ(
    "K6",
    "loamy",
    "response_headers",
    {
        "names": (
            ["Content-Type", "Content-Length", "x-lower-name", "X-UPPER-NAME", "X-Twice"],
            ["Content-Type", "Content-Length", "X-Lower-Name", "X-Upper-Name", "X-Twice"],
        ),
        "any_case": ([None, None, None], ["1", "1", None]),
        "contains_any_case": (False, True),
        "all_values": (None, ["one", "two"]),
        "spelling_of_server": (
            None,
            ["Content-Type", "Content-Length", "x-lower-name", "X-UPPER-NAME", "X-Twice", "X-Twice"],
        ),
    },
)

# K7: msgspec's structs, positional; pydantic's methods stay for a while and say so.
RAISES = "<raises TypeError>"
INVALID = "<raises ValueError>"
differ(
    "K7",
    "loamy",
    "construction",
    {
        "positional": (RAISES, True),
        "response_positional": (RAISES, ABSENT),
        "response_positional.a": (ABSENT, 1),
        "error_is_fourth": (RAISES, True),
        "url_missing": (INVALID, RAISES),
        "method_missing": (INVALID, RAISES),
    },
)
FIELDS = ["url", "http_op", "body", "query_params", "headers"]
differ("K7", "loamy", "names_and_signatures", {"matches": ("<raises AttributeError>", FIELDS)})
ENCODED = {"url": "http://h/", "http_op": "PUT", "query_params": None, "headers": None}
differ(
    "K7",
    "loamy",
    "structs_as_documented",
    {
        "row": (None, True),
        "response": (None, True),
        "decoded": (None, True),
        "encoded": (None, ABSENT),
        "encoded.body": (ABSENT, {"a": 1}),
        **{f"encoded.{name}": (ABSENT, value) for name, value in ENCODED.items()},
    },
)
differ(
    "K7",
    "loamy",
    "response_of_a_send_is_encodable",
    {"encoded": (["<raises ModuleNotFoundError>"], [{"status_code": 200, "body": {"a": 1}, "error": None}])},
)
METHODS = ("dump", "dump_json", "copy", "copy_update", "validate", "response_dump")
differ("K7", "loamy", "pydantic_methods", {f"{name}.warns_of_msgspec": (False, True) for name in METHODS})
FAILED = {"status": 0, "body": None, "headers": None, "error": our("loamy", "bad_request")}
for case in (
    "url_integer",
    "url_none",
    "method_lower_case",
    "method_with_space",
    "method_integer",
    "query_integer",
    "headers_list",
    "header_value_integer",
):
    differ(
        "K7",
        "loamy",
        "wrong_types_at_construction",
        {
            f"{case}.refused_at_construction": (VALIDATION, ABSENT),
            **{f"{case}.{name}": (ABSENT, value) for name, value in FAILED.items()},
        },
    )
# zConcurrent never looked: what failed anyway was a TypeError; an unknown method was a response
# with status 0 that was never sent.
for case in ("url_integer", "url_none", "query_integer", "headers_list", "header_value_integer"):
    differ(
        "K9",
        "zconcurrent",
        "wrong_types_at_construction",
        {f"{case}.error": (builtin("zconcurrent", "TypeError"), our("zconcurrent", "bad_request"))},
    )
for case in ("method_lower_case", "method_with_space", "method_integer"):
    differ(
        "K9",
        "zconcurrent",
        "wrong_types_at_construction",
        {f"{case}.status": (0, None), f"{case}.error": (None, our("zconcurrent", "bad_request"))},
    )

# K8: zConcurrent's POST is a POST and has its body.
STANDARD = [
    ["accept", "*/*"],
    ["accept-encoding", "<gzip, deflate and more>"],
    ["host", "127.0.0.1:<port>"],
    ["user-agent", "<name and version>"],
]


def with_body(length: int, content_type: str) -> list[list[str]]:
    return sorted([*STANDARD, ["content-length", str(length)], ["content-type", content_type]])


for scenario, body, content_type in (
    ("six_methods_without_body", "", "application/octet-stream"),
    ("six_methods_with_body", '{"a": [1, "b"]}', "application/json"),
    ("six_methods_with_empty_body", "{}", "application/json"),
):
    differ(
        "K8",
        "zconcurrent",
        scenario,
        {
            "POST.requests.0.line": ("GET /x HTTP/1.1", "POST /x HTTP/1.1"),
            "POST.requests.0.other_headers": (STANDARD, with_body(len(body), content_type)),
        },
    )
    if body:
        differ("K8", "zconcurrent", scenario, {"POST.requests.0.body": ("", body)})
POSTED = ["POST /here HTTP/1.1", '{"a": 1}', "8", "application/json"]
GOTTEN = ["GET /there?a=1 HTTP/1.1", "", None, None]
for status in (301, 302, 303, 307, 308):
    followed = GOTTEN if status < 307 else ["POST /there?a=1 HTTP/1.1", *POSTED[1:]]
    differ(
        "K8",
        "zconcurrent",
        "redirects_keep_or_change_the_method",
        {f"{status}_POST.hops": ([["GET /here HTTP/1.1", "", None, None], GOTTEN], [POSTED, followed])},
    )

# K10: a running event loop is no obstacle.
for package in BOTH:
    answer: dict[str, Any] = {"status": 200, "body": {"ok": True}}
    if package == "loamy":
        answer |= {"headers": [*JSON, ["Content-Length", "12"]], "error": None}
    whole: dict[str, Any] = {"returned": "list", "responses.count": 3}
    if package == "zconcurrent":
        whole = {"returned": "RequestResults", "responses.count": 3, "exceptions.count": 0}
    rows = {f"responses.{at}.{name}": value for at in range(3) for name, value in {**answer, "row": at}.items()}
    differ(
        "K10",
        package,
        "inside_a_running_loop",
        {
            "raised": (builtin(package, "RuntimeError"), ABSENT),
            **{path: (ABSENT, value) for path, value in {**whole, **rows}.items()},
        },
    )

# K11: aiohttp 3.8 under zConcurrent had no limit of its own for connecting.
differ("K11", "zconcurrent", "figures_too_slow_to_wait_for", {"connect": (None, 30)})

# K12: no cookie jar unless asked for.
for package in BOTH:
    differ("K12", package, "cookies_of_one_answer_in_the_next_request", {"cookies./next": ("a=1", None)})

# K13: what JSON cannot carry is a bad request, NaN included.
for package in BOTH:
    for case in ("set", "bytes", "object", "tuple_key"):
        differ(
            "K13",
            package,
            "bodies_that_json_cannot_carry",
            {f"{case}.error": (builtin(package, "TypeError"), our(package, "bad_request"))},
        )
    differ(
        "K13",
        package,
        "bodies_that_json_cannot_carry",
        {"cycle.error": (builtin(package, "ValueError"), our(package, "bad_request"))},
    )
    for case, text in (("not_a_number", '{"a": NaN}'), ("infinite", '{"a": [-Infinity]}')):
        differ(
            "K13",
            package,
            "bodies_that_json_cannot_carry",
            {
                f"{case}.status": (200, 0 if package == "loamy" else None),
                f"{case}.error": (None, our(package, "bad_request")),
                f"{case}.requests.count": (1, 0),
                f"{case}.requests.0.line": ("PUT /x HTTP/1.1", ABSENT),
                f"{case}.requests.0.own_headers": ([], ABSENT),
                f"{case}.requests.0.other_headers": (with_body(len(text), "application/json"), ABSENT),
                f"{case}.requests.0.body": (text, ABSENT),
            },
        )

# K14: numbers, booleans and lists as query values.
for case, query in (("integer", "q=7"), ("float", "q=2.5"), ("list", "q=1&q=2"), ("list_of_integers", "q=1&q=2")):
    differ(
        "K14",
        "loamy",
        "query_values_of_other_types",
        {
            f"{case}.refused_at_construction": (VALIDATION, None),
            f"{case}.status": (None, 200),
            f"{case}.requests.count": (0, 1),
            f"{case}.requests.0.line": (ABSENT, f"GET /x?{query} HTTP/1.1"),
            f"{case}.requests.0.own_headers": (ABSENT, []),
            f"{case}.requests.0.other_headers": (ABSENT, STANDARD),
            f"{case}.requests.0.body": (ABSENT, ""),
        },
    )
for package in BOTH:
    differ(
        "K14",
        package,
        "boolean_query_values",
        {"status": (None, 200), "lines_in_lower_case": ([], ["get /x?q=true http/1.1"])},
    )
differ("K14", "loamy", "boolean_query_values", {"refused_at_construction": (VALIDATION, None)})
differ("K14", "zconcurrent", "boolean_query_values", {"error": (builtin("zconcurrent", "TypeError"), None)})

# K15: what was escaped stays as it was, what is legal is not touched; control characters are refused.
REQUOTED = {
    "empty_query": ("/x", "/x?"),
    "escaped_unreserved": ("/~user/A", "/%7Euser/%41"),
    "escaped_delimiters": ("/:@!$&'()*%2B,;=", "/%3A%40%21%24%26%27%28%29%2A%2B%2C%3B%3D"),
    "lower_case_escape": ("/%C3%A9", "/%c3%a9"),
    "lone_percent": ("/100%25", "/100%"),
    "query_space": ("/x?q=a+b", "/x?q=a%20b"),
    "query_lower_case_escape": ("/x?q=%C3%A9", "/x?q=%c3%a9"),
    "query_escaped_delimiters": ("/x?q=a/b?c%3Dd%26e:@", "/x?q=a%2Fb%3Fc%3Dd%26e%3A%40"),
    "query_brackets": ("/x?a%5B0%5D=1&b%7Bc%7D=%7C2%7C", "/x?a[0]=1&b{c}=|2|"),
    "signed": (
        "/bucket/key%2Bname?X-Amz-Credential=AK/20260101/s3&X-Amz-Signature=ab~cd%3D",
        "/bucket/key%2Bname?X-Amz-Credential=AK%2F20260101%2Fs3&X-Amz-Signature=ab%7Ecd%3D",
    ),
    "signed_date": (
        "/o?Expires=1700000000&Signature=a%2Bb/c%3D%3D&Key-Pair-Id=K",
        "/o?Expires=1700000000&Signature=a%2Bb%2fc%3d%3D&Key-Pair-Id=K",
    ),
}
BESIDE = {
    "signature": ("/x?sig=a/b%3D&p=1+2", "/x?sig=a%2Fb%3D&p=1+2"),
    "lower_case_escape": ("/x?q=%C3%A9&p=1+2", "/x?q=%c3%a9&p=1+2"),
}
BESIDE_OLDER = {
    "escaped_space": ("/x?q=a+b&p=1+2", "/x?q=a%20b&p=1+2"),
    "name_without_value": ("/x?flag=&p=1+2", "/x?flag&p=1+2"),
}
STRIPPED = {"tab": "/ab", "line_feed": "/ab", "carriage_return": "/ab", "smuggled": "/aX:%20y"}
for package in BOTH:
    beside = BESIDE if package == "loamy" else {**BESIDE, **BESIDE_OLDER}
    for scenario, targets in (
        ("urls_go_out_as_given", REQUOTED),
        ("own_query_stays_untouched_beside_parameters", beside),
    ):
        for case, (was_target, target) in targets.items():
            differ(
                "K15",
                package,
                scenario,
                {f"{case}.requests.0.line": (f"GET {was_target} HTTP/1.1", f"GET {target} HTTP/1.1")},
            )
    for case, stripped in STRIPPED.items():
        differ(
            "K15",
            package,
            "control_characters_in_urls",
            {
                f"{case}.status": (200, 0 if package == "loamy" else None),
                f"{case}.error": (None, our(package, "bad_request")),
                f"{case}.requests.count": (1, 0),
                f"{case}.requests.0.line": (f"GET {stripped} HTTP/1.1", ABSENT),
                f"{case}.requests.0.own_headers": ([], ABSENT),
                f"{case}.requests.0.other_headers": (STANDARD, ABSENT),
                f"{case}.requests.0.body": ("", ABSENT),
            },
        )

# K17: sent again once, on proof that the connection had been used before; counted in `attempts`.
for method in ("GET", "PUT"):
    for package in BOTH:
        differ(
            "K17",
            package,
            "connection_that_dies_under_every_request",
            {f"{method}.error": (DISCONNECTED[package], our(package, "closed"))},
        )
    # The original sent again even where the connection was fresh.
    differ("K17", "loamy", "connection_that_dies_under_every_request", {f"{method}.requests": (2, 1)})
# aiohttp 3.8 under zConcurrent did not send again at all.
for method in ("GET", "PUT", "DELETE", "OPTIONS"):
    differ(
        "K17",
        "zconcurrent",
        "connection_that_dies_under_a_reused_request",
        {
            f"{method}.status": (None, 200),
            f"{method}.error": (DISCONNECTED["zconcurrent"], None),
            f"{method}.paths": (["/start", "/next"], ["/start", "/next", "/next"]),
            f"{method}.connections": (1, 2),
        },
    )
differ("K17", "loamy", "sendings_are_counted", {"counted": (False, True), "more_when_sent_again": (False, True)})

# K18: aiohttp 3.8 under zConcurrent respelled this one.
differ(
    "K18",
    "zconcurrent",
    "request_headers_keep_spelling_and_order",
    {"connection_close.requests.0.own_headers": ([["Connection", "close"]], [["connection", "close"]])},
)

# K21: secrets are masked, bodies are cut.
for package in BOTH:
    differ(
        "K21",
        package,
        "what_repr_shows",
        {
            "secret_shown.request": (True, False),
            "secret_shown.response": (True, False),
            "cut.request": (False, True),
            "cut.response": (False, True),
        },
    )
