"""The command line: its defaults, what it prints, where results go, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run, veval
from small_recipes import small

from veval import cli
from veval.features import feature_file
from vtrain.training.train import train

pytestmark = pytest.mark.slow

COMMANDS = ("retrieval", "linear", "knn", "features", "test", "finetune", "report")
PLACE = ("--workers", 0)
FEW_STEPS = ("steps=2", "batch=4")


def test_each_dataset_json_is_read_once_by_a_command_and_seen_once_more_to_be_the_same(here: Path) -> None:
    """Also where fine-tuning trains, validates and tests, on several folds."""

    def counting(words: list[str]) -> None:
        opened: list[str] = []
        sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
        try:
            cli.main(words)
        finally:
            print(sum(path.endswith("dataset.json") for path in opened), file=sys.stderr)

    tuning = ("finetune", *FEW_STEPS, "--hold-out", 4, "--select", "best-on-held-out", "test.clips=1")
    for shards, words, sets in (
        ("data_shards", ("retrieval", "clips=1"), 1),
        ("data_shards,grey", ("features", "clips=1"), 2),
        ("data_shards", tuning, 1),
        ("data_shards", (*tuning, "--folds", "1,2"), 1),
    ):
        done = run(counting, *words, *PLACE, "--shards", shards, cwd=here, env=None)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (0, str(2 * sets)), done.stderr


OUTSIDE = """
from pathlib import Path
from torch import nn
Path("imported").touch()
def build():
    return nn.Conv3d(3, 8, 3, stride=2, padding=1)
"""


def test_a_backbone_from_outside_is_imported_when_the_user_names_it_and_never_because_a_file_does(here: Path) -> None:
    (here / "my_nets.py").write_text(OUTSIDE)
    words = ("retrieval", *PLACE, "clips=1", "frames=4", "size=16", "--weights")
    state = torch.load(here / "runs" / "newer" / "last.pt", weights_only=True)
    torch.save(state | {"backbone": "my_nets:build"}, here / "outside.pt")
    done = veval(*words, "outside.pt", cwd=here)
    assert (done.returncode, (here / "imported").exists()) == (2, False)
    assert "my_nets:build" in done.stderr
    found = veval(*words, "random", "--backbone", "my_nets:build", "--json", cwd=here).json
    assert (found["weights"]["backbone"], found["weights"]["dim"]) == ("my_nets:build", 8)
    assert (here / "imported").exists()
    tuned = veval("finetune", *PLACE, *FEW_STEPS, "frames=4", "size=16", "test.clips=1", "--weights", "random",
        "--backbone", "my_nets:build", "--recipe", "finetune-tiny", "--into", "tuned", "--json", cwd=here,
    ).json  # fmt: skip
    (here / "imported").unlink()
    test = ("test", *PLACE, "clips=1", "--weights", "tuned")
    assert (veval(*test, cwd=here).returncode, (here / "imported").exists()) == (2, False)
    tested = veval(*test, "--backbone", "my_nets:build", "--json", cwd=here).json
    assert tested["predictions"] == tuned["predictions"]


def test_every_command_explains_itself_and_loads_nothing_heavy() -> None:
    program = f"""
import sys
from veval import cli
for words in ([], *([name] for name in {COMMANDS})):
    try:
        cli.main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0, words
assert not {{"pyarrow", "cv2", "numpy", "torch", "rich.table"}} & set(sys.modules), sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"Usage: veval {command} " in done.stdout


def test_retrieval_without_options_takes_the_newest_run_and_the_default_shards_and_says_so(here: Path) -> None:
    done = veval("retrieval", cwd=here)
    assert done.returncode == 0, done.stderr
    first, second, last = done.stderr.splitlines()
    assert last == "next: veval report, which compares it with published numbers and with the network from scratch"
    assert first == "weights runs/newer/last.pt (tiny), shards data_shards, fold 1: 8 of test, 16 of train"
    assert second.startswith("pace-p5: 10 clips of 4 frames (centres, restart if short), ")
    out = here / "results" / "retrieval-newer-synth-fold1-1.json"
    assert done.stdout.splitlines()[-1] == "results/retrieval-newer-synth-fold1-1.json"
    result = json.loads(out.read_bytes())
    assert done.stdout.startswith(f"top1  {result['top1']:6.2f} %  [")
    assert result["weights"]["path"] == "runs/newer/last.pt"


