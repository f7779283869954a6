"""The guest: one path per behaviour. Built into a component by ../build.py; never run by pytest."""

import os
import sys

from componentize_py_types import Err, Ok, Some
from wit_world import exports
from wit_world.imports import (
    monotonic_clock,
    outgoing_handler,
    poll,
    store,
    streams,
    types,
    variables,
)

PIECE = 64 * 1024


def value(fields, name):
    found = fields.get(name)
    return found[0].decode() if found else ""


class Response:
    """Streams a response; the parts that a real SDK would do."""

    def __init__(self, outparam, status=200, headers=()):
        fields = types.Fields.from_list([(k, v.encode()) for k, v in headers])
        response = types.OutgoingResponse(fields)
        response.set_status_code(status)
        self.body = response.body()
        types.ResponseOutparam.set(outparam, Ok(response))
        self.stream = self.body.write()

    def write(self, data):
        view = memoryview(data)
        while view:
            room = min(self.stream.check_write(), len(view))
            if not room:
                with self.stream.subscribe() as ready:
                    ready.block()
                continue
            self.stream.write(bytes(view[:room]))
            view = view[room:]

    def flush(self):
        self.stream.blocking_flush()

    def end(self):
        self.stream.__exit__(None, None, None)
        types.OutgoingBody.finish(self.body, None)


def pieces(incoming_body):
    with incoming_body.stream() as stream:
        while True:
            try:
                data = stream.blocking_read(PIECE)
            except Err as err:
                if isinstance(err.value, streams.StreamError_Closed):
                    return
                raise
            yield data


