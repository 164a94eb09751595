"""Stop every command by every signal at random moments, and check what is left.

    python benchmarks/signals.py --cases 200 --seed 1                 # each command in a new Python
    python benchmarks/signals.py --cases 1000 --seed 1 --forked       # vtrain and veval, forked where torch is loaded
    python benchmarks/signals.py --cases 100 --seed 1 --ranks 2       # commands that several processes share

A case is a command, a signal, whom it reaches (the process or its whole group) and a moment. Afterwards:
- the exit code is 128 + the number of the signal, or 0 where the command was done before, and stderr has a sentence
  and no traceback
- no process of the command is left after 5 seconds
- the same command again (a training that has saved: with --resume) is done with exit code 0, and then there is no
  draft, and the outputs are those of a command that was never stopped
"""

import argparse
import contextlib
import faulthandler
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL", "SIGSTOP")
LEFT = 5.0  # seconds in which every process of a stopped command must have ended
LONGEST = 60.0
# The ends of a sentence that says how to go on.
ENDS = ("command again", "to continue", "to begin", "--out run", "and --into tuned")
DRAFTS = re.compile(r"\.draft$|\.tmp$|\.parts$|^\.work$|^\.vprep-doctor-")
TRAINS = "supervised --recipe tiny --out run steps=6 save_every=3 batch=8 workers=2 log_every=2 frames=4 size=16"
SHORT = "test.clips=1 batch=8 workers=2"


@dataclass(frozen=True)
class Command:
    """A command of the toolkit. `same` are outputs whose bytes, `there` those whose names must come back."""

    words: str
    same: tuple[str, ...] = ()
    there: tuple[str, ...] = ()
    shared: bool = False  # several processes can share it
    copies: tuple[str, ...] = ()  # inputs that it changes

    @property
    def program(self) -> str:
        return self.words.split()[0]


SET = ("out/dataset.json", "out/index.parquet", "out/000.tar", "out/failures.parquet")
COMMANDS = [
    Command("vprep shard videos --out out --shards 3 --size 24x32", SET),
    Command("vprep plan videos --sample 4 --shards 3"),
    Command("vprep index foreign", ("foreign/dataset.json", "foreign/index.parquet"), copies=("foreign",)),
    Command("vprep verify data_shards --depth frames"),
    Command("vprep stats data_shards"),
    Command("vprep subset data_shards --rule classes:classes.txt --out chosen.parquet", ("chosen.parquet",)),
    Command("vprep show data_shards --out video.mp4", ("video.mp4",)),
    Command("vprep synth --out made --classes 3 --per-class 4 --seconds 0.8", ("made/ucfTrainTestlist/classInd.txt",)),
    Command("vprep retry data_shards", ("data_shards/000.tar",), copies=("data_shards",)),
    Command("vprep doctor --out ."),
    Command(f"vtrain {TRAINS}", there=("run/last.pt", "run/metrics.jsonl"), shared=True),
    Command("vtrain bench step pace --recipe tiny --seconds 0.5"),
    Command("vtrain bench loader --seconds 0.3 --workers 1"),
    Command("vtrain export trained --out net.safetensors", ("net.safetensors",)),
    Command("vtrain import weights.pth --from vcop --out imported.safetensors", ("imported.safetensors",)),
    Command("vtrain recipes"),
    Command("vtrain doctor"),
    Command("veval retrieval --weights trained --out found.json --workers 1", there=("found.json",)),
    Command("veval linear --weights trained --out found.json --workers 1", there=("found.json",)),
    Command("veval knn --weights trained --out found.json --workers 1", there=("found.json",)),
    Command("veval features --weights trained --out f.parquet --workers 1", ("f.parquet",), shared=True),
    Command(f"veval finetune --weights trained --into tuned --out found.json steps=3 {SHORT}",
            there=("found.json", "tuned/last.pt"), shared=True),
    Command("veval test --weights finetuned --out found.json --logits logits.parquet --workers 1 clips=1",
            ("logits.parquet",), there=("found.json",), shared=True),
    Command("veval report results"),
]  # fmt: skip


@dataclass
class Case:
    """One run of a command that a signal reaches at a moment, and what was wrong afterwards."""

    command: Command
    name: str
    group: bool
    moment: float
    folder: Path
    codes: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        whom = "group" if self.group else "process"
        return f"{self.command.words.split()[:2]} {self.name} to the {whom} at {self.moment:.3f} s: {self.codes}"


