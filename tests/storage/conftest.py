"""A stand-in for S3 (moto's server), and a proxy before it that fails as networks and stores do."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import logging
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from reclake.storage.objects import ObjectPath

_NUMBERS = itertools.count()
FAULTS = ("refused", "lost answer", "hung", "hung after", "slow", "cut")
TIMEOUT_S = 1.0  # what clients in these tests wait for an answer

# (method, path) -> one of FAULTS, or None; or "unconditional", as stores do it that do not know If-None-Match
Plan = Callable[[str, str], str | None]


class Store:
    """A server's empty bucket `lake`, and ways to it."""

    def __init__(self, address: str, prefix: str) -> None:
        self.address = address
        self.uri = f"s3://lake/{prefix}"

    def options(self, address: str | None = None) -> dict[str, str]:
        """Storage options for the server, or for a proxy before it."""
        return {
            "aws_endpoint_url": address or self.address,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
            "timeout": f"{int(TIMEOUT_S * 1000)}ms" if address else "20s",
        }

    def place(self, address: str | None = None) -> ObjectPath:
        return ObjectPath.of(self.uri, self.options(address))

    @contextlib.contextmanager
    def failing(self, plan: Plan) -> Iterator[tuple[str, Counter[str]]]:
        """A proxy before the server that does to each request what the plan says; its address, and what it did."""
        with proxy(self.address, plan) as found:
            yield found

    @staticmethod
    def at_random(share: float, seed: int) -> Plan:
        """Faults of all kinds for a share of all requests."""
        rng, lock = random.Random(seed), threading.Lock()

        def plan(method: str, path: str) -> str | None:
            with lock:
                return rng.choice(FAULTS) if rng.random() < share else None

        return plan

    @staticmethod
    def first(fault: str, method: str, part: str, times: int = 1) -> Plan:
        """A fault for the first requests of a method whose path holds a text."""
        left = [fault] * times

        def plan(asked: str, path: str) -> str | None:
            return left.pop() if left and asked == method and part in path else None

        return plan


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    pytest.importorskip("moto", reason="the stand-in for S3 is not installed: pip install 'reclake[test]'")
    with s3_server() as address:
        yield address


@pytest.fixture
def store(s3_address: str) -> Store:
    """A prefix of its own for each test."""
    return Store(s3_address, f"lake-{next(_NUMBERS)}")


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """A server with an empty bucket `lake`; its address."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/lake", method="PUT")).close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", _one_at_a_time(S3Response.put_object))
        try:
            yield address
        finally:
            server.stop()


def _one_at_a_time(put: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A put that looks whether there is an object and puts it in one step, as S3 does.

    moto 5.2.5 looks and puts in two: of two that put one name at once with If-None-Match, one or two pairs in a
    thousand are both told 200 on a busy machine, and the second takes the place of the first. In a log that is a commit
    that was confirmed and is lost.
    """
    lock = threading.Lock()

    def locked(request: Any) -> Any:
        with lock:
            return put(request)

    return locked


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: ClassVar[str]
    plan: ClassVar[Plan]
    seen: ClassVar[Counter[str]]

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = type(self).plan(self.command, self.path)
        self.seen[fault or "none"] += 1
        if fault == "refused":
            return self._answer(503, {}, b"")
        if fault == "hung":
            time.sleep(TIMEOUT_S + 0.2)
            return self._hang_up()
        if fault == "slow":
            time.sleep(TIMEOUT_S / 3)
        upstream = http.client.HTTPConnection(type(self).upstream, timeout=30)
        left_out = ("host", "if-none-match") if fault == "unconditional" else ("host",)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OURS}
        size = int(answer.headers.get("Content-Length") or len(data))
        upstream.close()
        if fault == "lost answer":
            return self._answer(500, {}, b"")
        if fault == "hung after":
            time.sleep(TIMEOUT_S + 0.2)
            return self._hang_up()
        return self._answer(answer.status, kept, data, size, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes, size: int | None = None, *, cut: bool = False
    ) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) if size is None else size))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Tests read the counts."""


_OURS = frozenset({"content-length", "connection", "date", "server", "transfer-encoding"})


@contextlib.contextmanager
def proxy(upstream: str, plan: Plan) -> Iterator[tuple[str, Counter[str]]]:
    """A proxy before a server that does to each request what the plan says; its address, and what it did."""
    counts: Counter[str] = Counter()
    handler = type("Handler", (_Handler,), {"upstream": upstream.removeprefix("http://"), "plan": staticmethod(plan)})
    handler.seen = counts  # type: ignore[attr-defined]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", counts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