def sleep(seconds):
    monotonic_clock.subscribe_duration(int(seconds * 1e9)).block()


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        path, _, query = (request.path_with_query() or "/").partition("?")
        name = path.strip("/").partition("/")[0]
        action = getattr(self, f"do_{name}", None)
        if action is None:
            response = Response(response_out, 404)
            response.write(b"no such path in the test app")
            response.end()
        else:
            action(request, response_out, query)

    def do_hello(self, request, out, query):
        response = Response(out, headers=[("content-type", "text/plain")])
        response.write(b"hello from Python")
        response.end()

    def do_echo(self, request, out, query):
        response = Response(out, headers=[("x-method", str(type(request.method()).__name__))])
        for data in pieces(request.consume()):
            response.write(data)
            response.flush()
        response.end()

    def do_count(self, request, out, query):
        total = sum(len(data) for data in pieces(request.consume()))
        response = Response(out)
        response.write(str(total).encode())
        response.end()

    def do_headers(self, request, out, query):
        lines = [f"{k}: {v.decode('latin-1')}" for k, v in request.headers().entries()]
        lines.append(f"authority: {request.authority()}")
        response = Response(out)
        response.write("\n".join(lines).encode())
        response.end()

    def do_env(self, request, out, query):
        response = Response(out)
        response.write("\n".join(f"{k}={v}" for k, v in sorted(os.environ.items())).encode())
        response.end()

    def do_variable(self, request, out, query):
        response = Response(out)
        try:
            text = variables.get(query)
        except Err as err:
            text = type(err.value).__name__
        response.write(f"{text} {store.get(query)}".encode())
        response.end()

    def do_file(self, request, out, query):
        response = Response(out)
        try:
            with open(query, "rb") as file:
                response.write(file.read())
        except OSError as error:
            response.write(f"errno {error.errno}: {error.strerror}".encode())
        response.end()

    def do_list(self, request, out, query):
        response = Response(out)
        response.write("\n".join(sorted(os.listdir(query))).encode())
        response.end()

    def do_write(self, request, out, query):
        response = Response(out)
        try:
            with open(query, "wb") as file:
                file.write(b"x")
            response.write(b"written")
        except OSError as error:
            response.write(f"errno {error.errno}: {error.strerror}".encode())
        response.end()

    def do_large(self, request, out, query):
        size = int(query)
        response = Response(out, headers=[("content-length", str(size))])
        block = bytes(range(256)) * 256
        while size:
            part = block[: min(size, len(block))]
            response.write(part)
            size -= len(part)
        response.end()

    def do_short(self, request, out, query):
        response = Response(out, headers=[("content-length", "100")])
        response.write(b"only this")
        response.end()

    def do_long(self, request, out, query):
        response = Response(out, headers=[("content-length", "3")])
        response.write(b"abc")
        response.flush()
        try:
            response.write(b"more than three")
        except Err as err:
            print(type(err.value).__name__)
            sys.stdout.flush()

    def do_drip(self, request, out, query):
        response = Response(out)
        for i in range(int(query)):
            response.write(f"drip {i}\n".encode())
            response.flush()
            sleep(0.3)
        response.end()

    def do_endless(self, request, out, query):
        response = Response(out)
        while True:
            response.write(bytes(PIECE))

    def do_sleep(self, request, out, query):
        sleep(float(query))
        response = Response(out)
        response.write(b"slept")
        response.end()

    def do_nap(self, request, out, query):
        response = Response(out)
        response.write(b"now")
        response.flush()
        sleep(float(query))
        response.end()

    def do_trap(self, request, out, query):
        print("about to fail", file=sys.stderr)
        raise RuntimeError("the guest fails on purpose")

    def do_late(self, request, out, query):
        response = Response(out)
        response.write(b"a beginning, but no end")
        response.flush()
        raise RuntimeError("the guest fails on purpose")

    def do_silent(self, request, out, query):
        pass

    def do_loop(self, request, out, query):
        while True:
            pass

    def do_alloc(self, request, out, query):
        held = []
        while True:
            held.append(bytearray(8 << 20))

    def do_exit(self, request, out, query):
        os._exit(3)

    def do_print(self, request, out, query):
        for i in range(int(query)):
            print(f"line {i}")
        sys.stdout.flush()
        response = Response(out)
        response.write(b"printed")
        response.end()

    def do_fields(self, request, out, query):
        """One line per attempt: what the rules of `fields` answered."""
        answers = []

        def attempt(label, action):
            try:
                action()
                answers.append(f"{label}: ok")
            except Err as err:
                answers.append(f"{label}: {type(err.value).__name__}")

        fields = types.Fields()
        attempt("plain", lambda: fields.append("x-a", b"1"))
        attempt("name", lambda: fields.append("x a", b"1"))
        attempt("newline", lambda: fields.append("x-a", b"1\r\nx-b: 2"))
        attempt("nul", lambda: fields.append("x-a", b"\0"))
        attempt("forbidden", lambda: fields.append("Transfer-Encoding", b"chunked"))
        attempt("host", lambda: fields.append("host", b"example.com"))
        attempt("request", lambda: request.headers().append("x-a", b"1"))
        attempt("delete", lambda: request.headers().delete("x-a"))
        attempt("set", lambda: fields.set("X-A", [b"2", b"3"]))
        answers.append(f"get: {fields.get('x-a')!r}")
        copy = request.headers().clone()
        attempt("clone", lambda: copy.append("x-a", b"1"))
        response = Response(out)
        response.write("\n".join(answers).encode())
        response.end()

    def do_status(self, request, out, query):
        outgoing = types.OutgoingResponse(types.Fields())
        try:
            outgoing.set_status_code(int(query))
        except Err:
            outgoing.set_status_code(555)
        types.ResponseOutparam.set(out, Ok(outgoing))

    def do_refuse(self, request, out, query):
        types.ResponseOutparam.set(out, Err(types.ErrorCode_LoopDetected()))

    def do_twice(self, request, out, query):
        first = request.consume()
        try:
            request.consume()
            text = b"twice"
        except Err:
            text = b"once"
        del first
        response = Response(out)
        response.write(text)
        response.end()

    def do_fetch(self, request, out, query):
        """Request the URL in the query, with this request's body; answer with what came."""
        scheme, _, rest = query.partition("://")
        authority, _, path = rest.partition("/")
        outgoing = types.OutgoingRequest(types.Fields.from_list([("x-from", b"guest")]))
        outgoing.set_path_with_query("/" + path)
        outgoing.set_authority(authority or None)
        outgoing.set_scheme(types.Scheme_Http() if scheme == "http" else types.Scheme_Https())
        method = request.method()
        outgoing.set_method(method)
        body = outgoing.body()
        try:
            future = outgoing_handler.handle(outgoing, None)
            self.send(request, body)
            with future.subscribe() as ready:
                ready.block()
            result = future.get()
            future.__exit__(None, None, None)  # as an SDK does: the response outlives it
            outer = result.value if isinstance(result, Some) else result
            inner = outer.value
            if isinstance(inner, Err):
                raise inner
            incoming = inner.value
        except Err as err:
            response = Response(out, 502)
            response.write(type(err.value).__name__.encode())
            response.end()
            return
        response = Response(
            out, incoming.status(), [("x-upstream", value(incoming.headers(), "x-upstream"))]
        )
        for data in pieces(incoming.consume()):
            response.write(data)
            response.flush()
        response.end()

    def send(self, request, body):
        with body.write() as stream:
            for data in pieces(request.consume()):
                view = memoryview(data)
                while view:
                    room = min(stream.check_write(), len(view))
                    if not room:
                        with stream.subscribe() as ready:
                            poll.poll([ready])
                        continue
                    stream.write(bytes(view[:room]))
                    view = view[room:]
        types.OutgoingBody.finish(body, None)
