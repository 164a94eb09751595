"""Places of a store: `s3://bucket/folder` and the like. None of them ever holds a password or a key."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import quote

from vprep.errors import UsageError, refuse_secrets
from vprep.text import brief

SCHEMES = ("s3", "gs", "az", "http", "https")
LISTED = ("s3", "gs", "az")  # those that tell what they hold, and take new objects
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Location:
    """A folder, or an object, of a store. It is safe to print: it has neither credentials nor a query."""

    scheme: str
    host: str
    """Name of the bucket or container; of http the name and port of the server."""

    path: str = ""
    """The path below it without slashes at its ends; empty for all of it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that a URL names; refuse one with credentials or a query, without repeating them."""
        refuse_secrets([text])
        found = _URL.fullmatch(text)
        scheme = found[1].lower() if found else ""
        if found is None or scheme not in SCHEMES:
            raise UsageError(f"'{brief(text)}' is no URL of a store; it must begin with {_beginnings()}")
        host, _, path = found[2].partition("/")
        parts = [part for part in path.split("/") if part]
        if not host or {".", ".."} & set(parts) or not f"{host}{path}".isprintable():
            raise UsageError(f"the URL {brief(text)} names no place; it must be {scheme}://{_host_word(scheme)}/folder")
        return cls(scheme, host, "/".join(parts))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}".rstrip("/")

    def __truediv__(self, name: str) -> Self:
        return replace(self, path=f"{self.path}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last part of the path; that of the bucket when there is none."""
        return self.path.rpartition("/")[2] or self.host

    @property
    def parent(self) -> Self:
        """The folder that it lies in."""
        return replace(self, path=self.path.rpartition("/")[0])

    @property
    def is_listed(self) -> bool:
        """Whether the store can say what it holds, and takes new objects; plain http does neither."""
        return self.scheme in LISTED

    @property
    def address(self) -> str:
        """The URL as obstore reads it, in which `%`, `?` and `#` of a name have their escapes."""
        path = self.path if self.scheme in ("http", "https") else quote(self.path)
        return f"{self.scheme}://{self.host}/{path}"


def is_url(text: str) -> bool:
    """Return whether a text names a place of a store, or tries to, rather than a local path."""
    return _URL.fullmatch(text) is not None


def place(text: str | Path | Location) -> Path | Location:
    """Return the place that a user names: a local path, or the location of a URL."""
    if isinstance(text, str) and (half := re.match(r"(s3|gs|az|https?):/*([^/].*)", text)) and "://" not in text:
        raise UsageError(
            f"'{brief(text)}' is no URL; write {half[1]}://{brief(half[2])}, or ./{brief(text)} for a folder"
        )
    return Location.parse(text) if isinstance(text, str) and is_url(text) else _as_path(text)


def _as_path(text: str | Path | Location) -> Path | Location:
    return Path(text) if isinstance(text, str) else text


def _beginnings() -> str:
    return ", ".join(f"{scheme}://" for scheme in SCHEMES)


def _host_word(scheme: str) -> str:
    return "server" if scheme in ("http", "https") else "bucket"
