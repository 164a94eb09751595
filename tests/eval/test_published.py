"""The published numbers: all of them, as they were printed, and found by our names."""

import pytest

from veval.results.match_published import end_of
from veval.results.published import BACKBONES, METHODS, load, plain
from vtrain.backbones import BACKBONES as NETWORKS
from vtrain.recipes import RECIPES


def test_all_published_values_are_there() -> None:
    rows = load()
    assert len(rows) == 648
    assert {row.paper: 0 for row in rows} == dict.fromkeys(("RSPNet", "ASCNet", "PRP", "Pace"), 0)


# Copied by hand from the papers' tables.
@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("paper=PRP task=retrieval method=PRP backbone=C3D dataset=UCF101", "23.2 38.1 46 55.7 68.4"),
        ("paper=PRP task=retrieval method=PRP backbone=R(2+1)D dataset=HMDB51", "8.2 25.3 36.2 51 73"),
        ("paper=ASCNet task=retrieval method=ascnet", "58.9 76.3 82.2 87.5 93.4"),
        ("paper=RSPNet task=retrieval method=RSPNet backbone=resnet3d18", "41.1 59.4 68.4 77.8 88.7"),
        ("paper=Pace task=retrieval method=Pace backbone=r3d metric=top1", "19.9 23.8 8.2 9.6"),
        ("paper=RSPNet dataset=something-something-v2 method=scratch", "42.1 45.8 51.2"),
        ("paper=PRP task=finetune method=random backbone=c3d", "62 61.8 24.7"),
        ("paper=Pace task=finetune method=Pace backbone=s3dg_pace", "87.1 52.6"),
        ("paper=PRP task=pretext", "88.3 80.1 69.7 60.1"),
    ],
)
def test_published_values_are_those_of_the_tables(words: str, values: str) -> None:
    wanted = dict(word.split("=") for word in words.split())
    names = {"method": METHODS, "backbone": BACKBONES}  # which may also be ours
    wanted = {column: plain(names.get(column, {}).get(word, word)) for column, word in wanted.items()}
    rows = [row for row in load() if all(plain(getattr(row, column)) == word for column, word in wanted.items())]
    assert [row.value for row in rows] == [float(value) for value in values.split()]


def test_our_names_of_networks_are_ours_and_those_of_the_tables_are_theirs() -> None:
    assert set(BACKBONES) <= set(NETWORKS)
    printed = {row.backbone for row in load()}
    assert set(BACKBONES.values()) <= printed


def test_each_row_of_a_table_that_a_recipe_trains_names_it() -> None:
    ends = {end_of(name) for name in RECIPES if not name.startswith(("finetune", "supervised"))}
    named = {end for row in load() for end in row.recipe.split("|") if end}
    assert named <= ends
    # No paper has a number for these.
    assert ends - named == {"tiny", "augplus", "jitter-clip", "speeds421"}


def test_what_a_recipe_says_it_gave_is_what_was_published() -> None:
    for name in ("rspnet-s3dg-k400-1000epochs", "ascnet-resnet3d18-minik200-1-4", "pace-r2plus1d-ucf101-slow"):
        recipe = RECIPES[name]()
        row = next(r for r in load() if r.own and end_of(name) in r.recipe and r.dataset == "UCF101")
        assert f"UCF101 {row.value:.2f}".rstrip("0").rstrip(".") in str(RECIPES[name].__doc__)
        assert (row.backbone, float(row.epochs)) == (BACKBONES[recipe.backbone], recipe.epochs)
