"""What can be known without torch is said before torch is imported, which takes seconds."""

from pathlib import Path

import pytest
from refusals import Ended, assert_said_without_torch, ends_by_words

# Each command, its exit code, and a part of what it says. SHARDS is a set, TAKEN a folder with a file.
COMMANDS: list[tuple[str, int, str]] = [
    ("--help", 0, "retrieval"),
    ("finetune --help", 0, "--recipe"),
    ("retrieval --shards SHARDS", 2, "there is no run in runs/"),
    ("retrieval --protocol nix", 2, "there is no protocol 'nix'"),
    ("retrieval nix=1", 2, "no setting 'nix'"),
    ("retrieval clips=many", 2, "clips is 'many'"),
    ("retrieval --backbone nix", 2, "no backbone 'nix'"),
    ("retrieval --shards missing --weights missing", 2, "no folder 'missing'"),
    ("retrieval --shards SHARDS --split val --weights random", 2, "has no video"),
    ("retrieval --shards SHARDS --split train --weights random", 2, "split 'train' is named twice"),
    ("retrieval --shards SHARDS --fold 4 --weights random", 2, "--fold is 4"),
    ("retrieval --shards SHARDS --weights random --out s3://b/r", 2, "s3://b/r is in a store, and --out names a place"),
    ("retrieval --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("retrieval --shards SHARDS --weights TAKEN", 2, "TAKEN holds no last.pt"),
    ("retrieval --shards SHARDS --weights random:nix", 2, "no recipe 'nix'"),
    ("retrieval --workers 100000", 2, "--workers is 100000"),
    ("retrieval --engine nix", 2, "--engine is 'nix'"),
    ("linear --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("knn --votes nix", 2, "votes is 'nix'"),
    ("knn --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("features --shards SHARDS --splits test,test", 2, "split 'test' is named twice"),
    ("features --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("test --protocol pace-p4 --weights missing.pt", 2, "there is no protocol 'pace-p4' for testing"),
    ("test --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("finetune --select nix", 2, "--select is 'nix'"),
    ("finetune --recipe nix", 2, "no recipe 'nix'"),
    ("finetune nix=1", 2, "no setting 'nix'"),
    ("finetune batch=many", 2, "batch is 'many'; it must be a whole number"),
    ("finetune test.nix=1", 2, "no setting 'nix'"),
    ("finetune --folds a", 2, "--folds is 'a'"),
    ("finetune --shards missing --weights random", 2, "no folder 'missing'"),
    ("finetune --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("look --help", 0, "roi"),
    ("look roi --help", 0, "--threshold"),
    ("look roi --alpha 2", 2, "--alpha is 2"),
    ("look roi --threshold 0", 2, "--threshold is 0"),
    ("look roi --tile 5", 2, "--tile is 5"),
    ("look roi --out a.txt", 2, "--out is 'a.txt'; it must end in .png"),
    ("look roi --out missing", 2, "or be a folder that exists: create missing first"),
    ("look roi --count 60", 2, "a picture has at most 50 videos"),
    ("look roi nix=1", 2, "no setting 'nix'"),
    ("look roi --shards missing", 2, "no folder 'missing'"),
    ("look roi --shards SHARDS --split val", 2, "has no video"),
    ("look roi --shards SHARDS --key nix", 2, "there is no video 'nix'"),
    ("look roi --shards SHARDS --class nix", 2, "there is no class 'nix'"),
    ("look roi --shards SHARDS", 2, "there is no run of rspnet in runs/"),
    ("look roi --shards SHARDS --weights random", 2, "which has no heads"),
    (
        "look roi --shards SHARDS --weights random:pace-tiny",
        2,
        "is of pace, and this picture needs the heads of rspnet",
    ),
    ("look reconstruction --shards SHARDS --weights missing.pt", 2, "there is no missing.pt"),
    ("look attention --paces 1,x", 2, "--paces is '1,x'"),
    ("look attention --shards SHARDS --backbone nix", 2, "no backbone 'nix'"),
    ("look activation --shards SHARDS --weights random --weights missing", 2, "there is no missing"),
    ("look neighbours missing.json", 2, "missing.json"),
    ("report", 2, "there are no results in results"),
    ("report missing.json", 2, "missing.json"),
]


@pytest.fixture(scope="module")
def ended(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How each command ended, by its words."""
    here = tmp_path_factory.mktemp("refused")
    (here / "SHARDS").symlink_to(shards)
    (here / "TAKEN").mkdir()
    return ends_by_words("veval.cli", COMMANDS, here)


@pytest.mark.parametrize(("words", "code", "said"), COMMANDS, ids=[words for words, _, _ in COMMANDS])
def test_it_is_said_before_torch_is_imported(words: str, code: int, said: str, ended: dict[str, Ended]) -> None:
    assert_said_without_torch(ended[words], code, said)
