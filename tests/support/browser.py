"""A real browser without a network, for pages on the disk.

Chromium is the program in CHROMIUM, or the first that is installed. Where CHROMIUM is set, nothing is skipped: a
browser that does not start is a failure.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
AXE = ROOT / ".venv" / "axe" / "package" / "axe.min.js"  # where tests/fetch_axe.sh puts it
ORDER = ("minor", "moderate", "serious", "critical")


@dataclass(eq=False)
class Opened:
    """A page that is open, and what it did."""

    page: Any  # playwright ships types, but is not always there
    requests: list[str] = field(default_factory=list)  # all but the page itself and its own pictures
    messages: list[str] = field(default_factory=list)  # of the console, and errors

    @property
    def troubles(self) -> list[str]:
        return self.requests + self.messages


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium; skip the test where there is none."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed, and CHROMIUM names none")
    if "CHROMIUM" not in os.environ:
        pytest.importorskip("playwright", reason="no browser: the package playwright is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(
    browser: Any,  # noqa: ANN401
    path: Path,
    *,
    width: int = 1200,
    scheme: str = "light",
    scripts: bool = True,
    motion: str = "no-preference",
) -> Iterator[Opened]:
    """Open a page from the disk, without any network; what it asks for and says is written down."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion=motion,
        offline=True,
        has_touch=width < 600,
    )
    seen = Opened(context.new_page())
    seen.page.on("console", lambda message: seen.messages.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.messages.append(f"error: {error}"))
    seen.page.on("dialog", lambda dialog: (seen.messages.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    own = path.resolve().as_uri()
    seen.page.on("request", lambda request: request.url.startswith(("data:", own)) or seen.requests.append(request.url))
    seen.page.goto(own)
    yield seen
    context.close()


def violations(page: Any) -> list[str]:  # noqa: ANN401
    """Return what axe finds above "minor", with the first element of each."""
    script = Path(os.environ.get("AXE", AXE))
    if not script.is_file():
        reason = f"{script} is missing: sh tests/fetch_axe.sh puts it there"
        pytest.fail(reason) if "CHROMIUM" in os.environ else pytest.skip(reason)
    page.evaluate(script.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['impact']}: {one['id']}: {one['help']}: {one['nodes'][0]['html'][:120]}"
        for one in found
        if ORDER.index(one["impact"]) > 0
    ]
