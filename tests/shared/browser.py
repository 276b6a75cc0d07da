"""A headless Chromium that says what a page asked for, driven over its own pipe: no driver, no port, no package.

The browser's proxy is a socket that nobody answers on and everybody is counted at, so that what a page does behind
the back of its developer tools (prefetching a name, opening a connection) is seen too.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-domain-reliability",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# What Chromium asks for on its own account, whatever it shows: the time, updates, whether somebody is signed in.
OWN = ("clients2.google.com", "update.googleapis.com", "accounts.google.com", "optimizationguide-pa.googleapis.com")
ANSWER_S = 30
SETTLED_S = 0.4  # after a page has loaded: what its scripts and style sheets ask for later


class Page:
    """A page that was opened: `requests` are the addresses it asked for, its own first."""

    def __init__(self, browser: _Pipe, session: str) -> None:
        self._browser, self._session = browser, session
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, params, self._session, self._heard)

    def open(self, path: Path) -> None:
        self.requests.clear()
        self.call("Network.enable")
        self.call("Page.enable")
        self.call("Page.bringToFront")  # what is in the background may never be drawn
        self.call("Page.navigate", url=path.absolute().as_uri())
        end = time.monotonic() + SETTLED_S
        while self.evaluate("document.readyState") != "complete":
            end = time.monotonic() + SETTLED_S
        while time.monotonic() < end:
            self.evaluate("window.scrollTo({top: 1e6, behavior: 'instant'})")  # what is loaded lazily is loaded
            time.sleep(0.05)

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, clip: dict[str, float]) -> bytes:
        """A PNG of a part of the page, whether it is in sight or not: x, y, width, height and scale."""
        answer = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def _heard(self, event: dict[str, Any]) -> None:
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])


class _Pipe:
    """Chromium's end of a conversation: messages of JSON, each ended by a null byte."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._rest, self._last, self._asked = reading, writing, b"", 0, ""

    def call(
        self, method: str, params: dict[str, Any], session: str | None = None, heard: Any = None
    ) -> dict[str, Any]:
        self._last, self._asked = self._last + 1, method
        message = {"id": self._last, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._last:
                assert "error" not in found, found
                return dict(found["result"])
            if heard is not None and "method" in found:
                heard(found)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reading], [], [], ANSWER_S)
            assert ready, f"no answer from the browser to {self._asked} in {ANSWER_S} s"
            piece = os.read(self._reading, 1 << 16)
            assert piece, "the browser has gone"
            self._rest += piece
        whole, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(whole))


class Knocks:
    """A listening socket that notes who comes for a page, and hangs up."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return  # closed
            with caller:
                caller.settimeout(2)
                try:
                    said = caller.recv(300).decode("latin1").split("\r\n")[0]
                except OSError as error:
                    said = f"a connection: {error}"
            if said.removeprefix("CONNECT ").removeprefix("GET http://").removeprefix("POST http://").startswith(OWN):
                continue
            self.heard.append(said)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def binary() -> str:
    """Where the browser is; without one the test is skipped, saying what is missing."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


@contextmanager
def browsing() -> Iterator[tuple[Page, Knocks]]:
    """A page of a browser of its own, with a fresh profile, and who knocked at its proxy."""
    program, knocks = binary(), Knocks()
    to_read, to_write = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        there = [f"--user-data-dir={profile}", f"--proxy-server=http://127.0.0.1:{knocks.port}"]
        command = [program, *QUIET, *there, "--proxy-bypass-list=<-loopback>", "about:blank"]

        def wired() -> None:
            """Chromium reads its commands from 3 and answers on 4."""
            os.dup2(to_read[0], 13), os.dup2(to_write[1], 14)
            os.dup2(13, 3), os.dup2(14, 4)

        process = subprocess.Popen(
            command,
            preexec_fn=wired,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read[0]), os.close(to_write[1])
        try:
            pipe = _Pipe(to_write[0], to_read[1])
            target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
            session = pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
            yield Page(pipe, session), knocks
        finally:
            process.kill()
            process.wait()
            os.close(to_read[1]), os.close(to_write[0])
            knocks.close()
