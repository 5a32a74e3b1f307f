"""Which outbound call a second leg belongs to.

On the SIP versions of the server Twilio rings the callee (``CA…``), and once that one answers it
calls OpenAI, which announces a call of its own (``rtc_…``). The two are one call. Strongest first:

1. a SIP header names the Twilio call;
2. the leg comes from the number that was dialled, and one such call waits for its leg;
3. it comes from the number that the call was placed with, and one such call waits that has been
   answered (Twilio has fetched what to do with it), or one at all where answers are not seen.

Two that could be meant decide nothing: a guess would put one person's words into another's call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

#: A leg comes within the time of ringing (30 s) and some; the server itself matches for 60 s.
WINDOW_SECONDS = 120.0

_CALL_SID = re.compile(r"CA[0-9a-f]{32}")
_USER = re.compile(r"(?:sips?|tel):([^@;>?]*)", re.IGNORECASE)


class Waiting(Protocol):
    """An outbound call, as far as this matters."""

    id: str
    party: str | None
    own: str | None
    leg: str | None
    answered: bool
    since: float


def leg_of(
    headers: Sequence[Mapping[str, object]], calls: Iterable[Waiting], now: float
) -> Waiting | None:
    """The outbound call whose leg came with these SIP headers; none when that is not sure."""
    waiting = [call for call in calls if call.leg is None and now - call.since <= WINDOW_SECONDS]
    values = [str(header.get("value", "")) for header in headers]
    named = {sid for value in values for sid in _CALL_SID.findall(value)}
    by_name = [call for call in waiting if call.id in named]
    if by_name:
        return _only(by_name)
    caller = digits(header_value(headers, "From"))
    if not caller:
        return None
    to_them = [call for call in waiting if digits(call.party) == caller]
    if to_them:
        return _only([call for call in to_them if call.answered] or to_them)
    from_us = [call for call in waiting if digits(call.own) == caller]
    return _only([call for call in from_us if call.answered] or from_us)


def header_value(headers: Sequence[Mapping[str, object]], name: str) -> str:
    """The first SIP header of a name, in any case of letters."""
    for header in headers:
        if str(header.get("name", "")).lower() == name.lower():
            return str(header.get("value", ""))
    return ""


def digits(text: str | None) -> str:
    """The digits of a number, or of the user part of a SIP address."""
    if not text:
        return ""
    found = _USER.search(text)
    user = (found.group(1) if found else text).replace("%2B", "+").replace("%2b", "+")
    return re.sub(r"\D", "", user) if re.fullmatch(r"[+\d\s().-]*", user) else ""


def _only(calls: list[Waiting]) -> Waiting | None:
    return calls[0] if len(calls) == 1 else None
