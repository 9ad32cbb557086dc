"""TLS and HTTP/2 as Python says them: every keyword, row key, warning and error, against a real nginx."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import loamy
import loamy.testing
import pytest
from loamy import InsecureWarning, Policy
from loamy.session import Clump, RequestMap
from secure_nginx import SecureNginx, Seen, running
from waiting import until
from zconcurrent import zsession

HERE = __file__


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureNginx]:
    with running(tmp_path_factory.mktemp("secure-nginx")) as nginx:
        yield nginx


@pytest.fixture
def seen(secure: SecureNginx) -> Callable[[int], list[Seen]]:
    """Wait for so many requests since the test began, and return them."""
    before = len(secure.seen())

    def requests(count: int) -> list[Seen]:
        until(lambda: len(secure.seen()) >= before + count)
        fresh = secure.seen()[before:]
        assert len(fresh) == count, fresh
        return fresh

    return requests


def insecure(caught: list[warnings.WarningMessage]) -> list[tuple[str, int]]:
    """Where the warnings say that they come from."""
    return [(one.filename, one.lineno) for one in caught if one.category is InsecureWarning]


# --- whom to trust


def test_d1_a_certificate_of_an_unknown_issuer_ends_the_row_and_nothing_of_it_is_sent(
    secure: SecureNginx, seen: Any
) -> None:
    [response] = loamy.send([("POST", secure.url(path="/?secret"))])
    error = response.error
    assert type(error) is loamy.CertificateError and response.kind == error.kind == "tls.certificate"
    parents = set(type(error).__mro__)
    assert {
        ssl.SSLCertVerificationError,
        ssl.SSLError,
        OSError,
        ValueError,
    } <= parents and ConnectionError not in parents
    assert (error.library, error.reason, error.verify_code) == ("SSL", "CERTIFICATE_VERIFY_FAILED", 1)
    port = secure.ports["http2"]
    assert error.verify_message.startswith(f"the certificate of 127.0.0.1:{port} ")
    assert str(error).startswith(f"tls.certificate: {error.verify_message} (POST ") and error.verify_message in str(
        error
    )
    assert not error.retryable and not error.in_doubt and (error.host, error.port) == ("127.0.0.1", port)
    assert seen(0) == []


def test_d1_a_certificate_of_another_name_is_not_accepted(secure: SecureNginx, seen: Any) -> None:
    [response] = loamy.send([secure.url("other_name")], verify=secure.ca)
    assert isinstance(response.error, loamy.CertificateError)
    assert "elsewhere.test" in response.error.verify_message
    assert seen(0) == []


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_errors_of_tls_pickle_and_copy(secure: SecureNginx, again: Any) -> None:
    failures = loamy.send([secure.url(), {"url": secure.url("tls12"), "tls_min": "1.3"}])
    assert [response.kind for response in failures] == ["tls.certificate", "tls.handshake"]
    for error in (response.error for response in failures):
        assert error is not None
        other = again(error)
        assert type(other) is type(error) and str(other) == str(error) and other.args == error.args
        names = ("kind", "hint", "reason", "library", "attempts", "host", "port", "bytes_sent", "errno", "strerror")
        for name in names:
            assert getattr(other, name) == getattr(error, name), name
        assert getattr(other, "verify_message", None) == getattr(error, "verify_message", None)


def test_verify_takes_a_path_or_bytes_and_trusts_nobody_else(secure: SecureNginx) -> None:
    rows = [secure.url(), secure.url("stranger"), secure.url("http1").replace("127.0.0.1", "localhost")]
    for bundle in (str(secure.ca), secure.ca, secure.ca.read_bytes()):
        kinds = [response.kind for response in loamy.send(rows, verify=bundle)]
        assert kinds == [None, "tls.certificate", None]


def test_extra_ca_is_trusted_besides_the_bundle_and_the_system(secure: SecureNginx) -> None:
    rows = [secure.url(), secure.url("stranger")]
    one, other = secure.ca, secure.other_ca
    for fields, kinds in (
        ({"extra_ca": one}, [None, "tls.certificate"]),
        ({"extra_ca": other.read_bytes()}, ["tls.certificate", None]),
        ({"extra_ca": [str(one), other.read_bytes()]}, [None, None]),
        ({"extra_ca": (one, other)}, [None, None]),
        ({"extra_ca": []}, ["tls.certificate", "tls.certificate"]),
        ({"verify": one, "extra_ca": other}, [None, None]),
        ({"verify": one, "extra_ca": None}, [None, "tls.certificate"]),
    ):
        assert [response.kind for response in loamy.send(rows, **fields)] == kinds, fields


def test_a_row_has_settings_of_its_own_and_the_policys_for_the_rest(secure: SecureNginx) -> None:
    one, other = secure.url(), secure.url("stranger")
    rows: list[Any] = [
        other,
        {"url": other, "verify": secure.other_ca},
        {"url": one, "verify": str(secure.other_ca)},
        {"url": other, "extra_ca": [secure.other_ca.read_bytes()]},
        {"url": one, "extra_ca": secure.other_ca},
        {"url": one, "verify": True},
        {"url": one, "verify": None, "extra_ca": None, "tls_min": None},
        {"url": secure.url("tls12"), "tls_min": "1.3"},
        {"url": secure.url("tls12"), "tls_min": "1.2"},
    ]
    kinds = [response.kind for response in loamy.send(rows, verify=secure.ca, tls_min="1.2")]
    assert kinds == [
        "tls.certificate",
        None,
        "tls.certificate",
        None,
        None,
        "tls.certificate",
        None,
        "tls.handshake",
        None,
    ]


def test_rows_that_trust_others_have_connections_of_their_own(secure: SecureNginx, seen: Any) -> None:
    both = [secure.ca.read_bytes() + secure.other_ca.read_bytes()]
    settings: list[dict[str, Any]] = [{}, {"verify": False}, {"verify": secure.ca}, {"extra_ca": both}]
    rows = [
        {"url": secure.url("http1", f"/?{kind}"), **setting} for _ in range(25) for kind, setting in enumerate(settings)
    ]
    with pytest.warns(InsecureWarning):
        loamy.send(rows, extra_ca=secure.ca, concurrency=8).raise_for_failures()
    kinds: dict[int, set[str]] = {}
    for request in seen(100):
        kinds.setdefault(request.connection, set()).add(request.target)
    assert all(len(targets) == 1 for targets in kinds.values()), kinds
    assert {target for targets in kinds.values() for target in targets} == {f"/?{kind}" for kind in range(4)}


def test_d6_over_http2_unverified_rows_never_share_a_connection_with_verified_ones(
    secure: SecureNginx, seen: Any
) -> None:
    rows = [
        {"url": secure.url(path=f"/?{n}"), "verify": verify}
        for n, verify in enumerate((False, None))
        for _ in range(50)
    ]
    with pytest.warns(InsecureWarning):
        responses = loamy.send(rows, verify=secure.ca, threads=1).raise_for_failures()
    assert {response.http_version for response in responses} == {"HTTP/2"}
    requests = seen(100)
    unverified = {request.connection for request in requests if request.target == "/?0"}
    verified = {request.connection for request in requests if request.target == "/?1"}
    assert unverified and verified and not unverified & verified


def test_rows_with_equal_settings_share_connections(secure: SecureNginx, seen: Any) -> None:
    spellings = [secure.ca, str(secure.ca), secure.ca.read_bytes(), secure.ca.read_bytes(), None]
    rows = [{"url": secure.url("http1"), "verify": bundle} for bundle in spellings] * 3
    loamy.send(rows, verify=secure.ca, concurrency=1).raise_for_failures()
    assert len({request.connection for request in seen(15)}) == 1


def test_d6_a_bundle_is_read_once_for_all_rows_of_a_call(secure: SecureNginx, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(secure.ca.read_bytes())

    def rows() -> Iterator[Any]:
        yield from [{"url": secure.url(), "verify": bundle}] * 200
        # The first of these rows are on their way long since.
        bundle.unlink()
        yield from [{"url": secure.url(), "verify": str(bundle)}] * 200

    assert [response.kind for response in loamy.stream(rows())] == [None] * 400
    [late] = loamy.send([{"url": secure.url(), "verify": bundle}])
    assert late.kind == "bad_request", "another call looks again"


def test_a_policy_reads_its_bundle_when_it_is_built(secure: SecureNginx, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(secure.ca.read_bytes())
    policy = Policy(verify=bundle)
    pickled = pickle.dumps(policy)
    bundle.unlink()
    assert loamy.send([secure.url()], policy=policy)[0].ok
    elsewhere = pickle.loads(pickled)
    assert elsewhere == policy
    with pytest.raises(loamy.InvalidRequest, match=r"^verify: the CA bundle .* does not exist"):
        loamy.send([secure.url()], policy=elsewhere)
    bundle.write_bytes(secure.ca.read_bytes())
    assert loamy.send([secure.url()], policy=elsewhere)[0].ok


# --- what is wrong with a bundle

WRONG: list[tuple[str, Any, str]] = [
    ("verify", "{tmp}/none.pem", 'verify: the CA bundle "{tmp}/none.pem" does not exist'),
    ("verify", "{tmp}", 'verify: the CA bundle "{tmp}" is a directory'),
    ("verify", "{tmp}/empty.pem", 'verify: the CA bundle "{tmp}/empty.pem" is empty'),
    ("verify", b"", "verify: the CA bundle is empty"),
    ("verify", b"no certificate", "verify: the CA bundle has no certificate"),
    ("verify", b"-----BEGIN CERTIFICATE-----\nMAA=\n", "verify: the CA bundle ends within a certificate or key"),
    ("extra_ca", "{tmp}/none.pem", 'extra_ca: the CA bundle "{tmp}/none.pem" does not exist'),
    ("extra_ca", [b"no certificate"], "extra_ca: the CA bundle has no certificate"),
    (
        "verify",
        "-----BEGIN CERTIFICATE-----\n",
        "verify is the text of PEM where a path was looked for; give it as bytes",
    ),
    ("tls_min", "1.1", 'tls_min is "1.1"; it must be "1.2" or "1.3": older versions are not safe'),
]
MISTYPED: list[tuple[str, Any, str]] = [
    ("verify", 1, "verify must be True, False, a path or the bytes of PEM, not int"),
    ("extra_ca", True, "extra_ca must be a path, the bytes of PEM, or a list of them, not bool"),
    ("extra_ca", [None], "extra_ca must be a path, the bytes of PEM, or a list of them, not NoneType"),
    ("tls_min", 1.2, "tls_min must be str, not float"),
]


def filled(value: Any, directory: Path) -> Any:
    (directory / "empty.pem").touch()
    return value.replace("{tmp}", str(directory)) if isinstance(value, str) else value


@pytest.mark.parametrize(("field", "value", "message"), WRONG)
def test_d6_a_wrong_bundle_raises_before_anything_is_sent(
    secure: SecureNginx, seen: Any, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    fields: dict[str, Any] = {field: filled(value, tmp_path)}
    with pytest.raises(ValueError) as caught:
        Policy(**fields)
    assert str(caught.value).startswith(filled(message, tmp_path))
    with pytest.raises(ValueError):
        loamy.send([secure.url("plain")], **fields)
    with pytest.raises(ValueError):
        loamy.stream([secure.url("plain")], **fields)
    with pytest.raises(ValueError):
        asyncio.run(loamy.send_async([secure.url("plain")], **fields))
    assert seen(0) == []


@pytest.mark.parametrize(("field", "value", "message"), [*WRONG, *MISTYPED])
def test_d6_a_wrong_bundle_in_a_row_is_the_outcome_of_that_row(
    secure: SecureNginx, seen: Any, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    row = {"url": secure.url("plain", "/bad"), field: filled(value, tmp_path), "tag": "bad"}
    good, bad = loamy.send([secure.url("plain", "/good"), row])
    assert good.ok and isinstance(bad.error, loamy.InvalidRequest) and bad.tag == "bad"
    assert str(bad.error).startswith(f"bad_request: {filled(message, tmp_path)}")
    assert [request.target for request in seen(1)] == ["/good"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *MISTYPED,
        ("key_log", 1, "key_log must be True or False, not int"),
        ("allow_downgrade", None, "allow_downgrade must be True or False, not NoneType"),
        ("http_version", 2, "http_version must be a str, not int"),
        ("h2_connections", 1.5, "h2_connections must be a whole number or None, not float"),
        ("h2_streams", None, "h2_streams must be a whole number, not NoneType"),
        ("h2_ping", "15", "h2_ping must be a number of seconds or None, not str"),
        ("cert", "client.pem", "send() has no keyword 'cert': client certificates are not supported"),
        ("ssl", False, "send() has no keyword 'ssl': verify=False, verify='bundle.pem' or extra_ca='issuer.pem' say"),
    ],
)
def test_a_field_of_the_wrong_type_raises(field: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        loamy.send(["http://127.0.0.1:1/"], **{field: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("http_version", "h2", "http_version is 'h2'; it must be one of 'auto', '1.1', '2'"),
        ("h2_connections", 0, "h2_connections is 0; it must be 1 or more"),
        ("h2_streams", 0, "h2_streams is 0; it must be 1 or more"),
        ("h2_ping", 0, "h2_ping is 0; it must be above 0, or None for no limit"),
    ],
)
def test_a_value_out_of_range_raises(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        loamy.send(["http://127.0.0.1:1/"], **{field: value})
    assert str(caught.value) == message


def test_a_hint_says_what_can_be_done_about_a_bundle() -> None:
    with pytest.raises(loamy.InvalidRequest) as caught:
        Policy(verify="none.pem")
    assert caught.value.hint == "a relative path is looked for in the current directory"
    assert str(caught.value).endswith(f"\nhint: {caught.value.hint}")
    [response] = loamy.send([{"url": "https://127.0.0.1:1/", "verify": "none.pem"}])
    assert response.error is not None and response.error.hint == caught.value.hint


def test_keys_of_other_clients_are_refused_in_words() -> None:
    cert, own = loamy.send([{"url": "https://127.0.0.1:1/", key: "x"} for key in ("cert", "ssl")])
    assert cert.kind == own.kind == "bad_request"
    assert 'the row\'s key "cert" is unknown: client certificates are not supported' in str(cert.error)
    assert "verify=False" in str(own.error)


def test_a_path_whose_own_code_raises_fails_its_row_alone(secure: SecureNginx) -> None:
    class Broken:
        def __fspath__(self) -> str:
            raise RuntimeError("no such drive")

    bad, good = loamy.send([{"url": secure.url(), "verify": Broken()}, secure.url()], verify=secure.ca)
    assert good.ok and bad.kind == "bad_request" and "no such drive" in str(bad.error)


def test_policies_with_bundles_are_values_and_show_none(secure: SecureNginx) -> None:
    bundle = secure.ca.read_bytes()
    policy = Policy(
        verify=bundle,
        extra_ca=[secure.other_ca, bundle],
        headers=[("Authorization", "Bearer s3cr3t"), ("X-Plain", "seen")],
    )
    assert pickle.loads(pickle.dumps(policy)) == policy == copy.deepcopy(policy) == copy.copy(policy)
    assert policy.extra_ca == (secure.other_ca, bundle)
    shown = repr(policy)
    assert "BEGIN" not in shown and "s3cr3t" not in shown and len(shown) < 1500
    assert f"verify=<{len(bundle):,} bytes>" in shown and "('X-Plain', 'seen')" in shown
    own = repr(Policy(headers={"Cookie": "s3cr3t", "X-Own": "s3cr3t", "X": "seen"}, secret_headers=["x-own"]))
    assert "s3cr3t" not in own and "('X', 'seen')" in own


# --- verify=False is loud


def test_d6_a_call_without_verification_warns_once_at_the_line_that_made_it(secure: SecureNginx) -> None:
    rows = [secure.url(), secure.url("stranger"), secure.url("other_name")] * 3
    policy = Policy(verify=False)
    requests = [RequestMap(secure.url(), "GET")] * 3
    maps = [zsession.RequestMap(secure.url(), "GET")] * 3
    calls: list[Callable[[], Any]] = [
        lambda: loamy.send(rows, verify=False),
        lambda: loamy.send(rows, policy=policy),
        lambda: list(loamy.stream(rows, verify=False)),
        lambda: asyncio.run(loamy.send_async(rows, verify=False)),
        lambda: Clump(requests, policy=policy).send_requests(),
        lambda: zsession.zSession(maps, policy=policy).sendRequests().requestResponses,
    ]
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answers = call()
        assert [getattr(answer, "status_code", None) or answer.statusCode for answer in answers] == [200] * len(answers)
        assert insecure(caught) == [(HERE, call.__code__.co_firstlineno)]
        [warning] = caught
        assert "verify=False" in str(warning.message) and "extra_ca=" in str(warning.message)


def test_d6_a_stream_warns_at_the_line_that_made_it_and_not_at_its_reader(secure: SecureNginx) -> None:
    unverified = {"url": secure.url("stranger"), "verify": False}
    cases: list[tuple[list[Any], dict[str, Any]]] = [([secure.url("stranger")], {"verify": False}), ([unverified], {})]
    for rows, fields in cases:
        make: Callable[[], Any] = lambda: loamy.stream(rows, **fields)  # noqa: B023, E731 (called at once)
        stream = make()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert [response.status_code for response in stream] == [200]
        assert insecure(caught) == [(HERE, make.__code__.co_firstlineno)]


def test_d6_rows_without_verification_warn_once_a_call(secure: SecureNginx) -> None:
    unverified = {"url": secure.url("stranger"), "verify": False}
    rows: list[Any] = [*[secure.url()] * 5, *[unverified] * 5, {"url": secure.url(), "verify": False}] * 3
    policy = Policy(verify=secure.ca)
    calls: list[Callable[[], Any]] = [
        lambda: loamy.send(rows, policy=policy),
        lambda: list(loamy.stream(iter(rows), policy=policy)),
        lambda: asyncio.run(loamy.send_async(rows, policy=policy)),
        lambda: Clump(rows, policy=policy).send_requests(),
        lambda: loamy.send(rows, deadline=1e-9).resend(policy=policy),
    ]
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answers = call()
        assert len(answers) == len(rows) and all(answer.status_code == 200 for answer in answers)
        places = insecure(caught)
        assert set(places) == {(HERE, call.__code__.co_firstlineno)}
        assert len(places) == (2 if call is calls[-1] else 1), places


def test_the_warning_is_a_class_of_ours() -> None:
    assert issubclass(InsecureWarning, UserWarning) and loamy.errors.InsecureWarning is InsecureWarning
    assert "InsecureWarning" in loamy.__all__ and "InsecureWarning" in loamy.errors.__all__
    assert str(pickle.loads(pickle.dumps(InsecureWarning("m")))) == "m"


def test_d6_neither_call_nor_rows_warn_where_all_is_verified(secure: SecureNginx) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = [secure.url(), {"url": secure.url(), "verify": secure.ca}, {"url": secure.url(), "verify": "none.pem"}]
        assert [response.kind for response in loamy.send(rows, verify=secure.ca)] == [None, None, "bad_request"]


def test_d6_where_the_warning_is_an_error_nothing_is_sent(secure: SecureNginx, seen: Any) -> None:
    row = {"url": secure.url("plain"), "verify": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", InsecureWarning)
        calls: list[Callable[[], object]] = [
            lambda: loamy.send([secure.url("plain")], verify=False),
            lambda: loamy.send([secure.url("plain"), row]),
            lambda: list(loamy.stream([row])),
            lambda: asyncio.run(loamy.send_async([secure.url("plain"), row])),
        ]
        for call in calls:
            with pytest.raises(InsecureWarning):
                call()
    assert seen(0) == []


# --- the environment

ASK = """
    import sys, loamy
    fields = eval(sys.argv[2]) if len(sys.argv) > 2 else {}
    response = loamy.send([sys.argv[1]], **fields)[0]
    print(response.kind, response.status_code, "certifi" in sys.modules)
    print(str(response.error).splitlines()[0])
