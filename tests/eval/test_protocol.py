"""Protocols: results hold every setting, and the papers' presets show the clips that the papers describe."""

from dataclasses import replace
from random import Random

import pytest

from veval.evaluation import WeightsInfo
from veval.protocol import DEFAULT, PRESETS, Protocol, default_name, for_weights, names_for, preset
from vprep.errors import UsageError
from vtrain.data import Video

FRAMES = 40
UNKNOWN = WeightsInfo(path="w", hash="x", backbone="r3d", dim=512)  # weights of which nothing else is known


def starts(protocol: Protocol, frames: int = FRAMES) -> list[int]:
    views = protocol.plan()(Video("v", frames, 25.0, 128, 171), Random(0)).views
    return [view.frames[0] for view in views]


def box(protocol: Protocol) -> tuple[float, ...]:
    (only,) = protocol.plan().looks[0].draw(Random(0), 128, 171, 16)["box"]
    return tuple(only)


def test_rspnet_shows_ten_clips_from_the_first_frame_to_the_last_and_the_largest_square() -> None:
    protocol = preset("features", "rspnet")
    # 24 possible frames to start at: 0, 2.67, 5.33, 8, 10.67, 13.33, 16, 18.67, 21.33, 24
    assert starts(protocol) == [0, 3, 5, 8, 11, 13, 16, 19, 21, 24]
    assert box(protocol) == (0, 21, 128, 128)  # 43 pixels more than high: 43 // 2 at the left
    assert starts(replace(protocol, clips=1), 43) == [13]  # of 27 frames more than a clip: 27 // 2


@pytest.mark.parametrize("name", ["vcop", "prp", "pace-p5", "pace-p4"])
def test_vcop_and_those_after_it_centre_ten_clips_and_cut_112_pixels(name: str) -> None:
    protocol = preset("features", name)
    # centres 8, 10.67, 13.33, 16, 18.67, 21.33, 24, 26.67, 29.33, 32, less 8, cut off
    assert starts(protocol) == [0, 2, 5, 8, 10, 13, 16, 18, 21, 24]
    assert box(protocol) == (8, 30, 112, 112)


def test_a_video_shorter_than_a_clip_is_shown_ten_times_as_the_protocol_says() -> None:
    for name, shown in (("rspnet", [0, 1, 2, 3, 4, 5, 0, 1]), ("pace", [0, 1, 2, 3, 4, 5, 0, 1])):
        protocol = for_weights("testing", UNKNOWN, name, ["frames=8"])
        views = protocol.plan()(Video("v", 6, 25.0, 128, 171), Random(0)).views
        assert [view.frames for view in views] == [shown] * 10
    twice = for_weights("testing", UNKNOWN, "pace", ["frames=4", "step=2"])
    assert twice.plan()(Video("v", 5, 25.0, 128, 171), Random(0)).views[0].frames == [0, 2, 4, 0]
    strided = for_weights("testing", UNKNOWN, "rspnet", ["frames=4", "step=2"])
    assert strided.plan()(Video("v", 3, 25.0, 128, 171), Random(0)).views[0].frames == [0, 1, 2, 0]  # looped at step 1
    assert strided.plan()(Video("v", 5, 25.0, 128, 171), Random(0)).views[0].frames == [0, 1, 3, 4]  # stretched


def test_crops_count_as_rows() -> None:
    assert [for_weights("testing", UNKNOWN, words=[f"crop={word}"]).rows for word in ("centre", "three", "ten")] == [
        10,
        30,
        100,
    ]


def test_the_released_gallery_is_cropped_and_flipped_at_random_and_the_queries_are_not() -> None:
    released = for_weights("features", UNKNOWN, "rspnet", ["gallery=released"])
    gallery, queries = released.plan(of_gallery=True).looks[0], released.plan().looks[0]
    assert (gallery.crop, gallery.scale, gallery.flip) == ("area", (0.25, 1.0), 0.5)
    assert (queries.crop, queries.flip) == ("centre", 0.0)
    assert preset("features", "rspnet").plan(of_gallery=True).looks[0] == queries


