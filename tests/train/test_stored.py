"""The set that a recipe expects, and what a training says when its own set differs."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vprep.errors import UsageError
from vprep.format import write_dataset
from vprep.video.ffmpeg import bundled
from vtrain.data import ShardSet
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.stored import FrameInfo, Stored, difference_note, enlarged_share
from vtrain.methods import rspnet
from vtrain.overrides import as_json, change, from_json
from vtrain.recipes import RECIPES, find, finetuning, named
from vtrain.recipes.recipe import Recipe

RunVprep = Callable[..., subprocess.CompletedProcess[str]]
MakeVideo = Callable[..., Path]

EXPECTED = "This recipe expects a set made with: vprep shard VIDEOS"


def frames(
    height: int, width: int, *, fps: float = 25, own_fps: float | None = None, stretch: float = 1, videos: int = 10
) -> FrameInfo:
    values = {"height": height, "width": width, "fps": fps, "own_fps": own_fps or fps, "stretch": stretch}
    return FrameInfo(**{name: np.full(videos, value, np.float64) for name, value in values.items()})


def note(recipe: Recipe, info: FrameInfo) -> str:
    return difference_note(recipe.stored, recipe.method.plan().looks, info)


ENLARGED = f"{enlarged_share([rspnet.RELEASED], frames(128, 171)):.0%} of the crops are smaller than 112 pixels"


def distinct(info: FrameInfo) -> Counter[tuple[float, ...]]:
    """Return height, width, fps, own fps and stretch of the videos, with their number."""
    columns = (info.height, info.width, info.fps, info.own_fps, info.stretch.round(2))
    return Counter(zip(*(column.tolist() for column in columns), strict=True))


def exactly(look: AugmentConfig, height: int, width: int) -> float:
    """Return the share of area crops with a side below the input, by summing over shares of the area and ratios."""
    area = height * width * np.linspace(*look.scale, 1001)[:, None]
    ratio = np.exp(np.linspace(*np.log(look.ratio), 1001))[None, :]
    h, w = np.sqrt(area / ratio).round(), np.sqrt(area * ratio).round()
    fits = (h <= height) & (w <= width)  # others are drawn again
    return float((np.minimum(h, w) < look.size)[fits].mean())


@pytest.mark.parametrize(
    ("size", "height", "width", "share"),
    [(112, 128, 171, 0.64), (112, 256, 341, 0.0), (112, 240, 320, 0.0), (224, 256, 341, 0.65), (224, 128, 171, 1.0)],
)
def test_the_share_of_enlarged_crops_is_that_of_the_distribution(
    size: int, height: int, width: int, share: float
) -> None:
    look = AugmentConfig(scale=rspnet.RELEASED.scale, size=size)
    assert exactly(look, height, width) == pytest.approx(share, abs=0.005)
    assert enlarged_share([look], frames(height, width)) == pytest.approx(share, abs=0.02)


def test_the_share_is_that_over_all_videos() -> None:
    both = FrameInfo.joined([frames(128, 171), frames(256, 341, videos=30)])
    assert enlarged_share([rspnet.RELEASED], both) == pytest.approx(0.16, abs=0.02)


def test_the_same_set_gives_the_same_share() -> None:
    assert enlarged_share([rspnet.RELEASED], frames(128, 171)) == enlarged_share([rspnet.RELEASED], frames(128, 171))


def test_rspnet_is_told_of_small_squeezed_frames_at_another_rate() -> None:
    said = note(find("rspnet"), frames(128, 171, own_fps=30, stretch=0.75))
    assert said == (
        f"In this set {ENLARGED} and are enlarged, "
        "100% of the videos are squeezed or stretched, and 100% of the videos are not stored at their own frame rate. "
        f"{EXPECTED} --short-side 256 --fps native --out DIR"
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (frames(256, 341, fps=29.97), ""),
        (frames(256, 455, own_fps=25.1), ""),
        (frames(240, 320), ""),
        (frames(256, 341, own_fps=30), "100% of the videos are not stored at their own frame rate"),
        (frames(256, 256, stretch=0.75), "100% of the videos are squeezed or stretched"),
        (frames(256, 342, stretch=1.006), ""),
        (frames(128, 171), f"{ENLARGED} and are enlarged"),
    ],
)
def test_rspnet_is_told_only_what_differs(found: FrameInfo, said: str) -> None:
    whole = f"In this set {said}. {EXPECTED} --short-side 256 --fps native --out DIR"
    assert note(find("rspnet"), found) == (whole if said else "")


def test_a_large_network_is_told_of_frames_smaller_than_those_of_the_authors_only() -> None:
    recipe = named("rspnet-s3dg-k400")
    assert note(recipe, frames(256, 341)) == ""  # the authors' code enlarges these 65 % of the crops, too
    assert note(recipe, frames(128, 171)).startswith("In this set 100% of the crops are smaller than 224 pixels")


def test_pace_and_prp_are_told_that_crops_of_larger_frames_show_less() -> None:
    for method, options in (("pace", "--size 128x171 --fps 25"), ("prp", "--size 128x171 --fps native")):
        assert note(find(method), frames(128, 171)) == ""
        assert note(find(method), frames(256, 341)) == (
            f"In this set crops of 112 pixels show 14% of a frame instead of 57%. {EXPECTED} {options} --out DIR"
        )


def test_squeezed_frames_are_no_difference_where_the_authors_squeeze_them() -> None:
    assert note(find("pace"), frames(128, 171, stretch=0.75)) == ""


@pytest.mark.parametrize(
    ("backbone", "wanted"), [("resnet3d18", "25.0"), ("s3dg", "25.0"), ("c3d", "native"), ("r2plus1d", "native")]
)
def test_rspnets_fine_tuning_expects_the_rate_that_its_code_resamples_to(backbone: str, wanted: str) -> None:
    recipe = finetuning("rspnet", "ucf101", backbone)
    assert str(recipe.stored.fps) == wanted
    assert str(finetuning("rspnet", "hmdb51", backbone).stored.fps) == "native"
    mixed = FrameInfo.joined([frames(256, 341), frames(256, 341, fps=29.97, videos=30)])
    rate = "In this set 75% of the videos do not have 25 fps. "
    assert note(recipe, mixed) == (rate + f"{EXPECTED} --short-side 256 --fps 25 --out DIR" if wanted == "25.0" else "")


def test_every_published_recipe_says_which_set_it_expects() -> None:
    silent = [name for name, make in RECIPES.items() if not make().stored.options]
    assert silent == [name for name in RECIPES if name.endswith("-tiny")]


def test_a_recipe_written_before_expects_nothing() -> None:
    written = as_json(find("rspnet"))
    del written["stored"]
    recipe = from_json(Recipe, written)
    assert recipe.stored == Stored()
    assert note(recipe, frames(128, 171, own_fps=30, stretch=0.75)) == ""


def test_what_is_expected_can_be_changed_and_is_checked() -> None:
    recipe = change(find("prp"), ["stored.frame_size=none", "stored.short_side=96", "stored.fps=12.5"])
    assert recipe.stored == Stored(short_side=96, fps=12.5)
    assert from_json(Recipe, json.loads(json.dumps(as_json(recipe)))) == recipe
    for wrong, message in {
        "stored.short_side=96": "stored.short_side is 96 and frame_size is set, too; one of them must be none",
        "stored.frame_size=0,5": "stored.short_side and frame_size must be at least 1 pixel",
        "stored.fps=fast": "stored.fps is 'fast'; it must be a number",
    }.items():
        with pytest.raises(UsageError) as error:
            change(find("prp"), [wrong])
        assert str(error.value) == message


# From the index of a set


@pytest.fixture(scope="module")
def wide(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 16:9 at two rates, one of them stored on its side."""
    folder = tmp_path_factory.mktemp("wide")
    for number, rate in enumerate(("25", "30000/1001", "25")):
        make_video(folder / f"{number}.mp4", size="160x90", rate=rate)
    upright = make_video(folder / "x" / "upright.mp4", "-vf", "transpose=clock", size="160x90")
    words = ["-v", "error", "-display_rotation", "90", "-i", str(upright), "-c", "copy", str(folder / "3.mp4")]
    subprocess.run([bundled(), *words], check=True)
    upright.unlink()
    return folder


