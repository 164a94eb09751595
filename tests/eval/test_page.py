"""The page of a report: what it shows, what it leaves out and says so, and how large it becomes."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pages import HOSTILE, features, of_set, report_of, retrieval, written
from refusals import assert_said_without_torch, ends_by_words
from results_on import ucf101

from veval.page import films
from veval.page.build import write
from veval.page.choice import choose
from veval.page.embedding import embed
from veval.page.named import named
from veval.page.request import Request
from veval.results.neighbours import Query, read_neighbours
from veval.results.runs import FILE
from vprep.errors import UsageError
from vtrain.data.shard_set import ShardSet

LARGEST = 5_000_000  # bytes of a page
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


def made(folder: Path, **options: Any) -> str:  # noqa: ANN401
    """The page of a request."""
    request = Request(**options)
    out = folder / "page.html"
    assert write(request, request.read_results(), out) == out.stat().st_size
    return out.read_text()


def data_in(page: str, identifier: str) -> Any:  # noqa: ANN401
    (text,) = re.findall(f'<script type="application/json" id="{identifier}">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.fixture(scope="module")
def whole(asked: tuple[list[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of two networks' retrieval and one's fine-tuning, with a map."""
    return made(tmp_path_factory.mktemp("page"), files=asked[0], features=asked[1])


@pytest.fixture(scope="module")
def asked(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    return report_of(tmp_path_factory.mktemp("results"), shards)


def test_a_page_shows_numbers_gallery_map_classes_and_sources(whole: str) -> None:
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", whole)
    assert titles == [
        "Results",
        "Retrieval gallery",
        "Map of features",
        "By class",
        "Learning curves",
        "Protocol, recipe and provenance",
    ]
    assert whole.count('<article class="card"') == 24  # 12 queries of two networks
    assert len(data_in(whole, "film-data")) == 24  # every video of the set
    assert len(data_in(whole, "map-data")["points"]) == 28
    assert "All 12 queries are shown." in whole
    assert "4 videos are not in the shards and have no picture." in whole


def test_each_source_stands_below_its_own_title(whole: str) -> None:
    found = re.findall(r"<summary><b>(\w+).*?<span class=\"name\">([^,]*).*?<dd>([^<]*)\.json</dd>", whole)
    assert [(task, network, Path(file).name) for task, network, file in found] == [
        ("Retrieval", "Pace", "learned"),
        ("Accuracy", "Pace", "tuned"),
        ("Retrieval", "from scratch", "scratch"),
    ]


def test_published_values_have_the_digits_of_the_paper(tmp_path: Path) -> None:
    one = retrieval([("a", 0)], [("b", 0)], ["A"], keep=1)
    one["weights"]["backbone"] = "c3d"
    page = made(tmp_path, files=written(tmp_path, one=one))
    (row,) = re.findall(r'<tr class="published">.*?</tr>', page)
    assert "Pace table 4" in row
    assert re.findall(r'<td class="number">([^<]+)<', row)[0] == "20.0"


def test_pictures_of_veval_look_stand_on_the_page_as_their_files_have_them(tmp_path: Path) -> None:
    picture = np.full((8, 8, 3), 90, np.uint8)
    paths = [tmp_path / "<b>.png", tmp_path / "roi.webp", tmp_path / "at.jpg", tmp_path / "at.gif"]
    for path in paths:
        encoded = cv2.imencode(path.suffix, picture)[1] if path.suffix != ".gif" else np.frombuffer(GIF, np.uint8)
        path.write_bytes(encoded.tobytes())
    results = written(tmp_path, one=retrieval([("a", 0)], [("b", 0)], ["A"], keep=1))
    page = made(tmp_path, files=results, maps=paths)
    assert "What the networks look at</h2>" in page
    for path, kind in zip(paths, ("png", "webp", "jpeg", "gif"), strict=True):
        assert f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}" in page
    assert "drawn by veval look: &lt;b&gt;" in page


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^--maps: there is no file .*map\.png; make it with: veval look roi --out .*map\.png$"),
        (b"<svg>", r"^--maps names .*map\.png, which is no PNG, JPEG, GIF or WebP; veval look --out writes these$"),
        (b"RIFF0000WAVE", "which is no PNG, JPEG, GIF or WebP"),
        (bytes(1_300_000), r"^the pictures of --maps have 1\.3 MB, and a page holds 1\.2 MB of them: name fewer, "),
    ],
    ids=["absent", "markup", "sound", "too large"],
)
def test_what_is_no_picture_of_veval_look_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    if content is not None:
        path.write_bytes(content)
    results = written(tmp_path, one=retrieval([("a", 0)], [("b", 0)], ["A"], keep=1))
    with pytest.raises(UsageError, match=message):
        made(tmp_path, files=results, maps=[path])
    assert not (tmp_path / "page.html").exists()


