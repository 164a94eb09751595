"""Results beside published numbers: never a number of another protocol; what differs is said in words."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_of_prp import films_of, made, scratch, videos_of

from veval.results import result
from veval.results.match_published import compare
from veval.results.published import load
from veval.results.report import as_dict, of_results, report, shown_by
from vprep.errors import UsageError

Result = dict[str, Any]


def places(one: Result, metric: str = "top1", folds: str | None = None) -> list[tuple[float, str]]:
    return [(row.value, row.place) for row in compare([one], metric, folds).rows]


def test_a_number_stands_beside_that_of_the_same_protocol() -> None:
    assert places(made()) == [(23.2, "PRP table 4")]
    assert places(made(), "top50") == [(68.4, "PRP table 4")]
    # Two tables, of PRP and of Pace, have the same untrained networks.
    assert places(scratch()) == [(16.7, "PRP table 4"), (16.7, "Pace table 4")]


@pytest.mark.parametrize(
    ("one", "differs"),
    [
        (made(data={"name": "k400"}), ["pre-trained on: UCF101 there, k400 here"]),
        (made(data=None), ["pre-trained on: UCF101 there, not said here"]),
        (made(on_fold=2), ["folds: 1 there, 2 here"]),
        (made(on_split="all"), ["folds: 1 there, 1, split all here"]),
        (made(on_subset="few.txt"), ["folds: 1 there, a subset of train,test here"]),
        (made(protocol={"clips": 1, "size": 64}), ["pixels: 112 there, 64 here", "clips: 10 there, 1 here"]),
        (made(protocol={"pool": "gap"}), ["pooled by: pool5 there, gap here"]),
        (made(protocol={"level": None}), ["level: video there, not said here"]),
        (made(recipe="prp-c3d-ucf101-gp-r4"), ["recipe: main or paper there, gp-r4 here"]),
        (made(epochs=3), ["epochs of pre-training: 300 there, 3 here"]),
        # A run of which nobody knows how long it was; its recipe says what was meant, not what was done.
        (made(epochs=None), ["epochs of pre-training: 300 there, not said here"]),
    ],
)
def test_a_number_of_another_protocol_is_not_compared_and_the_differences_are_listed(
    one: Result, differs: list[str]
) -> None:
    answer = compare([one], "top1")
    assert answer.rows == []
    assert answer.nearest is not None
    assert (answer.nearest.value, answer.differs) == (23.2, differs)


def test_ten_crops_of_which_six_differ_do_not_stand_beside_ten() -> None:
    def crops(crop_size: int | str) -> Result:
        clip = {"frames": 32, "size": 128, "crop": "ten", "crop_size": crop_size}
        ascnet = {"method": "ascnet", "recipe": "ascnet-s3dg-k400", "backbone": "s3dg", "epochs": 200}
        return made("finetune", clip, data={"name": "Kinetics-400"}, **ascnet)

    assert places(crops(112)) == [(87.31, "ASCNet table 3")]
    answer = compare([crops("largest")], "top1")  # which no version computes any more
    assert (answer.rows, answer.differs) == ([], ["crop: ten there, six views here"])


def test_results_of_other_rules_for_placing_clips_are_not_averaged() -> None:
    older, newer = (
        made(top1=top1, seed=seed, protocol=more) for seed, top1, more in ((0, 20.0, {}), (1, 22.0, {"revision": 2}))
    )
    assert [line.value for line in of_results([older, newer]).lines] == [20.0, 22.0]


def test_for_the_authors_own_weights_unknown_columns_are_listed() -> None:
    answer = compare([made(recipe=None, epochs=None, step=None)], "top1")
    assert [row.value for row in answer.rows] == [23.2]
    assert answer.unknown == ["recipe", "epochs of pre-training"]


def test_the_nearest_has_the_same_method_before_all_else() -> None:
    one = made(backbone="resnet3d18", data={"name": "Kinetics-400"})
    answer = compare([one], "top1")
    assert answer.nearest is not None
    assert (answer.nearest.method, answer.nearest.dataset) == ("PRP", "UCF101")
    assert "backbone: C3D there, 3D ResNet-18 here" in answer.differs


def test_no_paper_has_linear_classification() -> None:
    answer = compare([made("linear")], "top1")
    assert (answer.rows, answer.nearest, answer.differs) == ([], None, ["no paper has linear"])


def test_a_fine_tuned_network_does_not_say_what_came_before() -> None:
    answer = compare([made("test", method="supervised")], "top1")
    assert answer.differs == ["the result does not say what came before the fine-tuning"]


def test_weights_that_were_trained_on_labels_stand_beside_those_of_the_papers() -> None:
    row = {"method": "supervised", "recipe": "supervised-resnet3d18-k400", "backbone": "resnet3d18"}
    on_labels = made("finetune", data={"name": "k400"}, epochs=200, on_name="SSv2", **row)
    assert places(on_labels) == [(43.7, "RSPNet table 3")]


def test_a_number_whose_paper_does_not_say_what_came_before_agrees_with_no_result() -> None:
    """ASCNet's table 5: section 4.5 does not say which data its network was pre-trained on."""
    for data in ("k400", "minik200"):
        row = {"method": "ascnet", "recipe": f"ascnet-resnet3d18-{data}", "backbone": "resnet3d18", "epochs": 200}
        one = made(data={"name": data}, protocol={"pool": "gap", "pools": "gap"}, **row)
        answer = compare([one], "top1")
        assert answer.rows == []
        assert answer.nearest is not None
        assert (answer.nearest.value, answer.nearest.place) == (58.9, "ASCNet table 5")
        assert answer.differs == [f"pre-trained on: not said there, {data} here"]
        (line, *_) = of_results([one]).lines
        assert line.difference is None
        assert "the paper does not say which data the network was pre-trained on" in " ".join(line.notes)


