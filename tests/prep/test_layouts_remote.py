"""Layouts of videos in a store, with lists there or here, are those of a local folder."""

from pathlib import Path

import pytest
from layout_trees import tree, write
from store_server import Bucket

from vprep.errors import UsageError
from vprep.layouts import remote
from vprep.layouts.listing import Listing
from vprep.store import place


def facts(listing: Listing) -> object:
    rows = [(one.source, one.bytes, one.class_name, one.label, one.splits) for one in listing.entries]
    return listing.layout, listing.classes, rows, listing.missing, listing.unlisted, listing.ignored


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Videos as those of UCF101, with its lists inside."""
    root = tree(
        tmp_path / "videos", "Run/v_Run_g01_c01.avi", "Walk/v_Walk_g08_c01.avi", "Walk/.hidden.avi", "notes.pdf"
    )
    write(root / "ucfTrainTestlist" / "classInd.txt", "1 Run\n2 Walk\n")
    write(root / "ucfTrainTestlist" / "trainlist01.txt", "Run/v_Run_g01_c01.avi 1\n")
    write(root / "ucfTrainTestlist" / "testlist01.txt", "Walk/v_Walk_g08_c01.avi\nWalk/v_Walk_g09_c01.avi\n")
    return root


def test_lists_among_the_videos_are_found(videos: Path, s3_here: Bucket) -> None:
    s3_here.put_folder("in", videos)
    listing = remote.read(place(s3_here.url("in")))
    assert facts(listing) == facts(remote.read(videos))
    assert listing.layout == "ucf101"
    assert all(entry.etag for entry in listing.entries)


def test_lists_may_be_elsewhere_here_or_there(videos: Path, s3_here: Bucket) -> None:
    s3_here.put_folder("lists", videos / "ucfTrainTestlist")
    s3_here.put_folder("in/Run", videos / "Run")
    s3_here.put_folder("in/Walk", videos / "Walk")
    url, lists = s3_here.url("in"), s3_here.url("lists")
    found = [
        facts(remote.read(place(url), splits=lists)),
        facts(remote.read(place(url), splits=str(videos / "ucfTrainTestlist"))),
    ]
    (videos / "notes.pdf").unlink()
    (videos / "ucfTrainTestlist").rename(videos.parent / "elsewhere")
    assert found == [facts(remote.read(videos, splits=lists))] * 2


def test_lists_that_lie_beside_each_video_are_not_downloaded(s3_here: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_LISTS", 3)
    for number in range(4):
        s3_here.put(f"in/Run/{number}.mp4", b"x")
        s3_here.put(f"in/Run/{number}.json", b"{}")
    s3_here.seen()
    assert len(remote.read(place(s3_here.url("in"))).entries) == 4
    assert not [request for request in s3_here.seen() if "json" in request]


def test_a_csv_in_a_store_names_the_videos(tmp_path: Path, s3_here: Bucket) -> None:
    s3_here.put("labels.csv", b"path,label,split,start,end\na.mp4,jump,train,0,2.5\n")
    s3_here.put("in/a.mp4", b"x")
    listing = remote.read(place(s3_here.url("in")), labels=s3_here.url("labels.csv"))
    assert [(one.source, one.class_name, one.end) for one in listing.entries] == [("a.mp4", "jump", 2.5)]


def test_a_fault_in_a_list_names_its_place_in_the_store(s3_here: Bucket) -> None:
    s3_here.put("in/a.mp4", b"x")
    s3_here.put("in/labels.csv", b"path,label\na.mp4\n")
    with pytest.raises(UsageError, match=r"^s3://bucket-\d+/in/labels.csv, line 2: 1 fields where the header has 2"):
        remote.read(place(s3_here.url("in")))
