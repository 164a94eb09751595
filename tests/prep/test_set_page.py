"""`vprep stats --html`: the page of a set, in a file and in a real browser."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Opened, browser, opened, violations

from vprep.errors import UsageError
from vprep.format import INDEX_SCHEMA
from vprep.set_page import films, page
from vprep.set_page.picked import MOST_PER_CLASS, pick
from vprep.stats import stats

MakeSet = Callable[..., Path]
SCRIPT = "<script>alert(1)</script>"
KEY = "a \"key\" with 'quotes' & <b>more</b>"


class Elements(HTMLParser):
    """Counts the elements of a page, and keeps the attributes of its videos."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.videos: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        if ("class", "video") in attrs:
            self.videos.append(dict(attrs))


@pytest.fixture(scope="module")
def hostile(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three classes with hostile names, copies in two splits, and failures of two causes."""
    videos: list[dict[str, Any]] = [
        {"key": KEY, "class_name": SCRIPT, "split1": "train", "frames": 30, "source_hash": "0" * 32},
        {"key": "copy\nof it", "class_name": SCRIPT, "split1": "test", "frames": 30, "source_hash": "0" * 32},
        {"key": "third", "class_name": "Walk", "split1": "train", "frames": 12},
        {"key": "none", "frames": 0},
    ]
    failures = [
        {
            "source": f"{SCRIPT}.mp4",
            "cause": "timeout",
            "detail": "took\x1b[2J too long",
            "key": "x",
            "shard": "000.tar",
        },
        *(
            {"source": f"{n}.avi", "cause": "no video", "detail": "", "key": f"y{n}", "shard": "000.tar"}
            for n in range(9)
        ),
    ]
    return make_set(tmp_path_factory.mktemp("a page, with blanks") / "set <i>", videos, failures)


@pytest.fixture(scope="module")
def written(hostile: Path) -> Path:
    out = hostile.parent / "page #1.html"
    page.save_page(hostile, out)
    return out


def test_the_result_has_the_counts_and_what_was_written(hostile: Path, tmp_path: Path) -> None:
    info = page.save_page(hostile, tmp_path / "new" / "page.html")
    assert info.items() >= stats(hostile).items()
    assert info["html_bytes"] == (tmp_path / "new" / "page.html").stat().st_size
    assert info["films"] == 3


def test_text_of_files_is_never_markup(written: Path) -> None:
    text = written.read_text()
    found = Elements(text)
    assert SCRIPT not in text
    assert found.names.count("script") == 2  # the page's own, and its data
    assert not {"b", "i"} & set(found.names)
    assert "\x1b" not in text
    assert [video["data-key"] for video in found.videos] == [KEY, "copy\\nof it", "third"]


def test_failures_copies_and_splits_are_shown(written: Path) -> None:
    text = written.read_text()
    assert re.findall(r"<td>(\d\.avi)", text) == [f"{number}.avi" for number in range(5)]
    assert "split1: 1 group with videos both in train and elsewhere." in text
    assert "Videos that failed, by cause" in text
    assert "split1: test" in text


def test_every_class_comes_before_the_second_video_of_any(make_set: MakeSet, tmp_path: Path) -> None:
    videos = [{"key": f"{name}{number}", "class_name": name} for name in "ab" for number in range(3)]
    folder = make_set(tmp_path / "set", [*videos, {"key": "c0"}, {"key": "d0", "class_name": "d", "frames": 0}])
    picked = pick(folder)
    assert picked.rounds() == ["a0", "b0", "c0", "a1", "b1", "a2", "b2"]
    assert picked.counts == {"a": 3, "b": 3, None: 1, "d": 1}


def test_films_play_and_keep_to_their_budget(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_set(tmp_path / "set", [{"key": f"k{number}", "frames": 20} for number in range(6)])
    keys = [f"k{number}" for number in range(6)]
    found = films.films_of(folder, keys)
    assert [base64.b64decode(film.data)[8:16] for film in found.films] == 6 * [b"WEBPVP8X"]
    monkeypatch.setattr(films, "BUDGET", sum(len(film.data) for film in found.films[:4]))
    found = films.films_of(folder, keys)
    assert (len(found.films), found.left_out) == (4, 2)


def test_videos_that_cannot_be_read_are_named(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", [{"key": "a", "frames": 9}])
    (folder / "000.tar").unlink()
    assert page.save_page(folder, tmp_path / "page.html")["films"] == 0
    assert "a could not be read; vprep verify says more" in (tmp_path / "page.html").read_text()


def test_a_set_without_videos_has_a_page(make_set: MakeSet, tmp_path: Path) -> None:
    page.save_page(make_set(tmp_path / "set", []), tmp_path / "page.html")
    assert "No video failed." in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("folder", "out", "said"),
    [
        ("set", "page.txt", "--html is 'page.txt'; it must end in .html"),
        ("no", "page.html", "no folder 'no'; a set is made with: vprep shard VIDEOS --out no"),
        ("set", "file/page.html", "cannot write to file: file exists; choose another --html"),
        ("set", "set/page.html", "--html is 'set/page.html', which is a folder; name a file"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_sentence(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, out: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_set, "set")
    Path("file").touch()
    Path("set/page.html").mkdir()
    with pytest.raises(UsageError) as error:
        page.save_page(Path(folder), Path(out))
    assert str(error.value) == said


def test_the_command_writes_the_page(
    small_set: Path, tmp_path: Path, run_vprep: Callable[..., CompletedProcess[str]]
) -> None:
    out = tmp_path / "page.html"
    done = run_vprep("stats", small_set, "--html", out, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["html"] == str(out)
    done = run_vprep("stats", small_set, "--html", out)
    assert re.fullmatch(rf"{out}: \d+\.\d kB, pictures of 3 videos out of 3; open it in a browser\n", done.stdout)


@pytest.mark.slow
def test_the_page_of_ten_thousand_videos_stays_small(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", [{"key": "a", "frames": 40}])
    (row,) = pq.read_table(folder / "index.parquet").to_pylist()
    names = ({"key": f"video{number:05}", "class_name": f"class {number % 300:03}"} for number in range(10_000))
    rows = pa.Table.from_pylist([row | name for name in names], schema=INDEX_SCHEMA)
    pq.write_table(rows, folder / "index.parquet", row_group_size=4096)
    info = page.save_page(folder, tmp_path / "page.html")
    assert (info["videos"], info["films"]) == (10_000, 400)
    assert info["html_bytes"] < 5_000_000
    text = (tmp_path / "page.html").read_text()
    assert f"400 of 10,000 videos: the first of each class in the order of the shards, at most {MOST_PER_CLASS}" in text
    assert "Sizes of the classes" in text


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def shown(chromium: Any, written: Path) -> Iterator[Opened]:  # noqa: ANN401
    with opened(chromium, written) as found:
        yield found
        assert found.troubles == []


@pytest.mark.slow
def test_the_player_opens_by_a_key_goes_on_and_closes(shown: Opened) -> None:
    shown.page.locator(".video").nth(0).focus()
    shown.page.keyboard.press("Enter")
    assert shown.page.inner_text("#player-key") == KEY
    first = shown.page.get_attribute("#player-film", "src")
    assert first.startswith("data:image/webp;base64,")
    assert shown.page.evaluate("document.getElementById('player-film').decode().then(() => true)")
    assert SCRIPT in shown.page.inner_text("#player-about")
    shown.page.keyboard.press("ArrowRight")
    assert shown.page.inner_text("#player-key") == "copy\\nof it"
    shown.page.keyboard.press("ArrowLeft")
    shown.page.keyboard.press("ArrowLeft")
    assert shown.page.inner_text("#player-key") == "third"
    shown.page.keyboard.press("Escape")
    assert not shown.page.locator("#player").is_visible()
    assert shown.page.evaluate("document.activeElement.dataset.key") == "third"


@pytest.mark.slow
def test_a_class_can_be_chosen(shown: Opened) -> None:
    shown.page.select_option("#class", label="Walk")
    assert shown.page.locator(".video:visible").count() == 1
    shown.page.locator(".video:visible").click()
    shown.page.keyboard.press("ArrowRight")
    assert shown.page.inner_text("#player-key") == "third"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_is_accessible_and_no_wider_than_the_window(
    chromium: Any, written: Path, width: int, scheme: str  # noqa: ANN401
) -> None:  # fmt: skip
    with opened(chromium, written, width=width, scheme=scheme) as found:
        assert violations(found.page) == []
        found.page.locator(".video").first.click()
        assert violations(found.page) == []
        assert found.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert found.troubles == []
