"""
Headless Chromium, driven over its debugging pipe: real pages, a real keyboard, the console and the network watched.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.waiting import wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell")
_DOWNLOADED = ("chrome", "headless_shell", "chrome-headless-shell")  # by Playwright


def _program() -> str | None:
    """Return the browser on the PATH, or the latest one that Playwright has downloaded."""
    on_path = (shutil.which(name) for name in _NAMES)
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    downloaded = [path for name in _DOWNLOADED for path in sorted(folder.glob(f"chromium*/*/{name}"), reverse=True)]
    return next(filter(None, on_path), None) or next((str(path) for path in downloaded if path.is_file()), None)


PROGRAM = _program()
_FLAGS = (
    *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--hide-scrollbars", "--no-sandbox"),
    "--remote-debugging-pipe",
)
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Home": 36, "End": 35, "Delete": 46, "a": 65}
_CONTROL = 2


@dataclass
class Page:
    """One tab. `complaints` are errors and warnings of the console and of the network; `asked` are the URLs loaded."""

    _browser: Browser
    _session: str
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, parameters, self._session)

    def look(self, width: int, *, dark: bool, height: int = 900) -> None:
        """Take this size and colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self.call("Page.navigate", url=url)
        wait_until(lambda: self.value("document.readyState") == "complete", what=f"{url} in the browser")

    def value(self, expression: str) -> Any:
        """Return what JavaScript says."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        return wait_until(lambda: self.value(expression), what=expression)

    def press(self, key: str, *, control: bool = False, times: int = 1) -> None:
        """Press a key, as a person would."""
        code = {"key": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": _CONTROL if control else 0}
        text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        commands = {"commands": ["selectAll"]} if control and key == "a" else {}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text, **commands)
            self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def tab_to(self, selector: str, most: int = 40) -> None:
        """Press Tab until an element has the focus. Fail if the keyboard doesn't reach it."""
        for _ in range(most):
            if self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"the keyboard doesn't reach {selector}")

    def screenshot(self, file: Path) -> None:
        """Save the whole page as a picture."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(found["data"]))


class Browser:
    """A running Chromium. Messages are JSON, each ended by a zero byte, over two pipes."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self.process = process
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._rest = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def page(self, *, credentials: str = "") -> Page:
        """Open a tab in a profile of its own. `credentials` are sent with every request."""
        context = self.call("Target.createBrowserContext", {})["browserContextId"]
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        if credentials:
            header = "Basic " + base64.b64encode(credentials.encode()).decode()
            page.call("Network.setExtraHTTPHeaders", headers={"Authorization": header})
        return page

    def close(self) -> None:
        self._commands.close()
        self._answers.close()

    def call(self, method: str, parameters: dict[str, Any], session: str = "") -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = self._answers.read(1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        page, told = self._pages.get(event.get("sessionId", "")), event.get("params", {})
        if page is None:
            return
        if event["method"] == "Network.requestWillBeSent":
            page.asked.append(told["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            page.complaints.append(str(told["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            page.complaints.append(str(told["args"]))
        elif event["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            page.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with an empty profile."""
    assert PROGRAM is not None
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        # The program reads commands from descriptor 3 and answers on 4.
        words = ["bash", "-c", f'exec "$@" 3<&{commands_out} 4>&{answers_in}', "bash"]
        process = subprocess.Popen(
            [*words, PROGRAM, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(commands_out, answers_in),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands_out)
        os.close(answers_in)
        running = Browser(process, commands_in, answers_out)
        try:
            yield running
        finally:
            with contextlib.suppress(Exception):
                running.call("Browser.close", {})
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            running.close()