class Runner:
    """Starts commands, alone or as ranks, in a new Python or forked from this one."""

    def __init__(self, ranks: int, forked: bool) -> None:
        self.ranks, self.forked = ranks, forked

    def start(self, words: str, folder: Path, mark: str) -> list[int]:
        port = _free_port()
        return [
            self._start(words, folder, mark, self._environment(mark, rank, port), rank) for rank in range(self.ranks)
        ]

    def _environment(self, mark: str, rank: int, port: int) -> dict[str, str]:
        env = {"STOPPED_CASE": mark, "OMP_NUM_THREADS": "1"}
        if self.ranks > 1:
            env |= dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank))
            env |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(self.ranks))
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        return env

    def _start(self, words: str, folder: Path, mark: str, env: dict[str, str], rank: int) -> int:
        program, *rest = words.split()
        said = folder / f"said-{rank}.txt"
        said.touch()
        if not self.forked:
            with said.open("wb") as file:
                argv = [sys.executable, "-m", program, *rest]
                return subprocess.Popen(
                    argv, cwd=folder, env=os.environ | env, stdout=file, stderr=file, start_new_session=True
                ).pid
        number = os.fork()
        if number == 0:
            _as_command(program, rest, folder, said, env)
        return number


def _as_command(program: str, words: list[str], folder: Path, said: Path, env: dict[str, str]) -> None:
    """Be the command, in a process that was forked."""
    code = 1
    try:
        os.setsid()
        for descriptor in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1, closefd=False) for descriptor in (1, 2))
        os.chdir(folder)
        os.environ.update(env)
        from vprep import signals

        signals.end_at_once(program)
        faulthandler.dump_traceback_later(LONGEST - 10, file=sys.stderr)  # where a command hangs
        sys.modules[f"{program}.cli"].main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def ended(numbers: list[int], seconds: float = LONGEST) -> list[int]:
    """Wait for processes and return their exit codes; what does not end in time is killed and has code 999.

    When one of several has ended with an error, the others get SIGTERM, as from torchrun.
    """
    codes: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while len(codes) < len(numbers):
        for number in set(numbers) - set(codes):
            found, status = os.waitpid(number, os.WNOHANG)
            if found:
                codes[number] = os.waitstatus_to_exitcode(status)
                for other in set(numbers) - set(codes) if codes[number] else ():
                    os.kill(other, signal.SIGTERM)
            elif time.monotonic() > deadline:
                os.killpg(number, signal.SIGKILL)
                os.waitpid(number, 0)
                codes[number] = 999
        time.sleep(0.005)
    return [codes[number] for number in numbers]


