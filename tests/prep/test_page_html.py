"""Text is text: no name from a file becomes markup, and the page's policy holds for everything that stands in it."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprep.page.html import Verbatim, el, json_data, text_of

HOSTILE = ["<script>alert(1)</script>", "\"'>\n<img src=x onerror=alert(1)>", "</script>", "]]>", "\u2028&amp;", "<!--"]


class Read(HTMLParser):
    """What a reader of HTML finds: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_in_elements_and_attributes(text: str) -> None:
    read = Read(text_of(el("p", text, title=text)))
    assert read.elements == [("p", {"title": text})]
    assert read.text == text


@given(st.text())
def test_any_text_is_the_same_for_a_reader_of_html_and_of_xml(text: str) -> None:
    written = text_of(el("p", text, title=text))
    assert written.count("<") == 2
    # As HTML and XML demand: no control characters, and a carriage return that is read as a line's end.
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text).replace("\r\n", "\n")
    assert ElementTree.fromstring(written).text in (kept.replace("\r", "\n"), None)  # noqa: S314  our own text


def test_half_a_character_is_replaced_so_that_the_page_can_be_written() -> None:
    assert text_of(el("p", "a\ud800b\x00c")).encode() == "<p>a\ufffdb\ufffdc</p>".encode()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("onclick", "alert(1)", "takes no 'onclick'"),
        ("OnClick", "alert(1)", "takes no 'OnClick'"),
        ("style", "color: red", "takes no 'style'"),
        ("href", "javascript:alert(1)", "the href of an element is 'javascript:alert(1)'"),
        ("src", "http://example.org/x.png", "it must be in the page"),
        ("src", "data:image/svg+xml;base64,AAAA", "it must be in the page"),
        ("a b", "x", "'a b' is no name"),
        ("a>b", "x", "'a>b' is no name"),
    ],
)
def test_what_could_run_or_load_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        el("a", **{name: value})
    assert said in str(refused.value)


def test_a_script_holds_only_our_own_text() -> None:
    with pytest.raises(ValueError):
        el("script", "alert(1)")
    with pytest.raises(ValueError):
        Verbatim("x </SCRIPT> y")
    assert text_of(el("script", Verbatim("1 < 2"))) == "<script>1 < 2</script>"


@pytest.mark.parametrize("text", HOSTILE)
def test_data_is_the_same_after_its_way_through_the_page(text: str) -> None:
    written = text_of(json_data("rows", {text: [text, 1, None]}))
    (content,) = re.findall('<script type="application/json" id="rows">(.*)</script>', written, re.DOTALL)
    assert not set("<>&\u2028") & set(content)
    assert json.loads(content) == {text: [text, 1, None]}


def test_numbers_that_json_has_no_word_for_are_refused() -> None:
    with pytest.raises(ValueError):
        json_data("rows", [float("nan")])


def test_attributes_are_words_numbers_or_absent() -> None:
    made = el("input", type="text", tabindex=0, required=True, hidden=False, title=None, data_key_="k", max=0.5)
    assert text_of(made) == '<input type="text" tabindex="0" required="" data-key="k" max="0.5">'


def test_children_are_read_only_when_the_page_is_written() -> None:
    read = []

    def rows() -> Iterator[str]:
        for number in range(3):
            read.append(number)
            yield str(number)

    made = el("p", rows(), None, ["a", ["b"]])
    assert read == []
    assert text_of(made) == "<p>012ab</p>"