def test_results_of_equal_names_in_two_folders_are_told_apart() -> None:
    one = retrieval([("a", 0)], [("b", 0)], ["A"], keep=1)
    other = one | {"weights": one["weights"] | {"method": "prp"}}
    found = named([one | {FILE: "x/r.json"}, one | {FILE: "y/r.json"}, one | {FILE: "y/s.json"}, other | {FILE: "r"}])
    assert [each.name for each in found] == [
        "Pace, R(2+1)D (x/r.json)", "Pace, R(2+1)D (y/r.json)", "Pace, R(2+1)D (s)", "PRP, R(2+1)D",
    ]  # fmt: skip


def test_names_from_files_are_text(whole: str) -> None:
    assert HOSTILE not in whole
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in whole
    assert "<img src=x" not in whole
    assert "two\\nlines\\u2028" in whole  # shown as escapes, in one line
    assert whole.count("<script") == whole.count("</script>") == 3  # films, map, and our own
    assert HOSTILE in data_in(whole, "map-data")["classes"]


def test_near_copies_and_right_neighbours_are_marked(whole: str) -> None:
    assert whole.count('<span class="tag">same frames</span>') == 1
    for sign, word in (("✓", "right"), ("✗", "wrong")):
        neighbours = re.findall(f'<li class="{word}" .*?</li>', whole)
        assert neighbours
        assert all(f'<span class="sign">{sign} </span>' in one for one in neighbours)


def test_clips_of_the_same_source_video_are_marked(tmp_path: Path) -> None:
    of_one = retrieval([("v_A_g01_c01", 0)], [("v_A_g01_c02", 0), ("v_A_g02_c01", 0)], ["A"], keep=2)
    of_one["videos"][0]["neighbours"] = [0, 1]
    page = made(tmp_path, files=written(tmp_path, one=of_one))
    assert page.count("same film</span>") == 1
    assert 'data-related=""' in page


def test_without_shards_the_page_says_why_it_has_no_pictures(tmp_path: Path) -> None:
    one = retrieval([("a", 0)], [("b", 0)], ["A"], keep=1, shards="x")
    one["data"]["shards"] = str(tmp_path / "gone")
    page = made(tmp_path, files=written(tmp_path, one=one))
    assert "Pictures are left out: the shards that the result names cannot be opened" in page
    assert "no picture</div>" in page
    assert 'id="films"' not in page  # nothing to stop
    del one["data"]["shards"]
    page = made(tmp_path, files=written(tmp_path, one=one))
    assert "Pictures are left out: the result names no shards; name them with --shards." in page


def test_pictures_come_from_the_shards_of_the_gallery(shards: Path, tmp_path: Path) -> None:
    queries, gallery, classes = of_set(shards)
    shown = retrieval(queries, gallery, classes, data={"name": "synth", "shards": str(shards), "fold": 1})
    other = ucf101("linear", top1=50.0)
    other["data"] |= {"shards": str(tmp_path / "of-another-set")}
    page = made(tmp_path, files=written(tmp_path, a_first=other, b_second=shown))
    assert "Pictures are left out" not in page
    assert len(data_in(page, "film-data")) == len(queries) + len({key for key, _ in gallery} & neighbours_of(shown))


def neighbours_of(found: dict[str, Any]) -> set[str]:
    return {found["gallery_videos"][row]["key"] for video in found["videos"] for row in video["neighbours"]}


def test_shards_that_are_named_must_open(tmp_path: Path) -> None:
    files = written(tmp_path, one=retrieval([("a", 0)], [("b", 0)], ["A"], keep=1))
    with pytest.raises(UsageError, match="nothing-here"):
        made(tmp_path, files=files, shards=str(tmp_path / "nothing-here"))
    assert not (tmp_path / "page.html").exists()