def test_the_best_epoch_of_a_run_is_taken_and_named_and_until_there_is_one_the_last(here: Path, shards: Path) -> None:
    for name, steps in (("best", 4), ("young", 1)):
        words = (f"steps={steps}", "batch=8", "keep=best", "best_by=loss")
        train(small("pace", shards, *words), here / "runs" / name)
    state = torch.load(here / "runs" / "best" / "best.pt", weights_only=True)
    loss, step = state["best"]["value"], state["step"]
    done = veval("retrieval", *PLACE, "--weights", "runs/best", cwd=here)
    first = f"weights runs/best/best.pt (tiny, lowest loss, {loss:.4g}, at step {step}), shards data_shards, fold 1"
    assert done.stderr.startswith(f"{first}: ")
    assert done.stdout.splitlines()[-1] == "results/retrieval-best-synth-fold1-1.json"
    line = next(line for line in done.stdout.splitlines() if line.startswith("weights "))
    assert line.endswith(f", lowest loss at step {step} (runs/best/best.pt)")
    found = json.loads((here / "results" / "retrieval-best-synth-fold1-1.json").read_bytes())["weights"]
    assert (found["kept"], found["kept_step"], found["step"]) == ("loss", step, 4)

    done = veval("retrieval", *PLACE, "--weights", "runs/young", cwd=here)
    assert done.stderr.startswith("weights runs/young/last.pt (tiny, step 1; no best epoch yet), shards data_shards, ")
    done = veval("retrieval", *PLACE, "--weights", "runs/best/last.pt", cwd=here)
    assert done.stderr.startswith("weights runs/best/last.pt (tiny, ")


def test_an_older_result_is_never_replaced_unless_it_is_named(here: Path) -> None:
    words = ("knn", *PLACE, "clips=1")
    for number in (1, 2):
        assert veval(*words, cwd=here).returncode == 0
        assert (here / "results" / f"knn-newer-synth-fold1-{number}.json").exists()
    kept = {path: path.read_bytes() for path in (here / "results").iterdir()}
    named = here / "new" / "folder" / "result.json"
    for k in (1, 2):
        assert veval(*words, "--k", k, "--out", named, cwd=here).returncode == 0
        assert json.loads(named.read_bytes())["k"] == k
    assert {path: path.read_bytes() for path in (here / "results").iterdir()} == kept


def test_the_json_of_retrieval_has_the_promised_names(here: Path) -> None:
    found = veval("retrieval", *PLACE, "--json", "--out", "r.json", cwd=here).json
    assert found == json.loads((here / "r.json").read_bytes())
    for name in ("top1", "top5", "top10", "top20", "top50"):
        assert 0 <= found[name] <= 100
        low, high = found["intervals"][name]
        assert low <= found[name] <= high
    assert (found["queries"], found["gallery"]) == (8, 16)
    assert found["protocol"]["clips"] == 10
    assert found["top50"] == 100  # the gallery has 16
    assert (found["larger_than_gallery"], found["dropped"]) == (["top20", "top50"], [])
    assert {"python", "torch", "numpy"} <= set(found["versions"])
    assert not (here / "results").exists()