@pytest.mark.parametrize("pool", ["pool5", "gap"])
def test_paces_p5_is_either_of_its_two_readings(pool: str) -> None:
    row = {"method": "pace", "recipe": "pace-c3d-ucf101", "epochs": 18}
    assert places(made(protocol={"pool": pool, "pools": pool}, **row)) == [(20.0, "Pace table 4")]


def test_an_ablation_is_found_by_the_end_of_its_recipe() -> None:
    row = {"method": "ascnet", "backbone": "resnet3d18", "data": {"name": "minik200"}, "epochs": 200}
    assert places(made("finetune", recipe="ascnet-resnet3d18-minik200-1-4", **row)) == [(70.5, "ASCNet table 1c")]
    main = {value for value, _ in places(made("finetune", recipe="ascnet-resnet3d18-minik200", **row))}
    assert main == {72.16}


def test_settings_that_a_paper_does_not_state_may_differ() -> None:
    # RSPNet's text says neither clips nor fusion of its fine-tuned networks.
    row = {"method": "rspnet", "recipe": "rspnet-c3d-k400", "data": {"name": "k400"}, "epochs": 200}
    one = made("finetune", {"clips": 3, "fusion": "logits"}, **row)
    assert places(one) == [(76.7, "RSPNet table 2"), (76.71, "RSPNet README")]


def test_three_folds_together_stand_beside_the_mean_of_three_splits() -> None:
    tops = {1: 70.0, 2: 66.0, 3: 68.0}
    files = [made("finetune", on_fold=fold, top1=top) for fold, top in tops.items()]
    (line,) = of_results(files, "averaged").lines
    assert (line.value, line.fold, line.over) == (68.0, "1,2,3", "3 folds")
    assert line.deviation == pytest.approx(2)
    assert line.published == [{"value": 69.1, "place": "PRP table 3"}]
    assert line.difference == pytest.approx(-1.1)
    apart = of_results(files).lines
    assert [line.fold for line in apart] == ["1", "2", "3"]
    assert apart[0].published == [{"value": 70.9, "place": "PRP table 2"}]  # which is of split 1
    assert apart[1].published == []


def test_two_folds_of_three_are_not_the_mean_of_three() -> None:
    (line,) = of_results([made("finetune", on_fold=1), made("finetune", on_fold=3)], "averaged").lines
    assert line.published == []
    assert line.notes[0] == "folds: 1 there, 1,3 here"


def test_several_seeds_are_one_line_with_their_deviation() -> None:
    tops = [21.0, 24.0, 27.0]
    files = [made(seed=seed, hash=f"{seed}" * 16, top1=top) for seed, top in enumerate(tops)]
    (line,) = of_results([*files, made(seed=0, recipe="prp-c3d-ucf101-paper", top1=30.0)]).lines[:1]
    assert (line.value, line.over, line.weights) == (24.0, "3 seeds", "00000000, 11111111, 22222222")
    assert line.deviation == pytest.approx(3)  # of 21, 24 and 27: sqrt((9 + 0 + 9) / 2)
    assert line.interval is None
    assert line.difference == pytest.approx(0.8)
    assert len(of_results([*files, made(seed=0, recipe="prp-c3d-ucf101-paper", top1=30.0)]).lines) == 2


