"""The page of a report in a real browser, from the disk and without a network: it opens, filters, selects and plays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Opened, browser, opened, violations
from pages import HOSTILE, report_of

from veval.page.build import write
from veval.page.request import Request

pytestmark = pytest.mark.slow
SHOWN = "#cards > article:not([hidden])"
IN_VIEW = 'img[data-seen="yes"]'


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def page_file(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about a set with a class called <script>alert(1)</script> and with hostile keys."""
    folder = tmp_path_factory.mktemp("a page, with blanks")
    files, kept = report_of(folder, shards)
    run = folder / "run"
    run.mkdir()
    lines = (f'{{"step": {10 * n}, "epoch": {n}, "loss": {2 / n}, "accuracy": {1 - 1 / n}}}\n' for n in range(1, 9))
    (run / "metrics.jsonl").write_text("".join(lines))
    request = Request(files=files, features=kept, runs=[run])
    write(request, request.read_results(), folder / "page #1.html")
    return folder / "page #1.html"


@pytest.fixture
def shown(chromium: Any, page_file: Path) -> Iterator[Opened]:  # noqa: ANN401
    """The page at the width of a desk; afterwards, that it asked for nothing and complained of nothing."""
    with opened(chromium, page_file) as found:
        yield found
        assert found.troubles == []


def choose(shown: Opened, name: str, value: str) -> list[str]:
    """Choose in the gallery, and return the classes of the cards that are on view."""
    shown.page.select_option(f"#gallery-{name}", value)
    return [card.get_attribute("data-class") for card in shown.page.query_selector_all(SHOWN)]


def test_it_opens_from_the_disk_without_a_network_and_without_a_complaint(shown: Opened) -> None:
    assert shown.page.title() == "Video representations: synth, fold 1"
    assert shown.page.locator("section").count() == 6
    assert shown.page.locator("#switches").is_visible()


def test_a_page_that_asks_for_something_would_be_noticed(chromium: Any, tmp_path: Path) -> None:  # noqa: ANN401
    (tmp_path / "loads.html").write_text('<img src="https://example.org/x.png"><script>console.error("no")</script>')
    with opened(chromium, tmp_path / "loads.html") as found:
        assert "https://example.org/x.png" in found.requests
        assert any("no" in message for message in found.messages)


def test_names_from_files_are_text_for_a_browser(shown: Opened) -> None:
    assert HOSTILE in choose(shown, "class", "")
    assert shown.page.locator("img[src='x']").count() == 0
    assert shown.page.locator("script:not([type])").count() == 1
    shown.page.locator("#map-area").press("ArrowUp")
    for _ in range(80):
        shown.page.locator("#map-area").press("+")
    assert shown.page.locator("#map-count").inner_text().startswith("28 videos in the box")
    shown.page.select_option("#map-split", "test")
    assert HOSTILE in shown.page.locator("#map-videos").inner_text()
    assert shown.page.locator("#map-videos b, #map-videos script").count() == 0
    assert "]]></script><b>" in shown.page.locator("#map-videos").inner_text()


def test_the_gallery_filters_by_class_and_by_right_and_wrong(shown: Opened) -> None:
    everything = choose(shown, "show", "all")
    assert len(everything) == 8  # the others come with a button
    shown.page.click("#more")
    assert shown.page.locator(SHOWN).count() == 12
    assert not shown.page.locator("#more").is_visible()
    of_class = choose(shown, "class", HOSTILE)
    assert 0 < len(of_class) < 12
    assert set(of_class) == {HOSTILE}
    choose(shown, "class", "")
    counts = []
    for name in ("right", "wrong"):
        choose(shown, "show", name)
        counts.append(int(shown.page.locator("#gallery-count").inner_text().split()[0]))
    assert min(counts) > 0
    assert sum(counts) == 12
    assert ", 0 with the nearest neighbour right" in shown.page.locator("#gallery-count").inner_text()
    assert len(choose(shown, "show", "related")) == 1


def test_the_worst_queries_come_first_and_each_network_has_its_own(shown: Opened) -> None:
    def ranks() -> list[float]:
        cards = shown.page.query_selector_all(SHOWN)
        return [float(card.get_attribute("data-rank")) or float("inf") for card in cards]

    assert ranks() == sorted(ranks(), reverse=True)
    choose(shown, "order", "best")
    assert ranks() == sorted(ranks())
    first = shown.page.locator(SHOWN).first.inner_text()
    choose(shown, "which", "1")
    assert shown.page.locator(f"{SHOWN}[data-result='1']").count() == 8
    assert shown.page.locator(SHOWN).first.inner_text() != first


def frames(shown: Opened) -> None:
    """Wait until the browser has drawn the page, and has told its script what is in view."""
    draw = "let n = 6; const draw = () => (n-- ? requestAnimationFrame(draw) : done()); draw();"
    shown.page.evaluate(f"new Promise((done) => {{ {draw} }})")