def processes_of(mark: str, sessions: list[int]) -> list[str]:
    """Return the command lines of living processes with this mark in their environment, or of these sessions."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            marked = f"STOPPED_CASE={mark}\0".encode() in (folder / "environ").read_bytes()
            if state != "Z" and (marked or int(session) in sessions):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
    return found


def prepared(folder: Path) -> Path:
    """Make all inputs once: videos, a set, tars without an index, a trained and a fine-tuned run, results."""
    inputs = folder / "inputs"
    inputs.mkdir()
    for words in (
        "vprep synth --out videos --classes 3 --per-class 8 --seconds 0.8",
        "vprep shard videos --out data_shards --shards 3 --size 24x32",
        "vtrain supervised --recipe tiny --out trained steps=2 batch=8 workers=0 frames=4 size=16",
        "veval finetune --weights trained --into finetuned --out results/one.json steps=2 test.clips=1 batch=8",
    ):
        program, *rest = words.split()
        subprocess.run([sys.executable, "-m", program, *rest], cwd=inputs, check=True, capture_output=True)
    (inputs / "foreign").mkdir()
    for tar in (inputs / "data_shards").glob("*.tar"):
        shutil.copy(tar, inputs / "foreign")
    names = json.loads((inputs / "data_shards" / "dataset.json").read_text())["classes"]
    (inputs / "classes.txt").write_text("\n".join(names[:2]) + "\n")
    _vcop_weights(inputs / "weights.pth")
    return inputs


def _vcop_weights(path: Path) -> None:
    import torch

    from vtrain.backbones import backbone

    def named(name: str) -> str:
        return re.sub(r"^conv(\d)\.(\w)\.(conv|bn)", lambda found: _vcop_name(*found.groups()), name)

    torch.save({named(name): value for name, value in backbone("c3d").state_dict().items()}, path)


def _vcop_name(block: str, part: str, kind: str) -> str:
    return f"{kind}{block}{part if int(block) > 2 else ''}"


def new_folder(inputs: Path, folder: Path, command: Command) -> Path:
    """Make the folder of a case: its inputs are links, or copies where the command changes them."""
    folder.mkdir()
    for path in inputs.iterdir():
        if path.name in command.copies:
            shutil.copytree(path, folder / path.name)
        else:
            (folder / path.name).symlink_to(path)
    return folder


def again(command: Command, folder: Path) -> str:
    """Return the command by which a user goes on."""
    has_saved = command.program == "vtrain" and (folder / "run" / "last.pt").exists()
    return "vtrain supervised --resume run" if has_saved else command.words


def carried_out(case: Case, runner: Runner, reference: Path, mark: str) -> Case:
    """Start the command, send the signal, and note everything that is wrong."""
    numbers = runner.start(case.command.words, case.folder, mark)
    time.sleep(case.moment)
    number = signal.Signals[case.name]
    send: Callable[[int, int], None] = os.killpg if case.group else os.kill
    for process in numbers if case.group else numbers[-1:]:
        with contextlib.suppress(ProcessLookupError):
            send(process, number)
    if case.name == "SIGSTOP":
        time.sleep(0.5)
        for process in numbers if case.group else numbers[-1:]:
            with contextlib.suppress(ProcessLookupError):
                send(process, signal.SIGCONT)
    case.codes = ended(numbers)
    _check_end(case, number, mark, numbers)
    _check_again(case, runner, reference, mark)
    return case


def _check_end(case: Case, number: int, mark: str, sessions: list[int]) -> None:
    said = [path.read_text(errors="replace") for path in sorted(case.folder.glob("said-*.txt"))]
    allowed = {0, -number} if case.name == "SIGKILL" else {0} if case.name == "SIGSTOP" else {0, 128 + number}
    if len(sessions) > 1:
        allowed |= {1, 143}  # a process whose partner has gone
    early = case.moment < 0.3  # before Python has called the first line of the toolkit
    for rank, (code, words) in enumerate(zip(case.codes, said, strict=True)):
        if code not in allowed and not (early and code == -number):
            case.wrong.append(f"exit code {code}")
        if "Traceback" in words and not (early and "signals" not in words):
            case.wrong.append("traceback")
        if code >= 128 and words.rstrip().endswith(ENDS) != (rank == 0):  # only the first rank says it
            case.wrong.append("no sentence" if rank == 0 else "a sentence of another rank")
    deadline = time.monotonic() + LEFT
    while (left := processes_of(mark, sessions)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        case.wrong.append(f"left: {left}")


def _check_again(case: Case, runner: Runner, reference: Path, mark: str) -> None:
    for path in case.folder.glob("said-*.txt"):
        path.rename(path.with_name(f"first-{path.name}"))
    finished = "found.json" if case.command.program == "veval" else ""
    if finished and (case.folder / finished).exists():
        (case.folder / finished).unlink()
    codes = ended(runner.start(again(case.command, case.folder), case.folder, mark))
    done = case.command.program == "vtrain" and case.codes == [0] * len(codes)
    if any(codes) and not done:
        case.wrong.append(f"again: exit codes {codes}")
    left = [str(path.relative_to(case.folder)) for path in case.folder.rglob("*") if DRAFTS.search(path.name)]
    if left:
        case.wrong.append(f"drafts: {left}")
    for name in case.command.there:
        if not (case.folder / name).exists():
            case.wrong.append(f"{name} is missing")
    for name in case.command.same:
        path = case.folder / name
        if not path.exists() or path.read_bytes() != (reference / name).read_bytes():
            case.wrong.append(f"{name} differs")


def pair(chosen: list[Command], count: int) -> tuple[Command, str]:
    """Return command and signal of a case: commands in turn, each time with the signal after its last one."""
    turn, at = divmod(count, len(chosen))
    return chosen[at], SIGNALS[(turn + at) % len(SIGNALS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--forked", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of commands' words; default: all")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after this time")
    args = parser.parse_args()
    if args.forked:
        sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
        import commands  # noqa: F401  loads torch and all commands once
        import torch

        torch.set_num_threads(1)
    draw, runner = random.Random(args.seed), Runner(args.ranks, args.forked)
    programs = ("vtrain", "veval") if args.forked else ("vprep", "vtrain", "veval")
    chosen = [
        command for command in COMMANDS
        if any(part in command.words for part in args.only)
        and command.program in programs
        and (args.ranks == 1 or command.shared)
    ]  # fmt: skip
    failed = count = 0
    with tempfile.TemporaryDirectory(prefix="signals-") as name:
        folder, began = Path(name), time.monotonic()
        inputs, took = prepared(folder), {}
        for at, command in enumerate(chosen):
            reference, start = new_folder(inputs, folder / f"reference-{at}", command), time.monotonic()
            codes = ended(runner.start(command.words, reference, f"reference-{at}"))
            took[command] = (time.monotonic() - start, reference)
            print(f"{command.words}: {codes}, {took[command][0]:.1f} s", flush=True)
        while count < args.cases and time.monotonic() - began < args.seconds:
            command, signal_name = pair(chosen, count)
            seconds, reference = took[command]
            moment = draw.uniform(0, 0.5 if draw.random() < 0.2 else seconds)
            group = signal_name != "SIGKILL" and draw.random() < 0.5
            case = Case(command, signal_name, group, moment, new_folder(inputs, folder / f"case-{count}", command))
            carried_out(case, runner, reference, f"case-{args.seed}-{count}-{os.getpid()}")
            count += 1
            if case.wrong:
                failed += 1
                print(f"{case}\n  wrong: {case.wrong}", flush=True)
                for path in sorted(case.folder.glob("*said-*.txt")):
                    print(
                        "  ", path.name, *path.read_text(errors="replace").splitlines()[-12:], sep="\n    ", flush=True
                    )
            shutil.rmtree(case.folder, ignore_errors=True)
    print(f"{count} cases, {failed} with something wrong")


if __name__ == "__main__":
    main()
