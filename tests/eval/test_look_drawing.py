"""Figures explain themselves: colours by lightness, ranges in captions, right and wrong by more than colour."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from browser import browser, opened, violations

from veval.look.colour import coloured, ramp
from veval.look.drawing import moving, still
from veval.look.figure import Figure, Mark, Row, Tile, one_by_one
from veval.look.layout import Layout
from veval.look.lettering import LINE, fitting, lines_of, width_of
from veval.look.save import encoded, page
from vprep.errors import UsageError
from vprep.page.document import save, write_page

Array = npt.NDArray[np.float64]
# Viénot, Brettel and Mollon (1999): linear sRGB as seen without the cones for green, and without those for red.
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
PROTANOPIA = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
LABEL = 'a "key" <script>alert(1)</script>\nof Möbius'


def lightness(linear_rgb: Array) -> Array:
    """CIE L*."""
    luminance = linear_rgb @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def linear() -> Array:
    encoded_ = ramp()[:, ::-1] / 255
    return np.where(encoded_ <= 0.04045, encoded_ / 12.92, ((encoded_ + 0.055) / 1.055) ** 2.4)


def test_lightness_rises_evenly_over_the_colours() -> None:
    found = lightness(linear())
    steps = np.diff(found[::15])
    assert (steps > 0).all()
    assert steps.max() < 1.6 * steps.mean()
    assert found[-1] - found[0] > 80


@pytest.mark.parametrize("seen", [DEUTERANOPIA, PROTANOPIA])
def test_the_order_of_the_colours_is_seen_without_the_cones_for_red_or_green(seen: Array) -> None:
    assert (np.diff(lightness((linear() @ seen.T).clip(0, 1))[::15]) > 0).all()


def tile(low: float, high: float, **words: object) -> Tile:
    """A grey clip of 3 frames with a map whose left half is low."""
    map_ = np.array([[[low, high]]] * 2, np.float32)
    return Tile(clip=np.full((3, 8, 8, 3), 100, np.uint8), map=map_, **words)  # type: ignore[arg-type]


def figure(*tiles: Tile, **words: object) -> Figure:
    rows = [Row(label=LABEL, tiles=tiles)]
    about = [{"key": LABEL}]
    return Figure(title="T", columns=["a"] * len(tiles), rows=rows, about=about, tile=160, **words)  # type: ignore[arg-type]


def corners(made: Figure) -> list[npt.NDArray[np.uint8]]:
    """The first and the last pixel of each tile's upper row."""
    picture, layout = still(made), Layout.of(made, moving=False)
    top = layout.top + LINE["text"] + 1
    return [picture[top, 12 + number * 166 + at] for number in range(len(made.rows[0].tiles)) for at in (0, 159)]


def test_a_map_has_its_own_range_or_one_that_all_share_and_its_share_of_the_colours() -> None:
    tiles = tile(0, 1), tile(0, 10)
    first, last = ramp()[0], ramp()[-1]
    np.testing.assert_array_equal(corners(figure(*tiles, alpha=1.0)), [first, last, first, last])
    shared = corners(figure(*tiles, alpha=1.0, scale="shared"))
    np.testing.assert_array_equal(shared, [first, coloured(np.array(0.1)), first, last])
    half = corners(figure(*tiles, alpha=0.5))[1]
    np.testing.assert_allclose(half, (100 + last.astype(int)) / 2, atol=1)
    np.testing.assert_allclose(corners(figure(*tiles, alpha=0.0))[1], [100] * 3, atol=1)


def captions(made: Figure, *, moving: bool = False) -> list[str]:
    return [each.caption for each in Layout.of(made, moving=moving).figure.tiles()]


def test_a_caption_or_the_legend_says_what_the_colours_stand_for() -> None:
    made = figure(tile(0.5, 1.25, caption="cosine"), tile(3, 3), legend=("lowest", "highest"))
    assert captions(made) == ["cosine\n0.5 to 1.25", "3 everywhere"]
    assert Layout.of(made, moving=False).legend == ("lowest", "highest")
    shared = replace(made, scale="shared")
    assert captions(shared) == ["cosine", ""]
    assert Layout.of(shared, moving=False).legend == ("0.5", "3, as in all maps here")
    assert captions(figure(tile(-0.01234, 1024.4))) == ["-0.0123 to 1024"]
    fixed = figure(tile(0.8, 1, fixed=(0.8, 2.0)))
    assert captions(fixed) == [""]


