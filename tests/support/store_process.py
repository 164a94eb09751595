"""An S3 server with a proxy before it that makes faults: `python store_process.py`, started by store_server.py.

moto's server keeps the objects in memory. The proxy passes requests on, unless a fault that it was told fits them. It
prints its two ports, and ends when its standard input does. The second port takes what it is told, as JSON:

faults   list of {"kind", "match", "times", "seconds"}, which replaces the faults before
         kind: refuse (503), cut (half of the answer), cut_request (half of what is sent), slow, forbid (403)
         match: a pattern for `METHOD /path?query`; times: how often, -1 for always
away     seconds in which nothing listens at the port; open connections break
seen     answers with the requests since the last time
"""

import contextlib
import http.client
import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moto.server import ThreadedMotoServer

XML = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>told so by the test</Message></Error>'
ANSWERS = {"refuse": (503, "SlowDown"), "forbid": (403, "InvalidAccessKeyId")}
PUBLIC = {"Authorization": "AWS4-HMAC-SHA256 Credential=ANYBODY/20260101/us-east-1/s3/aws4_request"}  # if unsigned
OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "date", "server"}


class State:
    """What the proxy was told, and what it has seen."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.faults: list[dict[str, Any]] = []
        self.seen: list[dict[str, str]] = []
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()

    def fault(self, request: str) -> dict[str, Any]:
        with self.lock:
            for fault in self.faults:
                if fault["times"] and re.search(fault["match"], request):
                    fault["times"] -= 1
                    return fault
        return {"kind": ""}


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on to moto, or answers with a fault."""

    protocol_version = "HTTP/1.1"
    state: State

    def setup(self) -> None:
        super().setup()
        self.state.open.add(self.connection)

    def finish(self) -> None:
        self.state.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def pass_on(self) -> None:
        request = f"{self.command} {self.path}"
        with self.state.lock:
            self.state.seen.append({"request": request, "range": self.headers.get("Range", "")})
        fault = self.state.fault(request)
        length = int(self.headers.get("Content-Length") or 0)
        if fault["kind"] == "cut_request":
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self.rfile.read(length)
        if fault["kind"] in ANSWERS:
            status, code = ANSWERS[fault["kind"]]
            self.send(status, {"Content-Type": "application/xml"}, XML.format(code).encode())
            return
        time.sleep(fault.get("seconds", 0) if fault["kind"] == "slow" else 0)
        upstream = http.client.HTTPConnection("127.0.0.1", self.state.upstream, timeout=60)
        upstream.request(self.command, self.path, body, PUBLIC | dict(self.headers.items()))
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in OF_ONE_HOP}
        self.send(answer.status, headers, content, cut=fault["kind"] == "cut")

    def send(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        headers = {name: value for name, value in headers.items() if name.lower() != "content-length" or not content}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815


class Server(ThreadingHTTPServer):
    """A server whose connections end with it."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class Control(BaseHTTPRequestHandler):
    """Takes what the tests tell."""

    proxies: "Proxies"

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(self.proxies.told(told)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class Proxies:
    """The proxy, which can go away and come back at its port."""

    def __init__(self, upstream: int) -> None:
        self.state = State(upstream)
        Proxy.state = self.state
        self.server = self._started(0)
        self.port = self.server.server_address[1]

    def told(self, told: dict[str, Any]) -> object:
        with self.state.lock:
            if "faults" in told:
                self.state.faults = told["faults"]
            seen, self.state.seen = self.state.seen, [] if "seen" in told else self.state.seen
        if "away" in told:
            self._stop()
            threading.Timer(told["away"], self._start).start()
        return seen

    def _started(self, port: int) -> Server:
        server = Server(("127.0.0.1", port), Proxy)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def _start(self) -> None:
        self.server = self._started(self.port)

    def _stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.state.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def main() -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    _, upstream = moto.get_host_and_port()
    Control.proxies = Proxies(upstream)
    control = Server(("127.0.0.1", 0), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    ports = {"port": Control.proxies.port, "control": control.server_address[1], "direct": upstream}
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
