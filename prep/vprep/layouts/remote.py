"""Read a layout from a store: its objects are listed, and only lists of videos are downloaded."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from vprep import layouts
from vprep.errors import UsageError
from vprep.layouts.listing import Listing
from vprep.layouts.walk import LISTS_PER_FOLDER, Files, is_list, is_video, no_videos
from vprep.store import Head, Location, Store, is_url, place
from vprep.store.named import named
from vprep.store.scratch import scratch_folder

MOST_LISTS = 1000  # in folders; more of them describe a video each, and all would be downloaded


def read(
    source: Path | Location,
    *,
    layout: str = "auto",
    splits: str | None = None,
    labels: str | None = None,
    scratch: Path | None = None,
) -> Listing:
    """Return what `layouts.read` returns, of a local folder or of a store; the lists may be in a store, too."""
    if isinstance(source, Path) and not any(is_url(word or "") for word in (splits, labels)):
        return layouts.read(source, layout=layout, splits=_path(splits), labels=_path(labels))
    with scratch_folder(scratch) as folder:
        lists, classes = _local(splits, folder / "splits"), _local(labels, folder / "labels")
        if isinstance(source, Path):
            return layouts.read(source, layout=layout, splits=lists, labels=classes)
        root = folder / "source"
        with named(root, source):
            files, etags = _files(Store(source), root)
            listing = layouts.read(root, layout=layout, splits=lists, labels=classes, files=files)
    listing.entries = [replace(entry, etag=etags[entry.source]) for entry in listing.entries]
    return listing


def _path(word: str | None) -> Path | None:
    return None if word is None else Path(word)


def _files(store: Store, root: Path) -> tuple[Files, dict[str, str | None]]:
    """Return the files below a location with the etags of its videos; its lists are downloaded to `root`."""
    files, lists, etags, entries = Files(), list[Head](), {}, Counter[str]()
    for head in store.list():
        if any(part.startswith(".") for part in head.name.split("/")):
            continue
        entries[head.name.rpartition("/")[0]] += 1
        if is_video(head.name):
            files.videos[head.name], etags[head.name] = head.size, head.etag
            continue
        files.ignored += 1
        if is_list(head.name):
            lists.append(head)
    if not files.videos:
        raise UsageError(no_videos(store.location, files.ignored))
    files.videos = dict(sorted(files.videos.items()))
    files.lists = [_downloaded(store, head, root / head.name) for head in _near_the_top(lists, entries)]
    files.lists.sort(key=lambda path: (path.parent != root, path))
    return files, etags


def _near_the_top(lists: list[Head], entries: Counter[str]) -> list[Head]:
    """Return the lists in the root and in its folders, but for folders of data; where there are many, of the root."""
    found = [head for head in lists if "/" not in head.name]
    below = [head for head in lists if head.name.count("/") == 1]
    few = [head for head in below if entries[head.name.partition("/")[0]] <= LISTS_PER_FOLDER]
    return found + (few if len(few) <= MOST_LISTS else [])


def _local(word: str | None, folder: Path) -> Path | None:
    """Return a list, or a folder of lists, as a local path; what is in a store is downloaded into `folder`."""
    where = None if word is None else place(word)
    if where is None or isinstance(where, Path):
        return where
    parent = Store(where.parent)
    head = parent.head(where.name)
    if head is not None:
        return _downloaded(parent, head, folder / where.name)
    store = Store(where)
    found = [_downloaded(store, head, folder / head.name) for head in store.list() if is_list(head.name)]
    if not found:
        raise UsageError(f"no '{where}'; --splits names a list or a folder of lists, and --labels a list")
    return folder


def _downloaded(store: Store, head: Head, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    store.download(head.name, path, head.etag)
    return path
