"""Run commands in processes of their own, forked: a new Python would take longer to load torch than a command runs."""

import importlib
import json
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from veval import cli
from vtrain import cli as vtrain_cli

for late in ("torch._dynamo", "veval.features.extract", "veval.commands", "vtrain.recipes", "vtrain.training.train"):
    importlib.import_module(late)  # once here instead of in each forked process


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on stdout, where nothing else may be."""
        assert self.returncode == 0, self.stderr
        assert len(self.stdout.splitlines()) == 1, self.stdout
        found: dict[str, Any] = json.loads(self.stdout)
        return found


def veval(*words: object, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """Run `veval WORDS` in the folder `cwd`."""
    return run(cli.main, *words, cwd=cwd, env=env)


def vtrain(*words: object, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """Run `vtrain WORDS` in the folder `cwd`."""
    return run(vtrain_cli.main, *words, cwd=cwd, env=env)


def run(main: Callable[[list[str]], None], *words: object, cwd: Path, env: dict[str, str] | None) -> Done:
    with TemporaryDirectory() as name:
        process = begin(*words, cwd=cwd, env=env, printed=Path(name), main=main)
        process.join()
        assert process.exitcode is not None
        return Done(process.exitcode, *((Path(name) / stream).read_text() for stream in ("stdout", "stderr")))


def begin(
    *words: object,
    cwd: Path,
    env: dict[str, str] | None = None,
    printed: Path,
    main: Callable[[list[str]], None] = cli.main,
) -> ForkProcess:
    """Start a command; its output goes to the files stdout and stderr in `printed`."""
    process = multiprocessing.get_context("fork").Process(
        target=_forked, args=(lambda: main([str(word) for word in words]), cwd, env or {}, printed)
    )
    process.start()
    return process


def _forked(main: Callable[[], None], cwd: Path, env: dict[str, str], printed: Path) -> None:
    os.setpgrp()
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(printed / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
    os.chdir(cwd)
    os.environ.update(env)
    warnings.simplefilter("default")
    torch.set_num_threads(1)
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
