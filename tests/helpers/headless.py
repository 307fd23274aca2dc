"""A headless chromium driven over WebDriver's plain HTTP, for pages that need no network."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
KEYS = {"right": "\ue014", "left": "\ue012", "home": "\ue011", "end": "\ue010", "enter": "\ue007", "tab": "\ue004"}


class Browser:
    """One window.

    Args:
        profile: a fresh folder.
        dark: what the system prefers.
    """

    def __init__(self, profile: Path, dark: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert DRIVER is not None
        self._driver = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._url = f"http://127.0.0.1:{port}"
        arguments = [*FLAGS, f"--user-data-dir={profile}", "--window-size=1100,1400"]
        arguments += ["--blink-settings=preferredColorScheme=0"] * dark
        options = {"goog:chromeOptions": {"binary": BROWSER, "args": arguments}}
        try:
            for attempt in range(100):
                try:
                    made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": options}})
                    break
                except OSError:
                    if attempt == 99:
                        raise
                    time.sleep(0.1)
        except BaseException:
            self._driver.kill()
            raise
        self._url += f"/session/{made['sessionId']}"

    def close(self) -> None:
        """End the browser and its driver."""
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(10)

    def open(self, path: Path) -> None:
        """Load a file."""
        self._call("POST", "/url", {"url": path.as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        press = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": press}]})

    def picture(self) -> bytes:
        """A PNG of the window."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def _call(self, method: str, place: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._url + place, body, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]
