"""compile=yes is refused before a training starts where the compiler cannot work."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from vprep.errors import UsageError
from vtrain.training.compiler import demand_compiler

CPU = torch.device("cpu")


def test_a_missing_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError) as error:
        demand_compiler(CPU)
    assert str(error.value).startswith("compile=yes needs a C++ compiler, and torch takes CXX=no-such-compiler")


def refusal() -> str:
    """The sentence of a refusal, of this environment for example; "" where nothing is refused."""
    try:
        demand_compiler(CPU)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["a b", "it's", 'a"b', "a\\b"])
def test_a_cache_whose_name_torch_does_not_quote_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # a program that is there
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / name))
    with pytest.raises(UsageError) as error:
        demand_compiler(CPU)
    assert f"'{tmp_path / name}'" in str(error.value)
    assert "set TORCHINDUCTOR_CACHE_DIR to another folder" in str(error.value)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "plain"))
    assert str(tmp_path / "plain") not in refusal()


@pytest.mark.slow
def test_an_environment_in_a_folder_with_a_space_is_refused(shards: Path, tmp_path: Path) -> None:
    site = tmp_path / "with space"
    site.symlink_to(sysconfig.get_path("purelib"))
    words = ["-m", "vtrain", "pace", "--recipe", "tiny", "--shards", str(shards), "--out", "run", "compile=yes"]
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", ""), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 2, done.stderr
    assert "install the packages in another folder" in done.stderr
    assert not (tmp_path / "run").exists()