def test_a_picture_that_moves_has_a_picture_for_each_frame_of_the_longest_clip_and_follows_the_map() -> None:
    first = tile(0, 1)
    rising = replace(first, map=np.array([[[0.0]], [[1.0]]], np.float32))
    made = figure(rising, replace(first, clip=np.zeros((5, 8, 8, 3), np.uint8)), alpha=1.0)
    found = moving(made)
    assert len(found) == 5
    top = Layout.of(made, moving=True).top + LINE["text"] + 5
    values = [picture[top, 20].astype(int) for picture in found]
    np.testing.assert_array_equal(values[0], ramp()[0])
    np.testing.assert_array_equal(values[-1], ramp()[-1])
    np.testing.assert_array_equal(values[2], coloured(np.array(0.5)))


def marked(mark: Mark) -> npt.NDArray[np.uint8]:
    clip = np.full((1, 8, 8, 3), 128, np.uint8)
    return cv2.cvtColor(still(figure(Tile(clip=clip, mark=mark))), cv2.COLOR_BGR2GRAY).astype(np.uint8)


def test_right_and_wrong_differ_without_colour() -> None:
    right, wrong = marked("right"), marked("wrong")
    top = Layout.of(figure(Tile(clip=np.zeros((1, 8, 8, 3), np.uint8))), moving=False).top + LINE["text"]
    row = slice(60, 160)  # right of the sign
    assert len(set(right[top, row].tolist())) == 1
    assert {128} < set(wrong[top, row].tolist())  # the border is broken
    sign = slice(top + 5, top + 32), slice(16, 44)
    shapes = [(picture[sign] < 200) for picture in (right, wrong)]
    assert (shapes[0] != shapes[1]).mean() > 0.05


def test_any_text_is_written_in_its_width() -> None:
    assert fitting("Möbius\n\x1b[31m", 500) == "Mobius\\n\\x1b[31m"
    assert fitting("x" * 100, 80).endswith("...")
    assert all(width_of(line) <= 120 for line in lines_of("a word " * 30 + "y" * 200, 120))
    assert " ".join(lines_of("a word " * 30, 120)).split() == ["a", "word"] * 30


def test_a_tile_without_a_clip_says_why_and_is_empty() -> None:
    made = figure(Tile(clip=None, caption="not seen"))
    np.testing.assert_array_equal(corners(made), [[225] * 3] * 2)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_still_picture_opens_with_the_size_of_its_layout(ending: str) -> None:
    made = figure(tile(0, 1))
    layout = Layout.of(made, moving=False)
    picture = cv2.imdecode(np.frombuffer(encoded(made, ending), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (layout.height, layout.width, 3)


def test_in_a_page_names_of_files_are_text_and_the_figure_is_there_still_and_moving() -> None:
    made, pieces = figure(tile(0, 1)), list[str]()
    write_page(page(made, made), pieces.append)
    text = "".join(pieces)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count('src="data:image/webp;base64,') == 1
    assert 'data-film="0"' in text


def test_a_figure_is_divided_into_one_of_each_video() -> None:
    rows = [Row(label=str(number), tiles=[tile(0, 1)]) for number in range(4)]
    made = replace(figure(tile(0, 1)), rows=rows, per_video=2, about=[{"key": "a"}, {"key": "b"}])
    assert [([row.label for row in one.rows], one.about[0]["key"]) for one in one_by_one(made)] == [
        (["0", "1"], "a"),
        (["2", "3"], "b"),
    ]


def test_a_figure_that_a_file_cannot_hold_is_refused() -> None:
    rows = [Row(label=str(number), tiles=[tile(0, 1)]) for number in range(100)]
    made = replace(figure(tile(0, 1)), rows=rows)
    with pytest.raises(UsageError, match=r"would have 2\d{4} x 584 pixels, which is too large for .webp; show"):
        encoded(made, ".webp")


@pytest.mark.slow
def test_a_page_of_a_figure_opens_without_a_network_plays_and_is_accessible(tmp_path: Path) -> None:
    made = figure(tile(0, 1), tile(1, 2), notes=("a note",), legend=("low", "high"))
    save(page(made, made), tmp_path / "a page.html")
    with browser() as found, opened(found, tmp_path / "a page.html", width=400) as seen:
        still_, film = seen.page.locator("main img").all()
        assert still_.evaluate("image => image.complete && image.naturalWidth > 0")
        assert LABEL.split("\n")[0] in str(still_.get_attribute("alt"))
        seen.page.get_by_text("Play it").click()
        seen.page.wait_for_function("document.querySelector('img[data-film]').naturalWidth > 0")
        assert film.is_visible()
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 400
        assert (seen.troubles, violations(seen.page)) == ([], [])
