"""Take the pictures of docs/pictures.md from the page of `make demo`: python docs/screenshots.py PAGE FOLDER.

It needs Chromium, whose program CHROMIUM may name, and the package playwright.
"""

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Locator, Page, sync_playwright

WIDTH, HEIGHT = 1040, 1000
QUALITY = 80
CARDS = 2


def main() -> None:
    """Write gallery.webp and map.webp."""
    source, folder = map(Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        page.goto(source.resolve().as_uri())
        page.select_option("#gallery-order", "best")
        page.select_option("#gallery-show", "wrong")
        cards = page.locator("#cards > article:not([hidden])")
        save(page, folder / "gallery.webp", [cards.nth(number) for number in range(CARDS)])
        page.locator("#map-area").press("+")
        save(page, folder / "map.webp", [page.locator(".map")])
        browser.close()


def save(page: Page, out: Path, parts: list[Locator]) -> None:
    """Write parts of the page, one below the other, as one picture."""
    shots = []
    for part in parts:
        part.evaluate("(part) => part.scrollIntoView({block: 'center'})")
        page.wait_for_timeout(500)  # for its films
        shots.append(cv2.imdecode(np.frombuffer(part.screenshot(), np.uint8), cv2.IMREAD_COLOR))
    _, data = cv2.imencode(".webp", np.vstack(shots), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    out.write_bytes(data.tobytes())
    print(f"{out}: {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
