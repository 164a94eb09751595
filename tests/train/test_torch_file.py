"""Files of torch.save that are damaged or made to harm are refused in one sentence, wherever they are read."""

import argparse
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from vprep.errors import UsageError
from vtrain.torch_file import UnreadableError, read, read_values
from vtrain.training.resume import state_in

LEGACY = {"_use_new_zipfile_serialization": False}
STATE = {"step": 3, "model": {"w": torch.arange(4000.0)}, "best": None, "rate": 0.5}
DAMAGED = "it is damaged: its content is not what its checksum says"


def saved(folder: Path, data: dict[str, Any] = STATE, **words: bool) -> Path:
    torch.save(data, folder / "last.pt", **words)
    return folder / "last.pt"


def pickled(path: Path, change: bytes) -> Path:
    """Write a checkpoint whose pickle is `change`, with right checksums."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", change)
        archive.writestr("a/version", "3")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableError) as error:
        read(path)
    return str(error.value)


def test_a_flipped_bit_anywhere_in_a_members_content_is_noticed(tmp_path: Path) -> None:
    path, rng = saved(tmp_path), random.Random(1)
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        spans = [(good.index(archive.read(name)), len(archive.read(name))) for name in archive.namelist()]
    for begin, length in spans:
        for _ in range(5):
            broken = bytearray(good)
            broken[begin + rng.randrange(length)] ^= 1 << rng.randrange(8)
            path.write_bytes(broken)
            assert refusal(path)
    path.write_bytes(good)
    assert torch.equal(read(path)["model"]["w"], STATE["model"]["w"])


def test_a_flipped_weight_is_called_damage(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<f", 1234.0))] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["step"] == 3  # torch itself notices nothing
    assert refusal(path) == DAMAGED
    assert read_values(path)["step"] == 3  # reads no weights, so it cannot notice


def test_values_are_read_without_tensors(tmp_path: Path) -> None:
    for words in ({}, LEGACY):
        assert read_values(saved(tmp_path, **words)) == {**STATE, "model": {"w": None}}


def test_a_run_is_resumed_from_no_damaged_state(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<f", 1234.0))] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError) as error:
        state_in(tmp_path)
    assert str(error.value) == (
        f"{path} is no state of a training ({DAMAGED}); no other state is kept: start another run"
    )


def test_a_state_that_asks_for_a_call_is_refused_without_torchs_advice(tmp_path: Path) -> None:
    pickled(tmp_path / "last.pt", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(UsageError) as error:
        state_in(tmp_path)
    assert "it asks for posix.system to be called when it is read; nothing was called" in str(error.value)
    assert "weights_only" not in str(error.value)


def test_what_inflates_or_lies_over_itself_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert refusal(path) == "it is compressed, which no checkpoint of torch is"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        # Nine more names for the same bytes.
        for number in range(9):
            again = zipfile.ZipInfo(archive.filelist[-1].filename)
            largest = max(archive.filelist, key=lambda member: member.file_size)
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(again, field, getattr(largest, field))
            again.filename = f"a/{number}"
            archive.filelist.append(again)
    assert refusal(path) == "its parts overlap"


@pytest.mark.parametrize(
    ("pickle_", "why"),
    [
        pytest.param(
            b"\x80\x02})" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(1, 60)) + b"Ns.",
            "more than",
            id="doubled keys",
        ),
        pytest.param(b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.", "nests them more than", id="deep keys"),
        pytest.param(b"\x80\x02)r\xff\xff\xff\x7f.", "asks for 2147483647 places", id="far memo"),
        pytest.param(b"\x80\x02]q\x01" + b"h\x01a" * 3 + b".", "far more memory", id="a list in itself"),
        pytest.param(
            b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsNsb.", "replaces the methods", id="no items"
        ),
        pytest.param(b"\x80\x02X\xff\xff\xff\x7fabc.", "expected 2147483647 bytes", id="long text"),
        pytest.param(b"\x80\x02\x86.", "objects that are not there", id="empty stack"),
        pytest.param(b"\x80\x02cvtrain.no\nsuch\n)R.", "asks for vtrain.no.such to be called", id="unknown function"),
    ],
)
def test_a_pickle_that_would_take_years_or_all_memory_is_refused_at_once(
    pickle_: bytes, why: str, tmp_path: Path
) -> None:
    assert why in refusal(pickled(tmp_path / "a.pt", pickle_))


def test_honest_objects_of_many_kinds_are_within_the_limits(tmp_path: Path) -> None:
    data = {
        "many": {str(number): [number, (number, None)] for number in range(5_000)},
        "numbers": list(range(20_000)),
        "tied": [torch.arange(5)] * 10,
        "net": torch.nn.Linear(2, 2).state_dict(),
        "optimizer": torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict(),
    }
    for words in ({}, LEGACY):
        found = read(saved(tmp_path, data, **words))
        assert found["many"] == data["many"]
        assert found["numbers"] == data["numbers"]
        assert found["net"].keys() == data["net"].keys()


def test_large_tensors_beside_objects_of_unknown_classes_are_read(tmp_path: Path) -> None:
    large = torch.arange(3_000_000.0)  # 12 MB
    data = {"w": large, "args": argparse.Namespace(lr=0.1)}
    for words in ({}, LEGACY):
        assert torch.equal(read(saved(tmp_path, data, **words))["w"], large)


def test_a_zip_whose_table_of_contents_is_absurd_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(1000):
            archive.writestr(f"a/{number}{'x' * 10_000}", b"")
    assert refusal(path).startswith("its table of contents takes 10")


def test_a_tensor_that_repeats_one_number_without_end_is_refused(tmp_path: Path) -> None:
    for words in ({}, LEGACY):
        path = saved(tmp_path, {"w": torch.zeros(1).expand(10**12)}, **words)
        assert refusal(path) == "its objects would take far more memory than the file"


def test_a_folder_a_pipe_and_a_missing_file_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "it is not a file"
    assert refusal(tmp_path / "none") == "it is not there"