def test_a_damaged_video_is_left_out_and_counted(shards: Path, asked: tuple[list[Path], Path], tmp_path: Path) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    row = next(iter(of_set(copy)[0]))[0]
    videos = ShardSet.open(str(copy)).select()
    at = videos.keys.to_pylist().index(row)
    path = videos.paths[int(videos.shard[at])]
    data = bytearray(path.read_bytes())
    begin = int(videos.offset[at])
    data[begin : begin + 4000] = bytes(4000)
    path.write_bytes(data)
    page = made(tmp_path, files=asked[0], shards=str(copy))
    assert f"1 videos could not be read and have no picture: {row}: frame" in page


def test_a_result_without_neighbours_says_what_to_do(tmp_path: Path) -> None:
    older = ucf101("retrieval", top5=50.0) | {"videos": [{"key": "a", "label": 0, "first": 1}]}
    page = made(tmp_path, files=written(tmp_path, older=older))
    assert "lists no neighbours; make one with: veval retrieval" in page
    assert "<article" not in page


def test_the_matrices_of_two_networks_are_compared_cell_by_cell(tmp_path: Path) -> None:
    def tested(method: str, *predicted: str) -> dict[str, Any]:
        rows = [
            {"key": f"v{place}", "class": true, "named": named}
            for place, (true, named) in enumerate(zip("aabb", predicted, strict=True))
        ]
        return ucf101("test", predictions=rows) | {"weights": ucf101()["weights"] | {"method": method}}

    files = written(tmp_path, first=tested("pace", *"aabb"), second=tested("random", *"abab"))
    page = made(tmp_path, files=files)
    (part,) = re.findall(r"<summary>What is taken for what: [^<]* beside .*?</details>", page)
    assert re.findall(r">([+-]\d+)</text>", part) == ["+1", "-1", "-1", "+1"]
    assert "+2 right predictions." in part
    assert part.count('class="on shade3"') == part.count('class="off shade3"') == 1


def test_of_many_classes_some_are_shown_and_the_page_says_so(tmp_path: Path) -> None:
    rows = [{"key": f"v{place}", "class": f"class {place}", "named": f"class {place // 2}"} for place in range(1500)]
    page = made(tmp_path, files=written(tmp_path, one=ucf101("test", predictions=rows)))
    assert "1000 of 1500 classes" in page
    assert "There are too many classes for a picture of what is taken for what" in page


@pytest.mark.parametrize(
    ("hash_", "named"), [("d", ["Archery", "Bowling"]), ("of-another-set", ["class 0", "class 1"])]
)
def test_the_map_says_whose_features_it_shows_and_names_classes_only_of_their_set(
    hash_: str, named: list[str], tmp_path: Path
) -> None:
    one = retrieval([("a", 0)], [("b", 1)], ["Archery", "Bowling"], keep=1)
    one["data"]["hash"] = "d"
    weights = {"method": "prp", "backbone": "c3d", "path": "runs/<b>prp</b>/last.pt"}
    info = {"weights": weights, "data": {"hash": hash_}}
    kept = features(tmp_path / "f.parquet", [("a", 0), ("b", 1)], ["test", "train"], info=info)
    page = made(tmp_path, files=written(tmp_path, one=one), features=kept)
    assert "Features: pool5 of PRP, C3D (runs/&lt;b&gt;prp&lt;/b&gt;/last.pt)." in page
    assert data_in(page, "map-data")["classes"] == named


def test_features_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path, one=retrieval([("a", 0)], [("b", 0)], ["A"], keep=1))
    kept = features(tmp_path / "f.parquet", [("a", 0), ("b", 0)], ["test", "train"], scale=np.nan)
    with pytest.raises(UsageError, match="--features: the features of all 2 videos are not finite"):
        made(tmp_path, files=files, features=kept)


def test_films_play_at_the_speed_of_their_video_and_stay_within_a_number_of_bytes(grey: Path, tmp_path: Path) -> None:
    videos = ShardSet.open(str(grey)).select()
    found = films.make(videos, videos.keys.to_pylist(), lambda done, total: None)
    assert len(found.base64) == 9
    assert found.notes == []
    few = films.make(videos, videos.keys.to_pylist(), lambda done, total: None, most_bytes=len(found.base64[0]) + 10)
    assert 0 < sum(map(len, few.base64)) <= len(found.base64[0]) + 10
    left = 9 - len(few.base64)
    assert few.notes == [f"{left} videos have no picture, because the page would be too large."]


