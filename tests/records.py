"""A record as a gateway posts it, with which nothing is wrong."""

GOOD = {
    "id": "m1",
    "account": "acme",
    "kind": "sms",
    "direction": "outgoing",
    "from": "Acme",
    "to": "+46701234567",
    "created": "2026-11-21T12:00:00Z",
}