def test_the_best_epochs_of_several_seeds_are_one_line_and_last_epochs_another() -> None:
    best = [made(seed=seed, top1=20.0 + seed, kept="held_out_loss", kept_step=1000 + seed) for seed in range(3)]
    lines = of_results([*best, made(top1=10.0)]).lines
    assert [(line.over, line.value) for line in lines] == [("3 seeds", 21.0), ("", 10.0)]
    assert lines[0].published == of_results([made()]).lines[0].published != []


def test_seeds_and_folds_together_deviate_by_seed() -> None:
    tops = {(0, 1): 60.0, (0, 2): 70.0, (1, 1): 62.0, (1, 2): 76.0}
    files = [made("finetune", seed=seed, on_fold=fold, top1=top) for (seed, fold), top in tops.items()]
    (line,) = of_results(files, "averaged").lines
    assert (line.value, line.over) == (67.0, "2 seeds, 2 folds")
    assert line.deviation == pytest.approx(8**0.5)  # the means of the seeds are 65 and 69


def test_the_seeds_of_fine_tuning_count_too() -> None:
    files = [made("finetune", fine_tuned={"seed": seed}, top1=70.0 + seed) for seed in (0, 1)]
    assert [(line.value, line.over) for line in of_results(files).lines] == [(70.5, "2 seeds")]


def test_the_same_seed_twice_is_not_averaged() -> None:
    assert [line.value for line in of_results([made(top1=20.0), made(top1=22.0)]).lines] == [20.0, 22.0]


def test_the_same_measurement_twice_counts_once() -> None:
    seeds = [scratch("finetune", seed=seed, hash=str(seed), top1=40.0 + seed) for seed in (0, 1, 2)]
    found = of_results([made("finetune", top1=50.0), *seeds, *seeds])
    assert [(line.value, line.over) for line in found.lines] == [(50.0, ""), (41.0, "3 seeds")]
    (one,) = found.against
    assert (one.scratch, one.points, one.notes) == (41.0, 9.0, ["no interval: the results do not list each video"])


def test_an_older_result_with_the_hash_of_a_file_counts_once_with_that_of_the_same_tensors() -> None:
    older = made(hash="of the file", videos=videos_of("10110"))
    newer = made(hash="of the tensors", hash_of="tensors", videos=videos_of("10110"))
    (run,) = of_results([older, newer]).runs
    assert [source.weights_hash for source in run.sources] == ["of the tensors"]
    # Another outcome, no list of videos, and another training are no repetition.
    for other in (older | {"videos": videos_of("01110")}, made(hash="of the file")):
        assert len(of_results([other, newer]).runs) == 2
    (run,) = of_results([made(hash="of the file", seed=1, videos=videos_of("10110")), newer]).runs
    assert run.over == "2 seeds"
    assert len(of_results([made(hash="of the file"), made(hash="of the tensors", hash_of="tensors")]).runs) == 2


def test_of_several_groups_from_scratch_that_with_most_seeds_is_compared_and_a_note_says_so() -> None:
    seeds = [scratch(seed=seed, hash=str(seed), top1=40.0 + seed) for seed in (0, 1)]
    other = scratch(seed=0, hash="0", top1=10.0, protocol={"name": "prp"})
    (one,) = of_results([made(top1=50.0), other, *seeds]).against
    assert (one.scratch, one.notes[-1]) == (40.5, "further networks from scratch that fit, with other numbers: 1")


def test_retrieval_has_a_line_for_each_k() -> None:
    lines = of_results([made(top50=70.0, top5=40.0)]).lines
    assert [(line.metric, line.value) for line in lines] == [("top1", 20.0), ("top5", 40.0), ("top50", 70.0)]
    assert [line.published[0]["value"] for line in lines] == [23.2, 38.1, 68.4]


def test_each_pool_is_a_line_of_its_own_beside_its_own_number() -> None:
    both = made(protocol={"pools": "gap,pool5", "pool": "gap"}, pools={"pool5": {"top1": 25.0, "intervals": {}}})
    first, second = of_results([both]).lines
    assert (first.value, first.protocol, first.published) == (20.0, "vcop 10x16x112 gap video", [])
    assert (second.value, second.protocol, second.difference) == (
        25.0,
        "vcop 10x16x112 pool5 video",
        pytest.approx(1.8),
    )