"""


def test_d8_the_certificates_that_ssl_cert_file_names_are_the_systems(
    secure: SecureNginx, child: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca))
    for name, expected in (("http2", "None 200 False"), ("stranger", "tls.certificate 0 False")):
        code, out, err = child(ASK, secure.url(name)).end()
        assert (code, out.splitlines()[0], err) == (0, expected, "")


@pytest.mark.parametrize("asked", [True, False])
def test_d8_the_secrets_are_written_down_only_when_asked(
    secure: SecureNginx, child: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: bool
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    fields = {"verify": str(secure.ca), "key_log": asked}
    code, out, err = child(ASK, secure.url(), repr(fields)).end()
    assert (code, out.splitlines()[0], err) == (0, "None 200 False", "")
    assert (tmp_path / "keys").exists() is asked
    assert not asked or "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


@pytest.fixture
def no_system_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no-roots.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no-roots.pem"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


def certifi_of(directory: Path, bundle: Path | None) -> str:
    """Make a package of that name, which must not be imported; returns what PYTHONPATH needs."""
    package = directory / "site" / "certifi"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    if bundle is not None:
        (package / "cacert.pem").write_bytes(bundle.read_bytes())
    return os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.mark.usefixtures("no_system_roots")
def test_without_system_certificates_those_of_certifi_are_trusted(
    secure: SecureNginx, child: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", certifi_of(tmp_path, secure.ca))
    for name, fields, expected in (
        ("http2", {}, "None 200 False"),
        ("stranger", {}, "tls.certificate 0 False"),
        ("stranger", {"extra_ca": str(secure.other_ca)}, "None 200 False"),
        ("http2", {"verify": str(secure.other_ca)}, "tls.certificate 0 False"),
    ):
        code, out, err = child(ASK, secure.url(name), repr(fields)).end()
        assert (code, out.splitlines()[0], err) == (0, expected, ""), fields


@pytest.mark.usefixtures("no_system_roots")
def test_without_system_certificates_and_certifi_the_row_says_what_to_do(
    secure: SecureNginx, child: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", certifi_of(tmp_path, None))
    # The second time there is no such package at all, in whatever environment the tests run.
    without = "import sys, os, loamy; sys.path[:] = [one for one in sys.path if not os.path.isdir(one + '/certifi')]"
    for code_before in ("", without):
        code, out, err = child(f"{code_before}\n{ASK.replace(chr(10) + '    ', chr(10))}", secure.url()).end()
        assert (code, err) == (0, "")
        first, second = out.splitlines()
        assert first == "tls.certificate 0 False"
        assert second.startswith("tls.certificate: no system certificates were found")


# --- which HTTP


def test_https_is_spoken_at_every_door(secure: SecureNginx, seen: Any) -> None:
    policy = Policy(verify=secure.ca)
    url = secure.url()
    [sent] = loamy.send([("POST", url)], policy=policy)
    [streamed] = loamy.stream([{"url": url, "params": {"a": "1"}}], policy=policy)
    [awaited] = asyncio.run(loamy.send_async([("DELETE", url)], policy=policy))
    for response in (sent, streamed, awaited):
        assert response.ok and response.json()["scheme"] == "https" and response.http_version == "HTTP/2"
        assert pickle.loads(pickle.dumps(response)).http_version == "HTTP/2"
    [clumped] = Clump([RequestMap(url, "PUT", {"a": 1})], policy=policy).send_requests()
    assert clumped.body == {"method": "PUT", "scheme": "https", "args": "", "tls": "TLSv1.3"}
    [older] = zsession.zSession([zsession.RequestMap(url, "PATCH", {})], policy=policy).sendRequests().requestResponses
    assert older.statusCode == 200 and older.body["method"] == "PATCH"
    assert [(one.method, one.protocol) for one in seen(5)] == [
        (method, "HTTP/2.0") for method in ("POST", "GET", "DELETE", "PUT", "PATCH")
    ]


def test_the_older_doors_verify_as_well(secure: SecureNginx, seen: Any) -> None:
    [response] = Clump([RequestMap(secure.url(), "GET")]).send_requests()
    assert response.status_code == 0 and isinstance(response.error, loamy.CertificateError)
    [error] = zsession.zSession([zsession.RequestMap(secure.url(), "GET")]).sendRequests(True).taskExceptions
    assert isinstance(error, loamy.CertificateError) and error.request_map.url == secure.url()
    assert seen(0) == []


def test_http_version_says_what_is_spoken(secure: SecureNginx, seen: Any) -> None:
    cases: list[tuple[Literal["auto", "1.1", "2"], str, str]] = [
        ("auto", "http2", "HTTP/2"),
        ("auto", "http1", "HTTP/1.1"),
        ("auto", "plain", "HTTP/1.1"),
        ("1.1", "http2", "HTTP/1.1"),
        ("1.1", "http1", "HTTP/1.1"),
        ("2", "http2", "HTTP/2"),
        ("2", "prior_knowledge", "HTTP/2"),
    ]
    for version, name, spoken in cases:
        [response] = loamy.send([secure.url(name)], verify=secure.ca, http_version=version).raise_for_failures()
        assert response.http_version == spoken, (version, name)
        assert response.json()["method"] == "GET"
    assert [one.protocol for one in seen(7)] == [
        *("HTTP/2.0", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/2.0", "HTTP/2.0")
    ]


def test_d2_a_peer_without_http2_is_told_where_nothing_else_is_wanted(secure: SecureNginx, seen: Any) -> None:
    [response] = loamy.send([secure.url("http1")], verify=secure.ca, http_version="2")
    assert isinstance(response.error, loamy.TLSError) and response.kind == "tls.handshake"
    assert "HTTP/2" in response.error.reason or "HTTP" in response.error.reason
    assert seen(0) == []


def test_d2_a_version_of_tls_that_is_too_old_is_named(secure: SecureNginx, seen: Any) -> None:
    [response] = loamy.send([secure.url("tls12")], verify=secure.ca, tls_min="1.3")
    error = response.error
    assert type(error) is loamy.TLSError and error.kind == "tls.handshake"
    parents = set(type(error).__mro__)
    assert {ssl.SSLError, ConnectionError} <= parents and ssl.SSLCertVerificationError not in parents
    assert error.library == "SSL" and error.reason and error.reason in str(error)
    assert error.hint is not None and "RFC 8996" in error.hint
    [older] = loamy.send([secure.url("tls12")], verify=secure.ca).raise_for_failures()
    assert older.json()["tls"] == "TLSv1.2"
    assert len(seen(1)) == 1


def test_d2_plain_http_where_tls_was_expected_is_named(secure: SecureNginx) -> None:
    [response] = loamy.send([secure.url("plain").replace("http:", "https:")])
    assert isinstance(response.error, loamy.TLSError) and "does not speak TLS" in response.error.reason
    assert response.error.hint is not None and "http://" in response.error.hint


def test_names_are_canonical_and_raw_is_as_received(secure: SecureNginx) -> None:
    [new] = loamy.send([secure.url()], verify=secure.ca)
    [old] = loamy.send([secure.url()], verify=secure.ca, http_version="1.1")
    for response, lower in ((new, True), (old, False)):
        headers = response.headers
        assert {"X-Own-Thing", "Set-Cookie", "Content-Type"} <= set(headers)
        assert headers["x-OWN-thing"] == "one" and headers.get_list("set-cookie") == ["a=1", "b=2"]
        names = [name for name, _ in headers.raw]
        assert (b"x-own-thing" in names) is lower and (b"X-Own-Thing" in names) is not lower
        assert not any(name.startswith(b":") for name in names)
    [clumped] = Clump([RequestMap(secure.url(), "GET")], policy=Policy(verify=secure.ca)).send_requests()
    assert "X-Own-Thing" in dict(clumped.headers or {}) and "x-own-thing" not in dict(clumped.headers or {})


def test_many_rows_share_one_http2_connection(secure: SecureNginx, seen: Any) -> None:
    rows = [secure.url(path=f"/?{n}") for n in range(500)]
    responses = loamy.send(rows, verify=secure.ca, h2_connections=1, threads=2).raise_for_failures()
    assert [response.json()["args"] for response in responses] == [str(n) for n in range(500)]
    assert len({request.connection for request in seen(500)}) == 1


def test_h2_streams_bounds_what_is_side_by_side_on_a_connection() -> None:
    with loamy.testing.serve(tls=True) as server:
        rows = [server.url("/delay/0.05")] * 60
        loamy.send(rows, extra_ca=server.ca, concurrency=30, h2_streams=5, threads=1).raise_for_failures()
        streams = [connection["http2"]["max_open"] for connection in server.log()["connections"]]
        assert streams == [5] * 6, "as many as the rows fill, and no more"


@pytest.mark.parametrize("ping", [0.3, None])
def test_h2_ping_asks_a_silent_peer(ping: float | None) -> None:
    with loamy.testing.serve(tls=True) as server:
        [response] = loamy.send([server.url("/delay/1.2")], extra_ca=server.ca, h2_ping=ping)
        assert response.ok and response.http_version == "HTTP/2"
        [connection] = server.log()["connections"]
        assert (connection["http2"]["pings"] > 0) is (ping is not None)


# --- from https to http


def test_a_redirect_from_https_to_http_is_blocked_unless_allowed(secure: SecureNginx, seen: Any) -> None:
    [blocked] = loamy.send([secure.url(path="/down")], verify=secure.ca)
    assert isinstance(blocked.error, loamy.Blocked) and blocked.kind == "blocked"
    assert blocked.error.hint is not None and "allow_downgrade=True" in blocked.error.hint
    assert [request.target for request in seen(1)] == ["/down"]
    [allowed] = loamy.send([secure.url(path="/down")], verify=secure.ca, allow_downgrade=True)
    assert allowed.ok and allowed.url == secure.url("plain", "/after") and allowed.redirects == 1
    [within] = loamy.send([secure.url(path="/over")], verify=secure.ca)
    assert within.ok and within.url == secure.url(path="/after") and within.json()["scheme"] == "https"


# --- the server for users' tests


def test_the_test_server_speaks_tls_and_both_versions() -> None:
    with loamy.testing.serve(tls=True) as server, loamy.testing.serve(tls=True, http2=False) as older:
        assert server.url().startswith("https://127.0.0.1:") and server.ca.startswith(b"-----BEGIN CERTIFICATE-----")
        [new] = loamy.send([server.url("/json")], extra_ca=server.ca).raise_for_failures()
        [old] = loamy.send([older.url("/json")], verify=older.ca).raise_for_failures()
        assert (new.http_version, old.http_version) == ("HTTP/2", "HTTP/1.1")
        assert (server.requests[0].http_version, older.requests[0].http_version) == ("HTTP/2", "HTTP/1.1")
        assert loamy.send([server.url("/json")])[0].kind == "tls.certificate"
        assert len(server.requests) == 1, "the stranger sent nothing"


def test_the_test_server_without_tls_has_no_certificate(server: loamy.testing.TestServer) -> None:
    with pytest.raises(ValueError, match=r"^this server speaks no TLS; serve\(tls=True\) starts one that does$"):
        _ = server.ca
    [response] = loamy.send([server.url("/json")], http_version="2").raise_for_failures()
    assert response.http_version == server.requests[0].http_version == "HTTP/2"
