"""What the server itself cannot do: end a call that is talked on, give it context, say a sentence.

Everything goes the server's own way: its connection to OpenAI for that call, its account at Twilio.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from .book import Book
from .call import Call
from .carrier import Carrier, VendorError
from .context import Sockets
from .observation import HangupAsked, Sight, now

if TYPE_CHECKING:
    from .recorder import Recorder

#: How long an answer that is being given may go on before a sentence cuts it off.
POLITE_SECONDS = 4.0
#: How long one frame may take to be sent.
SEND_SECONDS = 5.0


class Refused(Exception):
    """It cannot be done: with which HTTP status, and why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Deeds:
    """Does things to calls that are going on."""

    def __init__(
        self, recorder: Recorder, sight: Sight, sockets: Sockets, carrier: Carrier, streams: dict[int, Any]
    ) -> None:
        self._recorder = recorder
        self._sight = sight
        self._sockets = sockets
        self._carrier = carrier
        self._streams = streams

    async def hangup(self, name: str) -> str:
        """Ends a call: at Twilio, at OpenAI, or by closing its media stream, whichever there is."""
        call, _, streams = self._look_up(name)
        loop = asyncio.get_running_loop()
        # Said first: the end may be seen before the vendor's answer is.
        self._sight.put(HangupAsked(now(), call.id, done=False))
        try:
            if call.at_carrier and self._carrier.configured:
                await loop.run_in_executor(None, self._carrier.end, call.id)
            elif not call.at_carrier and self._carrier.model_configured:
                await loop.run_in_executor(None, self._carrier.end_at_model, call.id)
            elif streams:
                for number in streams:
                    close = self._streams.get(number)
                    if close is not None:
                        await close({"type": "websocket.close", "code": 1000})
            else:
                raise Refused(501, "this server has no way to end that call")
        except VendorError as error:
            raise Refused(502, str(error)) from None
        self._sight.put(HangupAsked(now(), call.id, done=True))
        return call.id

    async def context(self, name: str, context: dict[str, Any]) -> str:
        """Gives the conversation something to know; nobody answers to it."""
        call, sockets, _ = self._look_up(name)
        text = f"Context for this conversation: {json.dumps(context, ensure_ascii=False)}"
        item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}
        await self._send(sockets, {"type": "conversation.item.create", "item": item})
        return call.id

    async def say(self, name: str, text: str) -> str:
        """Has the assistant say a sentence now; an answer under way may end within some seconds."""
        call, sockets, _ = self._look_up(name)
        patience = time.monotonic() + POLITE_SECONDS
        while self._recorder.ask(lambda book: book.responding(call)):
            if time.monotonic() > patience:
                await self._send(sockets, {"type": "response.cancel"})
                break
            await asyncio.sleep(0.05)
        words = f"Say exactly the following to the person on the phone, and nothing else: {text}"
        await self._send(sockets, {"type": "response.create", "response": {"instructions": words}})
        return call.id

    def _look_up(self, name: str) -> tuple[Call, list[int], list[int]]:
        def look(book: Book) -> tuple[Call, list[int], list[int]] | None:
            call = book.find(name)
            return None if call is None else (call, book.sockets_of(call), book.streams_of(call))

        found = self._recorder.ask(look)
        if found is None:
            raise Refused(404, "there is no such call")
        if found[0].ended:
            raise Refused(410, "the call is over")
        return found

    async def _send(self, sockets: list[int], frame: dict[str, Any]) -> None:
        connection = next((c for c in map(self._sockets.get, sockets) if c is not None), None)
        if connection is None:
            raise Refused(501, "the server has no connection to OpenAI for that call")
        sending = connection.send(json.dumps(frame))
        if connection.loop is not asyncio.get_running_loop():
            sending = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, connection.loop))
        try:
            await asyncio.wait_for(sending, SEND_SECONDS)
        except Exception as error:
            raise Refused(502, f"OpenAI did not take it ({type(error).__name__})") from None
