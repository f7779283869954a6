"""The program behind LocalRuntime: an HTTP server on a unix socket that does what its "Wasm" says.

    python local_server.py SPIN.LOCK SOCKET VARIABLES-AS-JSON

The source of the first component is a JSON object:
    says      what `/` answers
    start     "dies": exit before listening; "hangs": never listen
    health    the status of the health route, 200 if it is not given
    digest    what `info` claims instead of the truth
    ready     the status of `/ready`
and `/die` ends the process, `/variables` shows the variables, `/after/PATH` answers once a file
exists at PATH.
"""

import json
import os
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler

with open(sys.argv[1]) as file:
    locked = json.load(file)
with open(locked["components"][0]["source"]["source"].removeprefix("file://")) as file:
    behaviour = json.load(file)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path
        if path == "/.well-known/spin/health":
            self.answer(behaviour.get("health", 200), "OK")
        elif path == "/.well-known/spin/info":
            metadata = locked["metadata"]
            digest = behaviour.get("digest", metadata["oci_image_digest"])
            self.answer(200, json.dumps({"name": metadata["name"], "oci_image_digest": digest}))
        elif path == "/ready":
            self.answer(behaviour.get("ready", 404), "")
        elif path == "/die":
            os._exit(3)
        elif path == "/variables":
            self.answer(200, sys.argv[3])
        elif path.startswith("/after/"):
            while not os.path.exists(path.removeprefix("/after")):
                time.sleep(0.01)
            self.answer(200, behaviour["says"])
        else:
            self.answer(200, behaviour["says"])

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


if behaviour.get("start") == "dies":
    print("cannot go on", file=sys.stderr)
    sys.exit(7)
while behaviour.get("start") == "hangs":
    time.sleep(1)
with Server(sys.argv[2], Handler) as server:
    print("listening", flush=True)
    server.serve_forever()
