"""What schemathesis is told of this API: whose key to bring, what is there, how NDJSON is written.

It runs in a process of its own, which is told by its environment.
"""

import itertools
import json
import os

import schemathesis
from schemathesis import GenerationMode

# A key by its scope; and by the part of a path before it, what stands there in this service.
KEYS = json.loads(os.environ.get("TRAFFICLOG_TEST_KEYS", "{}"))
THERE = json.loads(os.environ.get("TRAFFICLOG_TEST_THERE", "{}"))
# Of so many requests one is left to ask for what is not there.
MISSES = 4

_turns = itertools.count()


@schemathesis.auth(refresh_interval=None)
class KeyOfScope:
    """A key of each of the scopes that an operation names, in turn."""

    def get(self, case, _context):
        """A key that opens the operation; none where none is needed."""
        scopes = [s for each in case.operation.definition.raw["security"] for s in each["key"]]
        return KEYS[scopes[next(_turns) % len(scopes)]] if scopes else None

    def set(self, case, data, _context):
        """Puts the key where it belongs."""
        if data is not None:
            case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Leads requests whose path is as it should be to what there is, most of the time."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if next(_turns) % MISSES == 0:
        return
    before = ""
    for part in case.path.split("/"):
        name = part.strip("{}")
        if name != part and before in THERE:
            case.path_parameters[name] = THERE[before]
        before = part


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    """A text as it is, anything else as one line of JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace")