def test_few_videos_chosen_by_several_seeds_are_one_line() -> None:
    files = [made("knn", {"few": 5, "few_seed": seed}, top1=30.0 + seed) for seed in (0, 1, 2)]
    (line,) = of_results(files).lines
    assert (line.value, line.over, line.protocol) == (31.0, "3 seeds", "pace 10x16x112 softmax few 5")
    assert len(of_results([*files, made("knn", {"few": 9, "few_seed": 0})]).lines) == 2


def test_the_interval_of_a_gain_is_over_films_where_they_are_known_and_says_so() -> None:
    gained, lost = films_of("1" * 20 + "0" * 20), films_of("1" * 12 + "0" * 28)
    pair = [made(top1=50.0, videos=gained), scratch(top1=30.0, videos=lost)]
    (over_films,), (over_videos,) = of_results(pair).against, of_results(pair, over="videos").against
    assert (over_films.bootstrap, over_videos.bootstrap) == ("groups", "videos")
    assert over_films.interval is not None
    assert over_videos.interval is not None
    assert np.diff(over_films.interval) > 1.2 * np.diff(over_videos.interval)  # sqrt(2) for films of two equal clips
    assert over_films.notes == ["the interval is over groups: clips of one film are drawn together"]
    assert over_videos.notes == []


def test_an_interval_is_as_it_was_written_or_over_what_the_user_says() -> None:
    one = made(top1=50.0, videos=films_of("1" * 20 + "0" * 20), intervals={"top1": [40.0, 60.0]})
    (line,) = of_results([one]).lines
    assert (line.interval, line.bootstrap) == ((40.0, 60.0), "videos")  # of a version that drew videos only
    (line,) = of_results([one | {"bootstrap": "groups"}]).lines
    assert (line.bootstrap, line.notes[-1][:31]) == ("groups", "the interval is over groups: cl")
    (wide,), (narrow,) = of_results([one], over="groups").lines, of_results([one], over="videos").lines
    assert wide.interval is not None
    assert narrow.interval is not None
    assert np.diff(wide.interval) > 1.2 * np.diff(narrow.interval)


def test_the_gain_of_a_second_pool_has_an_interval() -> None:
    pools = {"pool5": {"top1": 75.0, "intervals": {}}}
    both = {"protocol": {"pools": "gap,pool5", "pool": "gap"}, "pools": pools}
    ours = made(top1=50.0, videos=films_of("1" * 20 + "0" * 20, pools={"pool5": 1}), **both)
    theirs = scratch(top1=30.0, videos=films_of("1" * 12 + "0" * 28, pools={"pool5": 0}), **both)
    first, second = of_results([ours, theirs]).against
    assert (first.interval is not None, first.bootstrap) == (True, "groups")
    assert (second.protocol, second.interval) == ("vcop 10x16x112 pool5 video", (100.0, 100.0))
    older = [one | {"videos": videos_of("10")} for one in (ours, theirs)]
    assert of_results(older).against[1].notes[0] == "no interval: the results do not list each video"


@pytest.mark.parametrize(
    ("interval", "word"), [((0.1, 9.0), "better"), ((-4.0, -0.1), "worse"), ((-0.1, 9.0), "neither"), (None, "-")]
)
def test_only_an_interval_without_zero_shows_a_gain_from_pretraining(
    interval: tuple[float, float] | None, word: str
) -> None:
    assert shown_by(interval) == word


def test_pretraining_is_compared_with_the_network_from_scratch() -> None:
    # Four of twenty videos are gained, and none is lost.
    found = of_results(
        [
            made(top1=50.0, videos=videos_of("1" * 10 + "0" * 10)),
            scratch(top1=30.0, videos=videos_of("1" * 6 + "0" * 14)),
        ]
    )
    (one,) = found.against
    assert (one.method, one.value, one.scratch, one.points) == ("PRP", 50.0, 30.0, 20.0)
    assert one.interval is not None
    # Standard error of 4 of 20: 100 sqrt(0.2 * 0.8 / 20) = 8.9 points.
    assert one.interval[0] == pytest.approx(20 - 1.96 * 8.9, abs=4)
    assert one.interval[1] == pytest.approx(20 + 1.96 * 8.9, abs=4)


