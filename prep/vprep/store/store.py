"""Read and write the objects of a store, through times in which it is away."""

import mmap
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vprep.atomic import atomic_write
from vprep.errors import UsageError, WorkError, about
from vprep.hashing import hash_pieces
from vprep.store.faults import ChangedError, ExistsError, MissingError, fault
from vprep.store.library import obstore
from vprep.store.location import Location
from vprep.store.retry import OF_REQUEST, Patience, tried
from vprep.text import brief, without_secrets

Result = TypeVar("Result")
PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}  # of the settings in the environment
FORGOTTEN = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "proxy_excludes")
PAGE = 1000  # objects of a listing that are asked for at once
PIECE = 8 << 20  # bytes of one request: a connection that is cut costs no more than these
MOST_UPLOADS = 4  # at once in one process; many more time out
MOST_OBJECT = 5_000_000_000  # bytes that a store takes in one request, which is what a first-wins write needs
READS = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "10min"}
WRITES = {"connect_timeout": "5s", "timeout": "10min"}  # an answer comes only when all bytes are there
SMALL_WRITES = WRITES | {"timeout": "1min"}  # up to PIECE
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")


@dataclass(frozen=True, slots=True)
class Head:
    """An object without its content."""

    name: str
    """Its path below the location of the store that was asked."""

    size: int
    etag: str | None
    """What the store changes with the content; some servers of plain http have none."""


@dataclass(frozen=True, slots=True)
class Store:
    """The objects below a location. It opens nothing itself, so it may be sent to other processes, or be forked."""

    location: Location
    patience: Patience = field(default_factory=Patience)

    def head(self, name: str) -> Head | None:
        """Return size and etag of an object; None when there is none."""
        try:
            found = self._tried(name, lambda library, handle: library.head(handle, name))
        except MissingError:
            return None
        return Head(name, found["size"], found["e_tag"])

    def read(self, name: str, etag: str | None = None) -> bytes:
        """Return the content of an object; with `etag`, refuse one that was overwritten since."""
        return b"".join(self.stream(name, etag))

    def read_range(self, name: str, start: int, end: int, etag: str | None = None) -> bytes:
        """Return the bytes from `start` to before `end`; an object that ends before gives an error."""
        if start >= end:
            return b""
        options: dict[str, Any] = {"range": (start, end)} | ({"if_match": etag} if etag else {})
        data = self._tried(name, lambda library, handle: bytes(library.get(handle, name, options=options).bytes()))
        if len(data) != end - start:
            raise ChangedError(f"{self.location / name} ends before byte {end}; it changed, or is not complete")
        return data

    def stream(self, name: str, etag: str | None = None) -> Iterator[bytes]:
        """Yield the content of an object in pieces, all of them of one version."""
        yield from self._pieces(self._known(name, etag))

    def download(self, name: str, path: Path, etag: str | None = None) -> Head:
        """Write an object to a local file, which is complete or absent; return what was written."""
        head = self._known(name, etag)
        with atomic_write(path) as file:
            for piece in self._pieces(head):
                file.write(piece)
        return head

    def hash(self, name: str) -> str:
        """Return the XXH3 of an object's content, as `vprep.hashing` computes it for a file."""
        return hash_pieces(self.stream(name))

    def put(self, name: str, data: bytes | Path, *, create: bool = False) -> bool:
        """Write an object, complete or not at all, and return True.

        With `create`, the first writer wins, and the others get False. So does the first one itself when its
        connection broke after the store had taken the object: ask what is there, not who has written it.
        """
        content = data if isinstance(data, bytes) else _mapped(data)
        if create and len(content) > MOST_OBJECT:
            raise WorkError(
                f"{self.location / name} would have {len(content)} bytes, and a store takes {MOST_OBJECT} at once; "
                "use more --shards, or a lower --shard-mb"
            )
        mode = "create" if create else "overwrite"
        limit = {"chunk_size": PIECE, "max_concurrency": MOST_UPLOADS}
        try:
            with _uploads(os.getpid()):
                self._tried(
                    name,
                    lambda library, handle: library.put(handle, name, content, mode=mode, **limit),
                    SMALL_WRITES if len(content) <= PIECE else WRITES,
                )
        except ExistsError:
            return False
        return True

    def list(self, below: str = "") -> Iterator[Head]:
        """Yield the objects in the folder `below`, at any depth, as the store names them, page by page."""
        if not self.location.is_listed:
            raise UsageError(
                f"{self.location} cannot be listed, as {self.location.scheme} has no way to; name a bucket"
            )
        pages = _Pages(below)
        while page := self._tried(below, pages.next):
            yield from (head for head in page if head.name)  # without one is what some tools put for a folder

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        self._tried(name, lambda library, handle: library.delete(handle, [name]))

    def _known(self, name: str, etag: str | None) -> Head:
        """Return an object's size and etag; refuse one that is not there, or has another etag than `etag`."""
        head = self.head(name)
        if head is None:
            raise MissingError(f"{self.location / name} does not exist")
        if etag is not None and head.etag != etag:
            raise ChangedError(f"{self.location / name} changed; run the same command again")
        return head

    def _pieces(self, head: Head) -> Iterator[bytes]:
        for start in range(0, head.size, PIECE):
            yield self.read_range(head.name, start, min(start + PIECE, head.size), head.etag)

    def _tried(
        self, name: str, act: Callable[[ModuleType, Any], Result], options: dict[str, Any] | None = None
    ) -> Result:
        """Return what `act` returns for obstore and the open store, tried again while the store is away."""
        where = self.location / name

        def once() -> Result:
            return act(obstore(), _opened(os.getpid(), self.location, tuple((options or READS).items()), _keys()))

        return tried(once, where, self.patience)


