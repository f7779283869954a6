"""One connection of a listener: uvicorn's, with what it lacks to be left alone with strangers.

Written for uvicorn 0.54 and its protocol on httptools. That one waits for ever for a request, a
body, or a client to take its answer; takes headers of any size; hands an application what the
parser refuses a moment later; writes its 400 into the middle of an answer; goes on swallowing a
body after it was refused; and sends chunks to HTTP/1.0. Of its private parts we replace
`_start_asgi_task`, and rely on the attributes of `RequestResponseCycle`: each has a test in
tests/registry/connections that fails when it changes.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Any, Final, cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from registry.answers import Asked, Closing, Manner, Unchunked, reason, reset
from registry.crowd import Crowd
from registry.heads import FRAMING, Limits, Refused, check, too_large, too_long
from registry.tls import certify

_AHEAD: Final = 64  # requests that a client may send ahead of their answers

log = structlog.get_logger(__name__)


class Reading(enum.Enum):
    READY = enum.auto()
    """Nothing of a request was sent."""
    HEAD = enum.auto()
    BODY = enum.auto()
    DEAF = enum.auto()
    """What is sent now is thrown away, until the client has seen that we closed."""


READY, HEAD, BODY, DEAF = Reading  # a look-up in an Enum costs more than the rest of a line


class Connection(HttpToolsProtocol):
    """Made for each that is accepted, by what `connected` returns."""

    def __init__(
        self, *arguments: Any, crowd: Crowd, manner: Manner, limits: Limits, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self.address: str | None = None
        self.wire: asyncio.Transport | None = None
        """What is under a connection over TLS."""
        self.certified: str | None = None
        """The common name of the certificate that the client was asked for."""
        self._crowd = crowd
        self._settings = crowd.settings
        self._manner = manner
        self._limits = limits
        self.url = b""  # uvicorn's begins with the first request
        self._reading = READY
        self._heads = 0
        self._framing = b""  # fields of a body that the parser would skip
        self._repeating = False  # a head, for the parser of that body
        self._fed = 0  # bytes of an unfinished head, or since the last byte of a body's content
        self._body = 0
        self._spare = 0  # bytes that are still read of what nobody wants
        self._last = False  # the client has asked us to close after this request
        self._answered: RequestResponseCycle | None = None
        self._refusal: Refused | None = None  # to be said after the answers on their way
        # By the crowd's clock. A wait without an end is infinite.
        self._until = 0.0
        self._looked = 0.0
        self._counted = 0  # of the body, when we last looked
        self._unsent = 0  # bytes in the transport then, or 0 if the client takes what we send
        self._unmoved = 0.0  # since when
        self._parting: float | None = None  # until when a client may take leave, over TLS

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.address = self.client[0] if self.client else None
        self._until = self._crowd.clock() + self._settings.first_byte
        if not self._crowd.enter(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.gone(self)
        if self._answered is not None and self._answered is not self.cycle:
            self._answered.disconnected = True  # uvicorn tells the last that was sent ahead only
            self._answered.message_event.set()
        super().connection_lost(exc)
        if self.wire is not None:
            self.transport.close()  # it does not know by itself that nothing is under it any more

    def leave(self) -> None:
        if self._waiting():
            self.abort()  # to close would wait until the client has taken it
        else:
            self.transport.close()

    def abort(self) -> None:
        reset(self.transport)

    # What the client sends

    def data_received(self, data: bytes) -> None:
        if self._reading is DEAF:
            self._swallow(len(data))
            return
        if self._last and self._reading is READY:
            # Nothing may follow, and the parser would skip it for as long as it came.
            self._fed += len(data)
            if self._fed > self._limits.size:
                self.flow.pause_reading()
            return
        heads, body, before = self._heads, self._body, self._reading
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # To another protocol, which RFC 9110, 7.8 lets us ignore.
            if self._framing:
                self._go_on_with_body()
            if rest := data[upgrade.args[0] :]:
                self.data_received(rest)
            return
        except httptools.HttpParserError as error:
            self._refuse(reason(error))
            return
        if self._reading is READY and (self._heads != heads or before is not READY):
            return  # a whole request: nearly always
        if self._reading is BODY:
            if self.cycle.response_complete:
                self._swallow(len(data))
            elif self._heads == heads and self._body == body:
                self._fed += len(data)  # extensions of a chunk, or trailers
                if self._fed > self._settings.header_bytes:
                    self._refuse(Refused(400, "a body in chunks has to consist of its content"))
            else:
                self._fed = 0
            return
        begun = before is HEAD and self._heads == heads
        alone = before is READY and self._heads == heads
        self._part_of_head(len(data), begun=begun, alone=alone)

    def _go_on_with_body(self) -> None:
        """Parse the body of a request that asked for another protocol.

        The parser gives up where it would begin; Java's client asks with every first request.
        """
        framing, self._framing = self._framing, b""
        close = b"" if self.cycle.keep_alive else b"Connection: close\r\n"
        self._repeating = True
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + close + b"\r\n")
        self._repeating = False

    def _part_of_head(self, size: int, *, begun: bool, alone: bool) -> None:
        """Empty lines that precede a request are part of it here."""
        if not begun:
            self._reading = HEAD
            self._fed = 0
            self._until = self._crowd.clock() + self._settings.header
        if begun or alone:  # else some of it belongs to the request before
            self._fed += size
        try:
            if len(self.url) + 11 > self._limits.line:
                raise too_long(self._limits)
            if self._fed > self._limits.size:
                raise too_large(self._limits)
        except Refused as refused:
            self._refuse(refused)

    def on_message_begin(self) -> None:
        if self._repeating:
            return
        super().on_message_begin()
        if self.certified is not None:
            certify(cast(Any, self.scope), self.certified)
        self._reading = HEAD
        if len(self.pipeline) >= _AHEAD:
            raise Refused(400, f"more than {_AHEAD} requests were sent ahead of their answers")

    def on_headers_complete(self) -> None:
        if self._repeating:
            return
        parser = self.parser
        has_body = check(
            parser.get_method(),
            self.url,
            parser.get_http_version(),
            self.headers,
            self._limits,
        )
        super().on_headers_complete()
        self._heads += 1
        self._reading = BODY
        self._crowd.works(self)
        if self._crowd.parting:
            self.cycle.keep_alive = False  # it is told so, and asks somebody else the next time
        self._last = not self.cycle.keep_alive
        if has_body:
            if parser.should_upgrade():
                self._framing = b"".join(
                    b"%s: %s\r\n" % field for field in self.headers if field[0] in FRAMING
                )
            self.headers = []  # trailers come to the same list, after the application has read it
            closing: Any = Closing(self.transport, self.finish)  # all that a cycle uses
            self.cycle.transport = closing
            self._fed = self._body = self._counted = 0
            self._looked = self._crowd.clock()
            self._until = self._looked + self._settings.body_grace

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._framing:
            return  # the parser says so, but has not seen the body
        self._reading = READY
        if self.cycle.response_complete:
            self._rest()
        super().on_message_complete()

    # What is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] == "1.0":
            app = Unchunked(app, cycle)
        if cycle.waiting_for_100_continue:
            app = Asked(app, cycle)
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Replaces uvicorn's, which sets a timer for each answer."""
        self.server_state.total_requests += 1
        deaf = self._reading is DEAF and self._refusal is None
        if deaf or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refusal is not None:
            self._say(self._refusal)
        elif self._reading is READY:
            self._rest()
        elif self._reading is BODY and self.cycle.response_complete:
            self._spare = self._settings.drain_bytes
            self._until = self._crowd.clock() + self._settings.drain_time

    def _rest(self) -> None:
        self._until = self._crowd.clock() + self._crowd.idle
        self._crowd.rests(self)

    def shutdown(self) -> None:
        """The server stops."""
        cycle = self.cycle
        if not self._crowd.kindly:
            super().shutdown()
        elif cycle is None or cycle.response_complete:
            if self._reading is READY:
                self._until = min(self._until, self._crowd.clock() + self._crowd.idle)
        elif not cycle.response_started:
            cycle.keep_alive = False
            self._last = True

    def finish(self) -> None:
        """Close after an answer; but first let the client see it, if it is still sending."""
        if self._reading is BODY:
            self._linger()
        else:
            self.transport.close()

    def _refuse(self, refused: Refused) -> None:
        """Answer in the application's place what came last, and nothing after it."""
        cycle = self.cycle
        if self._reading is not BODY:
            if cycle is None or cycle.response_complete:
                self._say(refused)
            else:
                self._reading = DEAF
                self._until = float("inf")
                self._spare = self._settings.drain_bytes
                self._refusal = refused
        elif cycle.response_complete:
            self._linger()
        elif self.pipeline or cycle.response_started:
            self.abort()  # it cannot be said any more, nor yet
        else:
            cycle.disconnected = True  # whoever reads the body sees the client leave
            self._say(refused)
            cycle.message_event.set()

    def _say(self, refused: Refused) -> None:
        head, body = self._manner.answer(refused, self.server_state.default_headers)
        self.transport.write(head if self.parser.get_method() == b"HEAD" else head + body)
        self._crowd.refused[refused.status] += 1
        log.info(
            "refused",
            service=self._crowd.service,
            status=refused.status,
            reason=str(refused),
            client=self.address,
        )
        self._linger()

    def _linger(self) -> None:
        """Say no more, but go on reading a little.

        To close with bytes unread makes the kernel reset the connection, and a client that was
        still sending then never sees the answer.
        """
        self._reading = DEAF
        self._refusal = None
        self._spare = self._settings.drain_bytes
        self._until = self._crowd.clock() + self._settings.drain_time
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _swallow(self, size: int) -> None:
        self._spare -= size
        if self._spare < 0:
            if self._refusal is None:
                self.transport.close()
            else:
                self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unmoved = self._crowd.clock()  # else the same size twice could hide what was taken

    # What is not waited for

    def _waiting(self) -> int:
        """Bytes that the kernel has not taken yet: with TLS above, in two buffers."""
        under = 0 if self.wire is None else self.wire.get_write_buffer_size()
        return self.transport.get_write_buffer_size() + under

    def look(self, now: float) -> None:
        unsent = self._waiting()
        if unsent != self._unsent:
            self._unsent, self._unmoved = unsent, now
        elif unsent and now - self._unmoved > self._settings.stall:
            self._crowd.counts["stall"] += 1
            self.abort()
        if self.transport.is_closing():
            if self.wire is not None and not unsent:
                self._part(now)
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._reading is BODY and answering:
            self._look_at_body(now)
        elif now <= self._until:
            pass
        elif self._reading is HEAD:
            self._refuse(Refused(408, "the header of the request took too long"))
        elif self._reading is DEAF:
            self._end("linger")
        elif self._reading is BODY:
            self._end("drain")
        elif not answering:
            self._end("idle" if self._heads else "first_byte")

    def _look_at_body(self, now: float) -> None:
        """Every byte brings time; but none is kept for more than the window."""
        passed, self._looked = now - self._looked, now
        came, self._counted = self._body - self._counted, self._body
        cycle, settings = self.cycle, self._settings
        if self.flow.read_paused or cycle.waiting_for_100_continue or cycle.response_started:
            self._until += passed  # it is not the client who is waited for
        elif self._manner.patient:
            if came:
                self._until = now + settings.stall
        else:
            self._until = earned(self._until, now, came, settings.body_rate, settings.body_window)
        if now > self._until:
            self._refuse(
                Refused(
                    408,
                    "the body of the request came too slowly; what came of an upload is kept",
                )
            )

    def _part(self, now: float) -> None:
        """TLS waits for the client to take leave, too; but what was sent is all that matters."""
        if self._parting is None:
            self._parting = now + self._settings.drain_time
        elif now > self._parting:
            self.transport.abort()  # not `reset`: the kernel may still have some of it

    def _end(self, why: str) -> None:
        self._crowd.counts[why] += 1
        self.transport.close()


def connected(crowd: Crowd, manner: Manner) -> type[HttpToolsProtocol]:
    """What `http_protocol_class` of a uvicorn.Config has to be."""

    settings = crowd.settings
    limits = Limits(
        settings.header_bytes, settings.header_count, settings.request_line, manner.literal
    )

    class Connected(Connection):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, crowd=crowd, manner=manner, limits=limits, **named)

    return Connected


def earned(until: float, now: float, came: int, rate: int, window: float) -> float:
    """Until when a client may be silent that had until `until`, and sent `came` bytes since."""
    return min(until + came / rate, max(until, now + window))