def test_the_interval_of_a_gain_includes_the_differences_between_seeds() -> None:
    untrained = [scratch(top1=50.0, seed=seed, videos=videos_of("1" * 100 + "0" * 100)) for seed in (0, 1)]
    corrects = (110, 110), (70, 150)
    for (low, high), certain in zip(corrects, (True, False), strict=True):
        pair = [
            made(top1=correct / 2, seed=seed, videos=videos_of("1" * correct + "0" * (200 - correct)))
            for seed, correct in enumerate((low, high))
        ]
        (one,) = of_results([*pair, *untrained]).against
        assert (one.points, one.interval is not None) == (5.0, True)
        assert (shown_by(one.interval) == "better") == certain


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({}, {}, "the results do not list each video"),
        ({"videos": videos_of("11")}, {"videos": videos_of("110")}, "the results are about different videos"),
    ],
)
def test_without_the_same_videos_the_gain_has_no_interval(first: Result, second: Result, why: str) -> None:
    (one,) = of_results([made(**first), scratch(top1=12.0, **second)]).against
    assert (one.points, one.interval, one.notes) == (8.0, None, [f"no interval: {why}"])


def test_a_gain_is_never_that_over_another_protocol_or_network() -> None:
    others = [
        scratch(protocol={"clips": 1}),
        scratch(backbone="r3d"),
        scratch(on_fold=2),
        scratch("finetune"),
    ]
    assert of_results([made(), *others]).against == []
    # How clips are normalised goes with the weights.
    assert len(of_results([made(protocol={"normalise": "unit"}), scratch()]).against) == 1


def test_an_epoch_chosen_on_the_test_videos_is_noted() -> None:
    (line,) = of_results([made("finetune", {"selection": "best-on-test"})]).lines
    assert line.protocol == "pace 10x16x112 softmax best-on-test"
    assert "the epoch was chosen on the test videos" in line.notes


def test_dropped_videos_are_noted() -> None:
    (line,) = of_results([made(dropped=["a", "b"])]).lines
    assert "2 videos could not be read and are left out" in line.notes


def test_a_note_says_that_clips_were_enlarged() -> None:
    (line,) = of_results([made(on_side=100)]).lines
    assert [note for note in line.notes if note.startswith("clips of 112 pixels are enlarged from frames of 100")]
    (line,) = of_results([made(on_side=112)]).lines
    assert not [note for note in line.notes if "enlarged" in note]


def test_a_disagreement_between_papers_tables_is_noted() -> None:
    pace = {"method": "pace", "recipe": "pace-s3dg-ucf101-paper", "backbone": "s3dg_pace", "epochs": 18}
    (line,) = of_results([made("finetune", {"frames": 64, "size": 224}, **pace)]).lines
    assert line.published == [{"value": 87.1, "place": "Pace table 3"}]
    assert line.notes == [
        "Pace table 3: ASCNet's table 2 lists it as pre-trained on Kinetics-400, RSPNet's table 2 leaves it out"
    ]
    notes = {row.place: row.note for row in load() if row.note}
    assert notes["ASCNet table 1e"] == "62.42 in the text"
    found = [(row.paper, row.value, row.note) for row in load() if (row.method, row.dataset) == ("3DRotNet", "HMDB51")]
    assert found == [
        ("RSPNet", 37.1, "33.7 in the tables of Pace and ASCNet"),
        ("ASCNet", 33.7, "37.1 in RSPNet's table 2"),
        ("Pace", 33.7, "37.1 in RSPNet's table 2"),
    ]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rows = [
        made(top1=23.9, top5=39.0, intervals={"top1": [22.5, 25.25], "top5": [37.0, 41.0]}),
        scratch(top1=15.0, top5=30.0),
        made("finetune", on_fold=2, on_name="a|b [red]\x1b[2J"),
    ]
    for number, one in enumerate(rows):
        result.write(tmp_path / f"{number}.json", one)
    return sorted(tmp_path.iterdir())


def test_a_report_can_be_written_as_json(files: list[Path]) -> None:
    found = json.loads(json.dumps(as_dict(report(files)), allow_nan=False))
    assert [line["value"] for line in found["lines"]] == [23.9, 39.0, 15.0, 30.0, 20.0]
    assert found["against"][0]["points"] == pytest.approx(8.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: report([]), "no results are named; name some that veval wrote"),
        (lambda: of_results([made()], "both"), "folds is 'both'; there are separate, averaged"),
    ],
)
def test_what_cannot_be_reported_is_refused_in_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value) == message


def test_the_command_loads_nothing_that_trains(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(made()))
    program = f"""
import sys
from veval import cli
try:
    cli.main(["report", {str(tmp_path)!r}])
except SystemExit as end:
    assert not end.code
assert "veval.results.report" in sys.modules
assert not {{"torch", "cv2", "pyarrow.compute", "vtrain.recipes"}} & set(sys.modules), sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
