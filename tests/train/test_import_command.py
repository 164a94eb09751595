"""vtrain import: published weights become a file of this project, or are refused in one sentence."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from vtrain.data.augment.apply import DEVIATION, MEAN
from vtrain.data.augment.config import Normalise
from vtrain.weights import ORIGINS, load_backbone, read_weights
from vtrain.weights.normalisation import WORDS, as_words, spelled

GOLDEN = json.loads((Path(__file__).parent / "golden" / "architectures.json").read_text())
NORM = ("weight", "bias", "running_mean", "running_var")
IMAGENET = {
    "word": "imagenet",
    "scale": 1,
    "channels": "rgb",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
Command = Callable[..., tuple[int, str, str]]


def published(name: str) -> dict[str, Tensor]:
    """Return a checkpoint of PyTorch 0.4.0 with the authors' names and shapes; each tensor repeats one number."""
    network = next(network for network in GOLDEN if network["name"] == name)
    state: dict[str, Tensor] = {}
    for entry in "; ".join(network["tensors"]).split("; "):
        key, *numbers = entry.split(" ")
        names = [f"{key}.{word}" for word in NORM] if numbers[:1] == ["norm"] else [key]
        shape = [int(number) for number in numbers if number != "norm"]
        for tensor in names:
            state[network["prefix"] + tensor] = torch.tensor(len(state) / 1000).expand(shape)
    return {key: x for key, x in state.items() if not key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def s3dg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "s3dg.pth.tar"
    heads = {f"encoder_q.fc{n}.2.weight": torch.zeros(1) for n in (1, 2)} | {"queue": torch.zeros(1)}
    torch.save({"epoch": 200, "arch": "s3dg", "model": published("rspnet/s3dg") | heads}, path)
    return path


@pytest.mark.slow
def test_a_published_file_becomes_weights_that_say_what_they_are(s3dg: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours.safetensors"
    words = ["import", s3dg, "--from", "rspnet", "--out", out, "--backbone", "s3dg", "--json"]
    done = subprocess.run([sys.executable, "-m", "vtrain", *map(str, words)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = {
        "backbone": "s3dg", "settings": {}, "dim": 1024, "origin": "rspnet", "clip": [16, 224, 224],
        "normalisation": IMAGENET, "file": "s3dg.pth.tar",
    }  # fmt: skip
    assert json.loads(done.stdout) == {
        **wanted,
        "heads": {},
        "skipped": {"fc": 2, "fc1": 1, "fc2": 1, "queue": 1},
        "out": str(out),
        "replaced": False,
        "report": "rspnet: 425 tensors loaded, 5 skipped (fc, fc1, fc2, queue)",
    }
    net, info = load_backbone(out)
    assert info == wanted
    theirs = published("rspnet/s3dg")["encoder_q.encoder.feature.sepConv1.sep_conv.0.conv3d.weight"]
    assert torch.equal(net.state_dict()["conv1.spatial.conv.weight"], theirs)
    assert os.listdir(tmp_path) == ["ours.safetensors"]


def test_the_output_names_what_was_loaded_and_what_was_left_out(command: Command, tmp_path: Path) -> None:
    path, out = tmp_path / "prp.pth", tmp_path / "ours.safetensors"
    torch.save(published("prp/r3d"), path)
    words = ("import", path, "--from", "prp", "--out", out)
    lines = [
        "prp: 60 tensors loaded, 46 of heads (decoder, rates)",
        "backbone r3d, 512 channels, for clips of 16 x 112 x 112, normalised as 'unit'",
        "not written, because they belong to no backbone: decoder, rates",
    ]
    code, output, _ = command(*words)
    assert (code, output.splitlines()) == (0, [*lines, f"written: {out}"])
    before = read_weights(out)[0]
    out.write_bytes(b"older")
    code, output, _ = command(*words)
    assert (code, output.splitlines()) == (0, [*lines, f"replaced: {out}"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in read_weights(out)[0].items())


@pytest.mark.parametrize("by", ["name", "link"])
def test_the_file_that_is_read_is_never_written(by: str, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"theirs")
    out = path if by == "name" else tmp_path / "b.safetensors"
    if by == "link":
        out.symlink_to(path)
    assert command("import", path, "--from", "vcop", "--out", out) == (
        2, "", f"vtrain: --out is '{out}', the file that is read; name another\n"
    )  # fmt: skip
    assert path.read_bytes() == b"theirs"


def test_a_full_disk_leaves_the_older_file(
    s3dg: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"older")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    code, said, error = command("import", s3dg, "--from", "rspnet", "--out", out)
    assert (code, said, error) == (1, "", "vtrain: no space left on device; fix that and run it again\n")
    assert (os.listdir(tmp_path), out.read_bytes()) == (["a.safetensors"], b"older")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "FILE cannot be read as a checkpoint of torch (it does not begin like one); name a good file"),
        (b"weights\n", "FILE cannot be read as a checkpoint of torch (it does not begin like one); name a good file"),
        (None, "FILE is not a file"),
        ("cut", "FILE cannot be read as a checkpoint of torch (it is a zip file without its end: "
         "the file is incomplete); name a good file"),
    ],
    ids=["empty", "text", "missing", "cut"],
)  # fmt: skip
def test_a_file_without_weights_is_refused_in_one_sentence(
    content: bytes | str | None, message: str, s3dg: Path, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "file.pth"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else s3dg.read_bytes()[:-1000])
    output = command("import", path, "--from", "rspnet", "--out", tmp_path / "a.safetensors")
    assert output == (2, "", f"vtrain: {message.replace('FILE', str(path))}\n")
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--from": "coclr"}, "no origin 'coclr'; there are rspnet, prp, pace, vcop, torchvision"),
        ({"--backbone": "c3d"}, "FILE holds backbone 's3dg', not 'c3d'; write --backbone s3dg or leave it out"),
        ({"--backbone": "s3d"}, "rspnet has no backbone 's3d'; it has resnet3d18, c3d, r2plus1d, s3dg"),
        ({"--out": "a.pt"}, "--out is 'a.pt'; it must end in .safetensors, as in --out a.safetensors"),
        ({"--out": "no/a.safetensors"}, "--out is 'no/a.safetensors', and there is no folder 'no'; create it first"),
        ({"--out": "d.safetensors"}, "--out is 'd.safetensors', which is a folder; name a file in it, as in "
         "d.safetensors/a.safetensors"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_in_one_sentence(
    change: dict[str, str],
    message: str,
    s3dg: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.safetensors").mkdir()
    words = {"--from": "rspnet", "--out": "a.safetensors"} | change
    output = command("import", s3dg, *(word for pair in words.items() for word in pair))
    assert output == (2, "", f"vtrain: {message.replace('FILE', str(s3dg))}\n")
    assert os.listdir() == ["d.safetensors"]


def test_a_file_that_holds_no_known_network_is_compared_with_the_named_backbone(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "a.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    words = ("--from", "vcop", "--out", tmp_path / "a.safetensors", "--backbone", "r2plus1d")
    code, output, error = command("import", path, *words)
    assert (code, output) == (2, "")
    assert error.startswith(
        f"vtrain: {path} holds none of the networks of vcop (c3d, r3d, r2plus1d); it differs from r2plus1d by: "
        "120 missing (conv1.conv.spatial.weight, "
    )


def test_the_words_for_normalisation_are_those_of_the_data_path() -> None:
    assert tuple(WORDS) == get_args(Normalise)
    assert (WORDS["imagenet"].mean, WORDS["imagenet"].std) == (MEAN, DEVIATION)
    found = {name: spelled(asdict(origin.normalisation)) for name, origin in ORIGINS.items()}
    assert {name: numbers and numbers["word"] for name, numbers in found.items()} == {
        "rspnet": "imagenet", "prp": "unit", "pace": "bgr255", "vcop": "unit", "torchvision": None
    }  # fmt: skip


def test_a_normalisation_without_a_word_is_shown_in_numbers() -> None:
    assert as_words(spelled(asdict(ORIGINS["torchvision"].normalisation))) == (
        "normalised by scale 1, channels rgb, mean (0.43216, 0.394666, 0.37645), std (0.22803, 0.22145, 0.216989) "
        "(none of imagenet, unit, bgr255)"
    )


@pytest.mark.parametrize("found", [None, 3, "grey", ["imagenet"]])
def test_a_value_that_is_no_normalisation_is_unknown(found: Any) -> None:  # noqa: ANN401
    assert spelled(found) is None
    assert spelled("bgr255") == spelled(spelled("bgr255")) == {
        "word": "bgr255", "scale": 255, "channels": "bgr", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)
    }  # fmt: skip
