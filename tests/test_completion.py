"""The shell completes names, without torch; and every program says its version."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from refusals import completes, ends

# What is typed, up to the cursor; and completions, among others that it must not offer.
TYPED: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "vtrain": [
        ("vtrain rs", ["rspnet"], ["prp", "recipes"]),
        ("vtrain pace --recipe ", ["released", "tiny", "pace-tiny", "pace-c3d-ucf101"], ["prp-tiny"]),
        ("vtrain pace --backbone r3", ["r3d", "r3d18"], ["c3d"]),
        ("vtrain pace --recipe tiny schedule.", ["schedule.lr=", "schedule.kind="], ["batch="]),
        ("vtrain recipes prp", ["prp", "prp-tiny"], ["pace"]),
        ("vtrain recipes --method ", ["rspnet", "supervised"], ["recipes"]),
        ("vtrain bench step asc", ["ascnet"], ["pace"]),
        ("vtrain nowhere:METHOD --rec", ["--recipe"], ["--resume"]),
    ],
    "veval": [
        ("veval ret", ["retrieval"], ["report"]),
        ("veval retrieval --protocol ", ["vcop", "pace-p5"], ["ascnet-ten"]),
        ("veval test --protocol ", ["vcop", "ascnet-ten"], ["pace-p5"]),
        ("veval finetune --recipe finetune-v", ["finetune-vcop-c3d-ucf101"], ["finetune-prp-c3d-ucf101"]),
        ("veval linear --backbone s3", ["s3d", "s3dg"], ["c3d"]),
    ],
    "vprep": [("vprep sh", ["shard", "show"], ["stats"]), ("vprep shard videos --layout ", ["auto", "ucf101"], [])],
}


@pytest.mark.parametrize("program", TYPED)
def test_the_shell_completes_names_without_torch(program: str, tmp_path: Path) -> None:
    found = completes(program, [line for line, _, _ in TYPED[program]], tmp_path)
    for (line, offered, others), end in zip(TYPED[program], found, strict=True):
        names = end.out.split()
        assert set(offered) <= set(names), (line, end)
        assert not set(others) & set(names), (line, end)
        assert (end.code, end.err, end.imported) == (0, "", []), line


@pytest.mark.parametrize(
    ("program", "packages"), [("vprep", ["imageio-ffmpeg"]), ("vtrain", ["torch"]), ("veval", ["torch"])]
)
def test_version_names_the_package_and_what_results_depend_on(
    program: str, packages: Sequence[str], tmp_path: Path
) -> None:
    (end,) = ends(f"{program}.cli", [["--version"]], tmp_path)
    assert (end.code, end.imported) == (0, [])
    assert re.match(rf"{program} \d+\.\d+\S* \(Python 3\.\d+", end.out)
    assert all(re.search(rf"{package} \d+\.\d+", end.out) for package in packages)
    assert end.out.count("\n") == 1