def test_json_is_one_object_for_every_command(here: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for command in ("retrieval", "linear", "knn", "features", "test"):
        found[command] = veval(command, *PLACE, "clips=1", "--json", cwd=here).json
    held_out = ("--select", "best-on-held-out", "--hold-out", 4, "--val-groups")
    for name, more in (("finetune", held_out), ("folds", ("--folds", "1,2"))):
        words = ("finetune", *PLACE, *FEW_STEPS, "test.clips=1", *more, "--json")
        found[name] = veval(*words, cwd=here).json
    found["report"] = veval("report", "--json", cwd=here).json
    for name in ("retrieval", "linear", "knn", "test", "finetune"):
        assert (found[name]["kind"], found[name]["schema"]) == (name, 1)
        assert found[name]["protocol"]["clips"] == 1
    assert found["finetune"]["protocol"]["selection"] == "best-on-held-out"
    assert found["finetune"]["fine_tuned"]["by"]["data"]["hold_out_by"] == "group"
    assert [one["data"]["fold"] for one in found["folds"]["folds"]] == [1, 2]
    assert found["features"]["videos"] == {"all": 24}
    assert len(feature_file.read(here / "features.parquet").keys) == 24
    assert {line["task"] for line in found["report"]["lines"]} == {"retrieval", "linear", "knn", "test", "finetune"}
    assert {path.name for path in (here / "results").iterdir()} == {
        "retrieval-newer-synth-fold1-1.json", "linear-newer-synth-fold1-1.json", "knn-newer-synth-fold1-1.json",
        "test-tuned-synth-fold1-1.json", "finetune-newer-synth-fold1-1.json", "finetune-newer-synth-fold1-2.json",
        "finetune-newer-synth-fold2-1.json",
    }  # fmt: skip
    assert {path.name for path in (here / "runs" / "finetuned").iterdir()} == {
        "tuned", "newer-synth-fold1-1", "newer-synth-fold1-2", "newer-synth-fold2-1"
    }  # fmt: skip


def test_testing_without_options_takes_the_newest_fine_tuned_run(here: Path) -> None:
    done = veval("test", *PLACE, "clips=1", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "weights runs/finetuned/tuned/last.pt (tiny), shards data_shards, fold 1: 8 of test\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("retrieval --weights nowhere", "there is no nowhere; name a run's folder or a .safetensors file"),
        (
            "retrieval --weights runs",
            "runs holds no last.pt; name the folder of a run that has saved, or a .safetensors file",
        ),
        (
            "retrieval --split validation",
            "data_shards has no video of split 'validation' in fold 1 in the 3 shards that were named; "
            "fold 1 of dataset.json has 8 test, 16 train; name splits that it has with --split and --gallery, or make "
            "it again with lists: vprep shard VIDEOS --splits LISTS",
        ),
        ("retrieval --split train", "split 'train' is named twice; name splits that share no video"),
        ("retrieval --fold 4", "--fold is 4; there are 1, 2 and 3"),
        ("retrieval --shards runs", "no set in runs; one is made with: vprep shard VIDEOS --out runs"),
        ("retrieval --duplicates drop", "--duplicates is 'drop'; there are keep and 'leave out'"),
        ("retrieval klips=3", "no setting 'klips'; did you mean 'clips'?"),
        ("retrieval --out runs", "--out is runs, which is a folder; name a file"),
        (
            "retrieval --backbone r3d",
            "runs/newer/last.pt has the backbone tiny, and --backbone names r3d; leave out --backbone",
        ),
        (
            "knn --protocol best",
            "there is no protocol 'best' for features; there are rspnet, ascnet, vcop, prp, pace-p5, pace-p4, "
            "pace-p5-mean",
        ),
        (
            "test --weights runs/newer",
            "runs/newer/last.pt was trained by 'pace', so it cannot predict classes; name a fine-tuned run, which is "
            "made by: veval finetune --weights runs/newer/last.pt",
        ),
        (
            "test --shards grey --split all",
            "grey has no video of split 'all' in fold 1 in the 2 shards that were named; fold 1 of dataset.json has "
            "no split at all; name splits that it has with --split and --gallery, or make it again with lists: vprep "
            "shard VIDEOS --splits LISTS",
        ),
        ("features --splits test,test", "split 'test' is named twice; name splits that share no video"),
        ("report", "there are no results in results; the other commands of veval write results"),
        ("report nothing.json", "there is no nothing.json; name results of veval"),
    ],
)
def test_wrong_arguments_are_answered_in_one_sentence(words: str, message: str, here: Path) -> None:
    done = veval(*words.split(), cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"veval: {message}\n")


