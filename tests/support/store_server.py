"""The fixture `s3`: an empty bucket of a real S3 server on loopback, with faults on demand.

    def test_x(s3: Bucket, run_vprep: RunVprep) -> None:
        s3.put("videos/a.mp4", data)
        run_vprep("shard", s3.url("videos"), "--out", s3.url("set"), env=s3.env)
        assert "set/dataset.json" in s3.names()

A store that is opened in the test's own process needs the settings in its environment: the fixture `s3_here`.

    s3.fault("refuse", "GET .*000.tar", times=2)    answers 503; see store_process.py for the kinds of faults
    s3.away(10)                                     refuses connections for ten seconds, and breaks those that are open
    s3.seen()                                       the requests since the last call, as ["GET /bucket/key", ...]
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import count
from pathlib import Path
from re import findall
from typing import Any
from urllib.parse import quote, unquote

import pytest

SECRET = "s3cr3t-KEY-of-tests/x+y"  # noqa: S105  must never be printed or written
TOKEN = "t0ken-of-a-SESSION//of-tests"  # noqa: S105  neither
KEY = "AKIATESTS"
numbers = count()


@dataclass(frozen=True, slots=True)
class Server:
    """The ports of the server: that of the proxy, that which takes orders, and that of moto itself."""

    port: int
    control: int
    direct: int

    def tell(self, **told: object) -> Any:  # noqa: ANN401  what JSON holds
        return json.loads(_sent("POST", f"http://127.0.0.1:{self.control}/", json.dumps(told).encode()))


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of its own for one test."""

    server: Server
    name: str

    @property
    def env(self) -> dict[str, str]:
        """The settings with which a command reaches the store, through the proxy."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    @property
    def http(self) -> str:
        """The bucket as a place of plain http, which anybody may read."""
        return f"http://127.0.0.1:{self.server.port}/{self.name}"

    def url(self, name: str = "") -> str:
        return f"s3://{self.name}/{name}".rstrip("/")

    def put(self, name: str, data: bytes) -> None:
        _sent("PUT", self._direct(name), data)

    def put_folder(self, name: str, folder: Path) -> None:
        """Copy the files of a local folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())

    def get(self, name: str) -> bytes:
        return _sent("GET", self._direct(name))

    def delete(self, name: str) -> None:
        _sent("DELETE", self._direct(name))

    def names(self, prefix: str = "") -> list[str]:
        """The names of the objects, up to a thousand."""
        url = f"http://127.0.0.1:{self.server.direct}/{self.name}?list-type=2&prefix={quote(prefix)}&encoding-type=url"
        return [unquote(unescape(name)) for name in findall("<Key>([^<]*)</Key>", _sent("GET", url).decode())]

    def content(self, prefix: str) -> dict[str, bytes]:
        """The bytes of all objects below a folder, by their path in it."""
        return {name.removeprefix(f"{prefix}/"): self.get(name) for name in self.names(f"{prefix}/")}

    def fault(self, kind: str, match: str = "", *, times: int = 1, seconds: float = 0) -> None:
        """Let the next `times` requests that fit `match` fail, -1 for all; this replaces the fault before."""
        self.server.tell(faults=[{"kind": kind, "match": match, "times": times, "seconds": seconds}] if kind else [])

    def away(self, seconds: float) -> None:
        """Let nothing listen for some seconds, from now on."""
        self.server.tell(away=seconds)

    def seen(self) -> list[str]:
        """The requests since the last call, with their ranges."""
        return [f"{one['request']} {one['range']}".strip() for one in self.server.tell(seen=True)]

    def _direct(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.direct}/{self.name}/{quote(name)}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """An S3 server in a process of its own, and the proxy before it."""
    pytest.importorskip("moto", reason="the S3 server of the tests is moto: pip install 'moto[server]'")
    pytest.importorskip("obstore", reason="stores are read by obstore: pip install 'playspeed[s3]'")
    argv = [sys.executable, str(Path(__file__).with_name("store_process.py"))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        yield Server(**json.loads(process.stdout.readline()))
        process.kill()


@pytest.fixture
def s3(s3_server: Server) -> Iterator[Bucket]:
    """An empty bucket; the faults of the test end with it."""
    bucket = Bucket(s3_server, f"bucket-{next(numbers)}")
    _sent("PUT", f"http://127.0.0.1:{s3_server.direct}/{bucket.name}")
    s3_server.tell(faults=[], seen=True)
    yield bucket
    s3_server.tell(faults=[])


@pytest.fixture
def s3_here(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket, with its settings in the environment of this process."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture(name="stored")
def set_in_bucket(s3: Bucket, shards: Path) -> Bucket:
    """The bucket with the set of the fixture `shards`, as s3://BUCKET/set."""
    s3.put_folder("set", shards)
    s3.seen()
    return s3


@pytest.fixture
def store_env(s3: Bucket, tmp_path: Path) -> dict[str, str]:
    """The environment of a command that reads the bucket, with a cache of its own."""
    return s3.env | {"XDG_CACHE_HOME": str(tmp_path / "xdg")}


def _sent(method: str, url: str, data: bytes | None = None) -> bytes:
    credential = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request"
    signed = {"Authorization": credential, "Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, data, signed, method=method)  # noqa: S310  loopback
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{method} {url}: {error.code} {error.read()[:200]!r}") from None