def test_chosen_queries_are_of_all_classes_and_from_the_worst_to_the_best() -> None:
    ranks = {label: list(range(1, 12)) for label in "ABC"}
    queries = [
        Query(key=f"{label}{rank}", label=label, clip=0, first=rank, neighbours=())
        for label, numbers in ranks.items() for rank in numbers
    ]  # fmt: skip
    sides = [{query.key: query for query in queries}]
    assert choose(sides, most_videos=9) == ["A11", "B11", "C11", "A1", "B1", "C1", "A6", "B6", "C6"]
    assert sorted(choose(sides, most_videos=1000)) == sorted(sides[0])


def test_neighbours_count_among_the_chosen_videos() -> None:
    one = retrieval([(f"q{n}", 0) for n in range(9)], [(f"g{n}", 0) for n in range(40)], ["A"], keep=5)
    queries = {query.key: query for query in read_neighbours(one).queries}
    chosen = choose([queries], most_videos=20)
    shown = {key for name in chosen for key in (name, *(near.key for near in queries[name].neighbours))}
    assert 1 < len(chosen) < 9
    assert len(shown) <= 20


def test_pca_finds_the_two_directions_of_the_largest_variance() -> None:
    rng = np.random.default_rng(0)
    array = (rng.standard_normal((200, 6)) * [9, 4, 0.1, 0.1, 0.1, 0.1] + 50).astype(np.float32)
    found = embed(array, "pca")
    centred = array - array.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(centred.T))
    for place in (0, 1):
        expected = centred @ axes[:, -1 - place]
        assert np.allclose(np.abs(found.places[:, place]), np.abs(expected), atol=1e-2)
    assert f"{values[-2:].sum() / values.sum():.0%}" in found.how


@pytest.mark.slow
def test_a_large_page_is_sampled_says_so_and_takes_bounded_memory(tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(101)]
    queries = [(f"v_q{number}", number % 101) for number in range(3783)]
    gallery = [(f"v_g{number}", number % 101) for number in range(9537)]
    files = written(tmp_path, one=retrieval(queries, gallery, classes, keep=10))
    splits = ["test"] * len(queries) + ["train"] * len(gallery)
    kept = features(tmp_path / "f.parquet", [*queries, *gallery], splits, dim=128)
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom veval.page.build import write\n"
        "from veval.page.request import Request\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "asked = Request(files=[Path(sys.argv[1])], features=Path(sys.argv[2]))\n"
        "size = write(asked, asked.read_results(), Path(sys.argv[3]))\n"
        "print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    out = tmp_path / "page.html"
    done = subprocess.run(
        [sys.executable, "-c", program, files[0], kept, out], capture_output=True, text=True, check=True
    )
    size, more = map(int, done.stdout.split())
    assert size == out.stat().st_size < LARGEST / 5
    assert more < 600_000  # kB beside what the program itself takes
    page = out.read_text()
    assert "of 3783 queries are shown: from all classes in turn" in page
    assert "2000 of 13320 videos are drawn" in page


COMMANDS: list[tuple[str, int, str]] = [
    ("report one.json --html page.pdf", 2, "--html is 'page.pdf'; it must end in .html or .htm"),
    ("report one.json --html page.html --map tsne", 2, "--map is tsne, which needs scikit-learn: pip install"),
    ("report one.json --html page.html --features gone.parquet", 2, "there is no gone.parquet"),
    ("report gone.json --html page.html", 2, "there is no gone.json"),
    ("report one.json --html folder.html", 2, "--html is 'folder.html', which is a folder; name a file"),
    ("report one.json --html one.json/page.html", 2, "cannot write to one.json: "),
    ("report one.json --shards x", 2, "--shards is about the page of pictures; add --html FILE"),
    ("report one.json --map umap", 2, "--map is about the page of pictures"),
]


def test_what_no_page_can_be_made_of_is_refused_without_torch(tmp_path: Path) -> None:
    written(tmp_path, one=retrieval([("a", 0)], [("b", 0)], ["A"], keep=1))
    (tmp_path / "folder.html").mkdir()
    for (_, code, said), end in zip(COMMANDS, ends_by_words("veval.cli", COMMANDS, tmp_path).values(), strict=True):
        assert_said_without_torch(end, code, said)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_the_command_says_how_to_open_the_page(asked: tuple[list[Path], Path], tmp_path: Path) -> None:
    out = tmp_path / "a page.html"
    argv = [sys.executable, "-m", "veval", "report", *asked[0], "--html", out, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"out": str(out), "bytes": out.stat().st_size, "address": out.as_uri()}