class _Pages:
    """A listing page by page, which goes on behind the last name that it gave when a page has failed."""

    def __init__(self, below: str) -> None:
        self._below = below
        self._last: str | None = None
        self._stream: Iterator[list[dict[str, Any]]] | None = None

    def next(self, library: ModuleType, handle: Any) -> list[Head]:  # noqa: ANN401  obstore's
        """Return the next objects; none at the end."""
        if self._stream is None:
            self._stream = iter(library.list(handle, self._below or None, offset=self._last, chunk_size=PAGE))
        stream, self._stream = self._stream, None
        page = [Head(found["path"], found["size"], found["e_tag"]) for found in next(stream, [])]
        self._stream, self._last = stream, page[-1].name if page else self._last
        return page


def _mapped(path: Path) -> bytes | mmap.mmap:
    """Return the content of a file, which the system reads as it is sent."""
    with about(path), path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""


def _keys() -> tuple[tuple[str, str], ...]:
    """Return the settings of stores in the environment: when keys are renewed there, a store is opened anew."""
    return tuple((name, value) for name, value in os.environ.items() if name.startswith(tuple(PREFIXES.values())))


@lru_cache(maxsize=64)
def _opened(process: int, location: Location, options: tuple[tuple[str, str], ...], keys: object) -> Any:  # noqa: ANN401
    """Return a store that is open in this process, with the settings that obstore reads from the environment."""
    _refuse_endpoint()
    client = {**dict(options), **_client_settings(location)}
    try:
        return obstore().store.from_url(location.address, client_options=client, retry_config=OF_REQUEST)
    except Exception as error:  # obstore's, about the settings
        raise fault(error, location) from None


def _refuse_endpoint() -> None:
    """Refuse an address that is none, with which obstore would end the process."""
    for name in ENDPOINTS:
        value = os.environ.get(name, "")
        if value and not re.match(r"https?://[^/\s]+(/\S*)?$", value):
            raise UsageError(f"{name} is {brief(without_secrets(value))!r}; it must begin with https:// or http://")


def _client_settings(location: Location) -> dict[str, str]:
    """Return those settings of connections in the environment that obstore forgets when it is given others."""
    named = {name: os.environ.get(f"{PREFIXES.get(location.scheme, '')}{name.upper()}") for name in FORGOTTEN}
    named["allow_http"] = "true" if location.scheme == "http" else named["allow_http"]
    return {name: value for name, value in named.items() if value}


@lru_cache(maxsize=1)
def _uploads(process: int) -> threading.BoundedSemaphore:
    """Return what bounds the uploads of this process; one that was forked has its own."""
    return threading.BoundedSemaphore(MOST_UPLOADS)