def made(videos: Path, out: Path, run_vprep: RunVprep, options: str) -> ShardSet:
    done = run_vprep("shard", videos, "--out", out, "--shards", 2, *options.split())
    assert done.returncode == 0, done.stderr
    return ShardSet.open(out)


OPTIONS = sorted({make().stored.options for make in RECIPES.values()} - {""})


def test_a_set_made_with_a_recipes_options_fits_it(wide: Path, run_vprep: RunVprep, tmp_path: Path) -> None:
    assert len(OPTIONS) == 5
    sets = {words: made(wide, tmp_path / str(at), run_vprep, words).frame_info() for at, words in enumerate(OPTIONS)}
    for name in ("rspnet", "prp", "pace", "ascnet"):
        recipe = find(name)
        fitting = {words for words, found in sets.items() if not note(recipe, found)}
        assert fitting == {recipe.stored.options}
    for method, data, backbone in (("rspnet", "ucf101", "resnet3d18"), ("pace", "hmdb51", "s3dg_pace")):
        recipe = finetuning(method, data, backbone)
        assert note(recipe, sets[recipe.stored.options]) == ""


def test_a_set_of_the_default_size_is_squeezed_where_its_sources_are_wide(
    wide: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    found = made(wide, tmp_path / "set", run_vprep, "").frame_info()
    assert distinct(found) == {(128, 171, 25, 25, 0.75): 3, (128, 171, 25, 29.97, 0.75): 1}
    assert "100% of the videos are squeezed or stretched, and 25% of the videos are not" in note(find("rspnet"), found)


def test_sizes_and_rates_are_those_of_the_selected_videos(shards: Path) -> None:
    opened = ShardSet.open(shards)
    assert len(opened.frame_info()) == 30
    assert len(opened.frame_info("train", fold=2)) == len(opened.select("train", fold=2))
    some = ShardSet.open(shards / "001.tar")
    assert len(some.frame_info("test")) == len(some.select("test"))


def test_tars_of_other_tools_differ_only_in_what_is_known(foreign: Path) -> None:
    assert distinct(ShardSet.open(foreign).frame_info()) == {(24, 32, 25, 25, 1): 9}


def unknown_sizes(folder: Path) -> None:
    index = folder / "index.parquet"
    table = pq.read_table(index)
    for name in ("height", "source_fps"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.nulls(len(table), table.schema.field(name).type))
    pq.write_table(table, index)
    info: dict[str, Any] = json.loads((folder / "dataset.json").read_bytes())
    for file in info["files"]:
        file["bytes"] = (folder / file["name"]).stat().st_size
    (folder / "dataset.json").write_bytes(write_dataset(info))


def test_videos_of_unknown_size_are_left_out(copy: Path) -> None:
    unknown_sizes(copy)
    found = ShardSet.open(copy).frame_info()
    assert len(found) == 0
    assert note(find("rspnet"), found) == ""
