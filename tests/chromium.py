"""A real browser for tests, where there is one."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (path := shutil.which(name))
    ),
    None,
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """Chromium, driven over the DevTools protocol on a pair of pipes: no package and no port are needed."""

    def __init__(self, folder: Path, timeout_s: float = 60.0) -> None:
        assert CHROMIUM is not None
        self.timeout_s, self.events, self._n, self._buffer = timeout_s, [], 0, b""
        reads_commands, self._write = os.pipe()
        self._read, writes_answers = os.pipe()
        command = f'exec "$@" 3<&{reads_commands} 4>&{writes_answers}'
        arguments = ["bash", "-c", command, "bash", CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            arguments, pass_fds=(reads_commands, writes_answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(reads_commands)
        os.close(writes_answers)
        self._session: str | None = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its answer; events on the way are kept."""
        self._n += 1
        message = {"id": self._n, "method": method, "params": parameters} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._n:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(
        self, page: Path | str, width: int = 1280, height: int = 900, scheme: str = "light", is_phone: bool = False
    ) -> None:
        """Shows a file or an address at a window size and colour scheme, and waits until it is loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page, of a promise what it comes to."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """One key, as from a keyboard."""
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, **clip: float) -> None:
        options = {"clip": {"scale": 1, **clip}} if clip else {}
        path.write_bytes(
            base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True, **options)["data"])
        )

    def complaints(self) -> list[str]:
        """Errors of scripts, refusals and failed loads since the page was opened."""
        wrong = ("Runtime.exceptionThrown", "Network.loadingFailed", "Page.javascriptDialogOpening")
        said = [json.dumps(e["params"]) for e in self.events if e["method"] in wrong]
        return said + [
            json.dumps(e["params"])
            for e in self.events
            if e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
        ]

    def requests(self) -> list[str]:
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def _next(self) -> dict[str, Any]:
        ends = time.monotonic() + self.timeout_s
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))
            block = os.read(self._read, 1 << 16) if ready else b""
            assert block, f"chromium said nothing for {self.timeout_s} s (exit status {self._process.poll()})"
            self._buffer += block
        line, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(line)
