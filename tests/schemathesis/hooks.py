"""Knows what the document cannot say."""

import zlib

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    # Half of the requests come in by the path token of this run, so that more than 404 is seen.
    if "token" in (case.path_parameters or {}) and zlib.crc32(str(case.body).encode()) % 2:
        case.path_parameters["token"] = "path-token-0123456789"
    # Nobody waits for an outcome here.
    waiting = ("POST /openclaw/call", "POST /openclaw/context", "POST /openclaw/say")
    if case.operation.label in waiting and case.query is not None:
        case.query.setdefault("wait", 0)
