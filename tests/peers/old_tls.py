"""Servers that stopped at TLS 1.1: one that looks for a cipher suite first, and one that looks at the versions first."""

from __future__ import annotations

import abc
import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from certificates import Certificates
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey  # type: ignore[import-untyped]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class OldTls(abc.ABC):
    """Listens until `stop`; `handshakes` has what came of each connection: a version, or why there was none."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}/"
        self.handshakes: list[str] = []
        self.received = b""
        """What came after a handshake."""
        self._thread.start()

    @abc.abstractmethod
    def speak(self, connection: socket.socket) -> None:
        """Shake hands, note the version, read and answer."""

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(10)
                    try:
                        self.speak(connection)
                    except Exception as failure:
                        self.handshakes.append(f"{type(failure).__name__}: {failure}")


class Tlslite(OldTls):
    """Says that there is no cipher suite in common, as servers of the time did: theirs are not those of TLS 1.2."""

    def speak(self, connection: socket.socket) -> None:
        settings = HandshakeSettings()
        settings.minVersion, settings.maxVersion = (3, 1), (3, 2)
        chain = X509CertChain()
        chain.parsePemList(Path(self.certificates.chain).read_text())
        key = parsePEMKey(Path(self.certificates.key).read_text(), private=True)
        tls = TLSConnection(connection)
        tls.handshakeServer(certChain=chain, privateKey=key, settings=settings)
        self.handshakes.append(tls.getVersionName())
        self.received += tls.read(max=65_536)
        tls.write(ANSWER)
        tls.close()


class OpenSsl(OldTls):
    """Says that there is no version in common, as a server of today does whose operator holds it back."""

    def speak(self, connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.both)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with context.wrap_socket(connection, server_side=True) as tls:
            self.handshakes.append((tls.version() or "").replace("TLSv", "TLS "))
            self.received += tls.recv(65_536)
            tls.sendall(ANSWER)


STACKS: dict[str, type[OldTls]] = {"tlslite": Tlslite, "openssl": OpenSsl}


@contextlib.contextmanager
def running(stack: str, certificates: Certificates) -> Iterator[OldTls]:
    server = STACKS[stack](certificates)
    try:
        yield server
    finally:
        server.stop()


def ask(port: int) -> bytes:
    """What a client of the time gets of a server on that port."""
    settings = HandshakeSettings()
    settings.minVersion, settings.maxVersion = (3, 1), (3, 2)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        tls = TLSConnection(connection)
        tls.handshakeClientCert(settings=settings)
        tls.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return bytes(tls.read())