def moving(shown: Opened) -> set[bool]:
    """Whether the films that are in view move."""
    frames(shown)
    images = shown.page.query_selector_all(f"article:not([hidden]) {IN_VIEW}")
    assert images
    for image in images:
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    return {b"ANMF" in image.evaluate("image => atob(image.src.split(',')[1])").encode("latin-1") for image in images}


def test_films_play_while_they_are_seen_and_stop_at_a_click(shown: Opened) -> None:
    shown.page.locator("#gallery").scroll_into_view_if_needed()
    assert moving(shown) == {True}
    shown.page.locator("#films").dispatch_event("click")
    assert shown.page.locator("#films").inner_text() == "Play"
    assert moving(shown) == {False}
    shown.page.locator(SHOWN).first.hover()
    assert moving(shown) == {True, False}
    shown.page.mouse.move(0, 0)
    assert moving(shown) == {False}


def test_films_outside_the_window_are_not_decoded(shown: Opened) -> None:
    frames(shown)
    far = shown.page.locator("#map-videos img").first
    assert far.get_attribute("src") is None
    shown.page.locator("#map").scroll_into_view_if_needed()
    far.wait_for(state="visible")
    assert far.get_attribute("src").startswith("data:image/webp;base64,")


def test_films_stand_still_where_the_reader_wants_less_motion(chromium: Any, page_file: Path) -> None:  # noqa: ANN401
    with opened(chromium, page_file, motion="reduce") as shown:
        shown.page.locator("#gallery").scroll_into_view_if_needed()
        assert moving(shown) == {False}
        assert shown.page.locator("#films").inner_text() == "Play"
        assert shown.troubles == []


def test_a_region_of_the_map_shows_its_videos_by_keys_and_by_mouse(shown: Opened) -> None:
    area = shown.page.locator("#map-area")
    count = shown.page.locator("#map-count")
    area.press("Escape")
    assert count.inner_text() == ""
    assert shown.page.locator("#map-videos li").count() == 0
    frame = area.bounding_box()
    shown.page.mouse.move(frame["x"] + 3, frame["y"] + 3)
    shown.page.mouse.down()
    shown.page.mouse.move(frame["x"] + frame["width"] - 3, frame["y"] + frame["height"] - 3, steps=4)
    shown.page.mouse.up()
    assert count.inner_text().startswith("28 videos in the box")
    shown.page.select_option("#map-split", "test")
    assert count.inner_text().startswith("12 videos in the box")
    shown.page.select_option("#map-class", label=HOSTILE)
    assert f" {HOSTILE}" in count.inner_text()
    for _ in range(60):
        area.press("ArrowLeft")
    assert count.inner_text() == "No video in the box."


def test_the_colours_change_at_a_click(shown: Opened) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert shown.page.evaluate(colour) == "rgb(255, 255, 255)"
    shown.page.click("#theme")
    assert shown.page.evaluate(colour) == "rgb(20, 23, 27)"
    assert shown.page.locator("#theme").inner_text() == "Light"


def test_the_first_key_leads_to_the_content(shown: Opened) -> None:
    shown.page.keyboard.press("Tab")
    assert shown.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    shown.page.keyboard.press("Enter")
    assert shown.page.evaluate("document.activeElement.id") == "content"


def test_tables_and_cards_are_there_without_scripts(chromium: Any, page_file: Path) -> None:  # noqa: ANN401
    with opened(chromium, page_file, scripts=False) as shown:
        assert shown.page.locator("#results tbody tr").count() >= 4
        assert shown.page.locator(SHOWN).count() == 24
        assert not shown.page.locator("#gallery-controls").is_visible()
        assert not shown.page.locator("#switches").is_visible()


def test_on_paper_there_are_no_switches(shown: Opened) -> None:
    shown.page.emulate_media(media="print")
    assert not shown.page.locator("#switches").is_visible()
    assert not shown.page.locator("nav").is_visible()
    assert shown.page.locator("#results table").first.is_visible()


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_fits_the_window(chromium: Any, page_file: Path, width: int, scheme: str) -> None:  # noqa: ANN401
    with opened(chromium, page_file, width=width, scheme=scheme) as shown:
        shown.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(shown.page) == []
        assert shown.troubles == []


def test_a_page_that_is_not_accessible_would_be_noticed(chromium: Any, tmp_path: Path) -> None:  # noqa: ANN401
    (tmp_path / "bare.html").write_text('<title>t</title><img src="data:,"><p style="color: #ccc">faint</p>')
    with opened(chromium, tmp_path / "bare.html") as found:
        said = " ".join(violations(found.page))
        assert "critical: image-alt" in said
        assert "serious: color-contrast" in said
