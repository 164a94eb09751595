"""A page is one file that is complete or absent, whose policy allows our own script and style, and no address."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from vprep.errors import UsageError
from vprep.page import parts
from vprep.page.document import Page, Section, save, write_page
from vprep.page.html import el


def page(**changes: object) -> Page:
    section = Section(identifier="first", title="<First>", lead="Lead.", body=el("p", "body"))
    return Page(**({"title": "<T>", "sections": [section], "data": {"rows": lambda: [1]}} | changes))  # type: ignore[arg-type]


def text(made: Page) -> str:
    pieces: list[str] = []
    write_page(made, pieces.append)
    return "".join(pieces)


def test_the_policy_allows_exactly_the_script_and_the_style_of_the_page() -> None:
    written = text(page(styles=("p { color: red }",), scripts=("let x = 1 < 2;",)))
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', written)
    for kind, content in (
        ("script", re.findall("<script>(.*?)</script>", written, re.DOTALL)),
        ("style", re.findall("<style>(.*?)</style>", written, re.DOTALL)),
    ):
        (only,) = content
        digest = base64.b64encode(hashlib.sha256(only.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in policy
    assert policy.startswith("default-src &#39;none&#39;; img-src data:;")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_page_names_no_address_outside_itself() -> None:
    written = text(page(has_films=True))
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", written) == []
    assert "://" not in written
    assert "@import" not in written
    assert "url(" not in written


def test_each_section_is_a_landmark_with_a_heading_and_an_entry_of_the_contents() -> None:
    written = text(page())
    assert '<a href="#first">&lt;First&gt;</a>' in written
    assert '<section id="first" aria-labelledby="first-title"><h2 id="first-title">&lt;First&gt;</h2>' in written
    assert written.count("<h1>") == 1
    assert 'lang="en"' in written


def test_a_page_that_fails_half_way_leaves_the_older_one(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "page.html"
    size = save(page(), out)
    before = out.read_bytes()
    assert len(before) == size

    def fails() -> object:
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        save(page(data={"rows": fails}), out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write to"):
        save(page(), tmp_path / "file" / "page.html")


def test_cells_of_a_table_are_named_and_numbers_are_marked() -> None:
    made = parts.table(
        [parts.Column("Class", is_head=True), parts.Column("%", is_number=True)], [["a", "1"]], caption="c"
    )
    section = Section(identifier="t", title="T", body=made)
    written = text(page(sections=[section]))
    assert '<th scope="row">a</th><td class="number">1</td>' in written
    assert '<div class="scroll" tabindex="0" role="group" aria-label="c">' in written
