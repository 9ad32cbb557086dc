"""An authority of our own, made for the run, and a certificate of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import trustme


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Files in PEM: what a client must trust, and what a server shows."""

    authority: Path
    chain: Path
    key: Path
    both: Path
    """Key and chain in one file, as haproxy wants them."""


def make(directory: Path, *names: str) -> Certificates:
    """Make an authority and a certificate for the names and addresses given."""
    authority = trustme.CA()
    issued = authority.issue_cert(*names)
    made = Certificates(*(directory / f"{name}.pem" for name in ("authority", "chain", "key", "both")))
    authority.cert_pem.write_to_path(made.authority)
    issued.private_key_pem.write_to_path(made.key)
    for part in issued.cert_chain_pems:
        part.write_to_path(made.chain, append=True)
    issued.private_key_and_cert_chain_pem.write_to_path(made.both)
    return made
