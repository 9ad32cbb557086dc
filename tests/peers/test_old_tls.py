"""D2: servers that speak no version of TLS that is still safe (RFC 8996)."""

from __future__ import annotations

import ssl

import loamy
import old_tls
import pytest
from certificates import Certificates


@pytest.mark.parametrize("stack", old_tls.STACKS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_d2_a_server_without_tls_1_2_is_told_so(certificates: Certificates, stack: str, method: str) -> None:
    with old_tls.running(stack, certificates) as server:
        [response] = loamy.send([(method, server.url)], verify=str(certificates.authority), timeout=20)
    assert response.kind == "tls.handshake", response
    error = response.error
    assert isinstance(error, loamy.TLSError) and isinstance(error, ssl.SSLError)
    assert not error.in_doubt and error.response is None and response.attempts == 1
    assert "TLS 1.2" in str(error), f"it names no version: {error}"
    assert len(server.handshakes) == 1 and not server.handshakes[0].startswith("TLS 1"), server.handshakes
    assert server.received == b"", "nothing of the request went out"


@pytest.mark.parametrize("stack", old_tls.STACKS)
def test_d2_the_old_servers_do_speak_what_they_say(certificates: Certificates, stack: str) -> None:
    """Or else the test above would pass against anything that fails."""
    with old_tls.running(stack, certificates) as server:
        assert old_tls.ask(server.port) == old_tls.ANSWER
    assert server.handshakes == ["TLS 1.1"]