def test_results_hold_every_setting_that_matters_for_the_task() -> None:
    protocol = preset("features", "rspnet")
    assert protocol.as_dict("features") == {
        "name": "rspnet",
        "clips": 10,
        "frames": 16,
        "step": 1,
        "how": "starts",
        "short": "stretch",
        "crop": "centre",
        "crop_size": "largest",
        "size": 112,
        "normalise": "imagenet",
        "pools": "gap,spatial-max",
        "level": "video",
        "gallery": "all",
        "revision": 2,
    }
    tested = preset("testing", "prp").as_dict("testing")
    assert set(tested) == set(protocol.as_dict("features")) - {"pools", "level", "gallery"} | {"fusion"}
    assert (tested["crop_size"], tested["fusion"]) == (112, "logits")


def test_a_protocol_in_one_line() -> None:
    assert preset("features", "pace-p4").line("features") == (
        "pace-p4: 10 clips of 16 frames (centres, restart if short), centre crop of 112 pixels at 112, bgr255, "
        "p4 of each video"
    )
    assert for_weights("testing", UNKNOWN, words=["clips=3", "step=2"]).line("testing") == (
        "rspnet, changed: 3 clips of 16 frames, every 2 frames (starts, stretch if short), centre crop of the largest "
        "square at 112, imagenet, mean of logits"
    )


def test_weights_decide_the_preset_the_clip_and_the_normalisation() -> None:
    pace = replace(UNKNOWN, method="pace", clip=[64, 224, 224], normalisation="unit")
    protocol = for_weights("features", pace)
    assert (protocol.name, protocol.pools, protocol.how) == ("pace-p5", ("pool5",), "centres")
    assert (protocol.clip, protocol.normalise) == ((64, 224, 224), "unit")
    assert protocol.crop_size == 224  # cropped, not resized
    assert protocol.as_dict("features")["name"] == "pace-p5"  # what the weights decide does not count as a change
    assert for_weights("features", replace(pace, crop="largest")).as_dict("features")["name"] == "pace-p5"
    assert for_weights("features", replace(UNKNOWN, method="random")).name == "rspnet"
    assert for_weights("features", pace, "vcop", ["size=56"]).clip == (64, 56, 56)


def test_only_what_a_user_changes_counts_as_a_change() -> None:
    large = replace(UNKNOWN, method="prp", clip=[8, 40, 40], crop="largest", normalisation="unit")
    names = {
        "": "prp",
        "clips=10": "prp",  # as before
        "clips=4": "prp, changed",
        "crop_size=30": "prp, changed",
        "size=56": "prp, changed",
        "pools=gap": "prp, changed",
    }
    for words, name in names.items():
        protocol = for_weights("features", large, words=words.split())
        assert protocol.as_dict("features")["name"] == name
        assert protocol.line("features").startswith(f"{name}: ")
    assert replace(preset("features", "prp"), clips=4).as_dict("features")["name"] == "prp, changed"


def test_ascnets_ten_crops_differ_in_the_usual_frames() -> None:
    area = replace(UNKNOWN, method="ascnet", clip=[32, 128, 128], crop="largest")  # as a run with area crops says it
    protocol = for_weights("testing", area, "ascnet-ten")
    drawn = protocol.plan().looks[0].draw(Random(0), 128, 171, 32)
    corners = [(0, 0), (0, 59), (16, 0), (16, 59), (8, 30)]
    assert drawn["box"] == [(*corner, 112, 112) for corner in corners * 2]
    assert drawn["flip"] == [False] * 5 + [True] * 5
    assert (protocol.clip, protocol.rows, protocol.name) == ((32, 128, 128), 100, "ascnet-ten")
    three = for_weights("testing", area, "ascnet-three").plan().looks[0].draw(Random(0), 128, 171, 32)
    assert three["box"] == [(0, 0, 128, 128), (0, 21, 128, 128), (0, 43, 128, 128)]


def test_resnet18_on_hmdb51_is_tested_with_three_clips() -> None:
    tuned = replace(UNKNOWN, method="supervised", recipe="finetune-rspnet-resnet3d18-hmdb51")
    protocol = for_weights("testing", tuned)
    assert (protocol.clips, starts(protocol, 43)) == (3, [0, 14, 27])  # 13.5 is rounded to even
    assert for_weights("testing", replace(tuned, recipe="finetune-rspnet-c3d-hmdb51")).clips == 10