@pytest.mark.parametrize(
    "words",
    [
        "retrieval --engine faiss",
        "retrieval --weights notes.md",
        "report notes.md",
        "retrieval --device gpu",
        "retrieval --engine slow",
        "knn --votes x",
    ],
)
def test_wrong_arguments_that_libraries_complain_about_are_answered_in_one_sentence(words: str, here: Path) -> None:
    done = veval(*words.split(), cwd=here)
    *_, last = done.stderr.splitlines()
    assert (done.returncode, last[:7]) == (2, "veval: ")
    assert "Traceback" not in done.stderr


def test_in_an_empty_folder_the_message_says_what_to_do_first(place: Path, tmp_path: Path) -> None:
    done = veval("retrieval", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, (
        "veval: no folder 'data_shards'; a set is made with: vprep shard VIDEOS --out data_shards\n"
    ))  # fmt: skip
    (tmp_path / "data_shards").symlink_to(place / "data_shards")
    done = veval("retrieval", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, (
        "veval: there is no run in runs/; name weights with --weights RUN|FILE|random, or train some: "
        "vtrain METHOD --shards SPEC\n"
    ))  # fmt: skip


def test_classes_of_another_set_are_refused(here: Path) -> None:
    grey = small("supervised", here / "grey", "steps=1", "data.split=all")
    train(grey, here / "runs" / "grey")
    done = veval("test", *PLACE, "--weights", "runs/grey", cwd=here)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, (
        "veval: the weights predict 3 classes, data_shards has 4, and they differ (class 0 is 'a dark' and "
        "'DiscFalls'); test on the data set that the network was fine-tuned on"
    ))  # fmt: skip


FINETUNING = [
    ("--select best", "--select is 'best'; there are last, best-on-test, best-on-held-out"),
    (
        "--select best-on-held-out",
        "--select is best-on-held-out, but no videos are held out; hold some out: --hold-out 800",
    ),
    ("--hold-out 16", "data.hold_out is 16 of 16 videos; it must be from 0 to 15"),
    ("test.clips=x", "clips is 'x'; it must be a whole number"),
    (
        "--protocol pace-p5",
        "there is no protocol 'pace-p5' for testing; there are rspnet, ascnet, ascnet-three, ascnet-ten, "
        "vcop, prp, pace, rspnet-ssv2, rspnet-hmdb51-resnet3d18",
    ),
    (
        "--into runs/newer",
        "runs/newer was begun with name=small pace, not finetune-tiny; repeat the first command, or name another "
        "--into",
    ),
    ("--into grey", "grey exists and holds no fine-tuning; name another --into"),
    (
        "weights=grey",
        "weights is set to grey, but for runs/newer/last.pt it must be runs/newer/last.pt; choose the network with "
        "--weights, and leave weights out",
    ),
]


@pytest.mark.parametrize(("words", "message"), FINETUNING)
def test_nothing_is_trained_that_could_not_be_tested(words: str, message: str, here: Path) -> None:
    done = veval("finetune", *words.split(), cwd=here)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (2, "", f"veval: {message}")
    assert "training in" not in done.stderr
    assert [path.name for path in (here / "runs" / "finetuned").iterdir()] == ["tuned"]


def test_a_missing_fold_is_refused_before_another_is_trained(here: Path) -> None:
    for folds, message in (
        ("1,9", "--fold is 9; there are 1, 2 and 3"),
        ("one", "--folds is 'one'; write numbers with commas, as in 1,2,3"),
    ):
        done = veval("finetune", "--folds", folds, cwd=here)
        assert (done.returncode, done.stderr) == (2, f"veval: {message}\n")
