"""Text for people: safe to print, so that no name in it commands the terminal, short, and with units."""

import json
import re

# Control characters, bytes that are not UTF-8, and marks that reverse the direction of the text.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_URL = re.compile(r"""([A-Za-z][A-Za-z0-9+.-]*://)([^\s'"<>]*)""")
BRIEF = 200  # characters of a stranger's text in a message


def printable(text: str) -> str:
    """Return `text` with control characters as escapes such as `\\x1b`; lines and tabs stay."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return `text` as a single printable line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def brief(text: str) -> str:
    """Return the beginning of a stranger's text as a single printable line."""
    return one_line(text[:BRIEF])


def json_line(value: object) -> str:
    """Return a value as one line of JSON without control characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def without_secrets(text: str) -> str:
    """Return `text` in which no URL has a user, a password or a query."""
    return _URL.sub(lambda found: found[1] + _place_of(found[2]), text)


def _place_of(rest: str) -> str:
    user, at, place = rest.rpartition("@")
    # A key may have a slash; a folder may have an @.
    bare = place if at and (":" in user or "/" not in user) else rest
    return re.split("[?#]", bare)[0]


def shortened(text: str, most: int = 2000) -> str:
    """Return `text` with its middle left out when it is longer than a message can be, as with a name of megabytes."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def byte_size(count: float) -> str:
    """Return a number of bytes with its unit, as in 2.4 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} PB" if count < 1e6 else f"{count:.1e} PB"