def test_a_fine_tuned_network_gets_clips_as_in_its_training_unless_a_protocol_is_named() -> None:
    trained_on = {"how": "cover", "clips": 2, "crop_size": 112}
    assert for_weights("testing", UNKNOWN, trained_on=trained_on).as_dict("testing")["name"] == "rspnet, changed"
    assert for_weights("testing", UNKNOWN, trained_on=trained_on).crop_size == 112
    assert for_weights("testing", UNKNOWN, "ascnet", trained_on=trained_on).how == "starts"


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("finetune-rspnet-c3d-ucf101", "rspnet"),
        ("finetune-rspnet-c3d-ssv2", "rspnet-ssv2"),
        ("finetune-rspnet-c3d-ssv2-paper", "rspnet-ssv2"),
        ("finetune-rspnet-resnet3d18-hmdb51", "rspnet-hmdb51-resnet3d18"),
        ("finetune-rspnet-resnet3d18-hmdb51-paper", "rspnet-hmdb51-resnet3d18"),
        ("finetune-rspnet-resnet3d18-ucf101", "rspnet"),
        ("finetune-rspnet-tsm18-hmdb51", "rspnet"),
        ("finetune-ascnet-resnet3d18-hmdb51", "ascnet"),
        ("finetune-prp-c3d-ucf101", "prp"),
        ("finetune-pace-s3dg-hmdb51", "pace"),
        ("finetune-tiny", "rspnet"),
        ("mine", "rspnet"),
    ],
)
def test_a_fine_tuned_network_is_tested_as_the_authors_of_its_recipe_do(recipe: str, name: str) -> None:
    assert for_weights("testing", replace(UNKNOWN, method="supervised", recipe=recipe)).name == name


def test_one_pool_of_a_preset_is_still_the_preset() -> None:
    assert for_weights("features", UNKNOWN, "rspnet", ["pools=spatial-max"]).as_dict("features")["name"] == "rspnet"
    assert for_weights("features", UNKNOWN, "rspnet", ["pools=p4"]).as_dict("features")["name"] == "rspnet, changed"


def test_every_preset_has_its_own_name_in_the_results_of_its_tasks() -> None:
    for name, known in PRESETS.items():
        assert name == known.protocol.name
        assert {known.protocol.as_dict(task)["name"] for task in known.tasks} == {name}
    assert DEFAULT in names_for("features")
    assert DEFAULT in names_for("testing")


@pytest.mark.parametrize(
    ("method", "features", "testing"),
    [
        ("rspnet", "rspnet", "rspnet"),
        ("ascnet", "ascnet", "ascnet"),
        ("prp", "prp", "prp"),
        ("pace", "pace-p5", "pace"),
        ("vcop", "vcop", "vcop"),
        ("supervised", "rspnet", "rspnet"),
        ("random", "rspnet", "rspnet"),
        ("torchvision", "rspnet", "rspnet"),
        ("somebodys_method", "rspnet", "rspnet"),
    ],
)
def test_weights_are_measured_by_the_protocol_of_their_method(method: str, features: str, testing: str) -> None:
    weights = replace(UNKNOWN, method=method)
    assert (default_name("features", weights), default_name("testing", weights)) == (features, testing)


def test_paces_p5_has_a_protocol_for_each_reading() -> None:
    flat, mean = (preset("features", name) for name in ("pace-p5", "pace-p5-mean"))
    assert (flat.pools, mean.pools) == (("pool5",), ("gap",))
    assert replace(mean, name="pace-p5", pools=("pool5",)) == flat


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clips=0"], "clips is 0; it must be at least 1"),
        (["pools=gap,gap"], "pools is 'gap,gap'; write one or more pools, each once"),
        (["short=replace"], "short is 'replace'; there are loop, restart, stretch, error"),
        (["clip=3"], "no setting 'clip'; did you mean 'clips'?"),
    ],
)
def test_impossible_settings_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        for_weights("features", UNKNOWN, words=words)
    assert str(error.value) == message


def test_for_an_unknown_protocol_the_known_ones_are_listed() -> None:
    with pytest.raises(UsageError) as error:
        preset("testing", "pace-p4")
    assert str(error.value) == (
        "there is no protocol 'pace-p4' for testing; there are rspnet, ascnet, ascnet-three, ascnet-ten, vcop, prp, "
        "pace, rspnet-ssv2, rspnet-hmdb51-resnet3d18"
    )
