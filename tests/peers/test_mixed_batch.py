"""A few thousand rows of both kinds, against each server in each protocol that it speaks."""

from __future__ import annotations

import json
from collections import Counter

import loamy
from certificates import Certificates
from kinds import each
from peer import Peer
from protocols import Protocol

ROWS = 3000


@each()
def test_a_mixed_batch_is_answered_rightly_and_each_row_is_seen_once(
    peer: Peer, protocol: Protocol, certificates: Certificates
) -> None:
    rows = [peer.row(protocol, number) for number in range(ROWS)]
    responses = loamy.send(rows, **protocol.policy(certificates.authority)).raise_for_failures()

    assert [response.index for response in responses] == list(range(ROWS))
    wrong = [number for number, response in enumerate(responses) if not peer.is_answer(number, response)]
    assert not wrong
    assert Counter(response.http_version for response in responses) == {protocol.version: ROWS}

    seen = peer.seen()
    assert Counter(request.id for request in seen) == Counter(range(ROWS))
    for request in seen:
        row = rows[request.id]
        assert request.method == row.get("method", "GET")
        assert request.version in (protocol.version, f"{protocol.version}.0")
        if peer.tells_bodies and "json" in row:
            assert json.loads(request.body) == row["json"]
