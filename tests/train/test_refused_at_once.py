"""What can be known without torch is said before torch is imported, which takes seconds."""

from pathlib import Path

import pytest
from refusals import Ended, assert_said_without_torch, ends_by_words

# Each command, its exit code, and a part of what it says. SHARDS is a set, TAKEN a folder with a file.
COMMANDS: list[tuple[str, int, str]] = [
    ("--help", 0, "Train a 3D network"),
    ("recipes", 0, "rspnet-r2plus1d-k400"),
    ("recipes pace-tiny", 0, "batch=8"),
    ("rspnt", 2, "Did you mean 'rspnet'?"),
    ("rspnet --help", 0, "--resume"),
    ("rspnet nonsense=1", 2, "no setting 'nonsense'"),
    ("rspnet batch=many", 2, "batch is 'many'; it must be a whole number"),
    ("rspnet batch=0", 2, "batch is 0; it must be at least 1"),
    ("rspnet --recipe nix", 2, "no recipe 'nix'"),
    ("rspnet --recipe pace-tiny", 2, "write: vtrain pace --recipe pace-tiny"),
    ("rspnet --backbone nix", 2, "no backbone 'nix'"),
    ("nowhere:METHOD", 2, "nowhere"),
    ("pace --shards missing", 2, "/missing'; a set is made with"),
    ("pace --shards SHARDS data.split=val", 2, "has no video"),
    ("pace --shards SHARDS data.fold=7", 2, "data.fold is 7"),
    ("pace --shards SHARDS --subset missing.parquet", 2, "missing.parquet"),
    ("pace --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("pace --shards SHARDS data.hold_out=1000 validate.every=1", 2, "hold_out"),
    ("pace --shards SHARDS workers=100000", 2, "workers is 100000, and this machine has"),
    ("pace --shards SHARDS --out TAKEN", 2, "TAKEN exists already"),
    ("pace --shards SHARDS --out s3://b/run", 2, "s3://b/run is in a store, and --out names a place on this machine"),
    ("pace --shards SHARDS --cache=s3://b/c", 2, "s3://b/c is in a store, and --cache names a place on this machine"),
    ("pace --resume s3://b/run", 2, "s3://b/run is in a store"),
    ("pace --shards s3://me:key@b/set", 2, "s3://b/set holds a user or a key"),
    ("pace --resume", 2, "no run of pace in runs/"),
    ("pace --resume --out missing", 2, "missing"),
    ("bench step nix", 2, "no method 'nix'"),
    ("bench step pace batch=many", 2, "batch is 'many'"),
    ("bench loader --shards SHARDS --method nix", 2, "no clips of 'nix'"),
    ("bench loader --shards SHARDS --workers few", 2, "--workers is 'few'"),
    ("bench loader --shards SHARDS --workers 1,100000", 2, "--workers is 100000"),
    ("bench loader --shards missing", 2, "no folder 'missing'"),
    ("bench all pace --shards missing", 2, "no folder 'missing'"),
    ("export missing --out a.safetensors", 2, "there is no missing"),
    ("export TAKEN --out a.safetensors", 2, "TAKEN holds no last.pt"),
    ("export TAKEN --out a.zip", 2, "it must end in .safetensors"),
    ("import missing.pth --from rspnet --out a.safetensors", 2, "missing.pth is not a file"),
    ("import missing.pth --from nix --out a.safetensors", 2, "no origin 'nix'"),
]


@pytest.fixture(scope="module")
def here(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("refused")
    (here / "SHARDS").symlink_to(shards)
    (here / "TAKEN").mkdir()
    (here / "TAKEN" / "notes.txt").touch()
    return here


@pytest.fixture(scope="module")
def ended(here: Path) -> dict[str, Ended]:
    """How each command ended, by its words."""
    return ends_by_words("vtrain.cli", COMMANDS, here)


@pytest.mark.parametrize(("words", "code", "said"), COMMANDS, ids=[words for words, _, _ in COMMANDS])
def test_it_is_said_before_torch_is_imported(words: str, code: int, said: str, ended: dict[str, Ended]) -> None:
    assert_said_without_torch(ended[words], code, said)


@pytest.mark.usefixtures("ended")
def test_a_refusal_leaves_nothing_behind(here: Path) -> None:
    assert {path.name for path in here.iterdir()} == {"SHARDS", "TAKEN"}
