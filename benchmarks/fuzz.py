"""Change the files that the commands read, thousands of times, and read them as the commands do.

    python benchmarks/fuzz.py                        # every kind of file, 1,000 cases each
    python benchmarks/fuzz.py state recipe --cases 5000 --seed 7

Each case may be read or refused in a sentence. A finding is anything else: another exception, more than --seconds or
--memory, a process that dies, a file written outside the case's own folder, a program started, a connection opened, or
a module imported because a file names it. The kinds stand in tests/support/fuzzed. Needs Linux.
"""

import argparse
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from fuzzed import Kind, faults, kinds

STARTS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork", "os.forkpty", "pty.spawn")
CONNECTS = ("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CANARY = "canary"  # a module that mutated files name, and that nothing may import


@dataclass(slots=True)
class Outcome:
    """What the cases of a kind came to."""

    cases: int = 0
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds
    most: int = 0  # bytes


class Watch:
    """Notes what the process does that no reader of files may do. Outside of `folder` nothing may be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.seen: list[str] = []
        self.active = False
        sys.addaudithook(self._look)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find no module; note who looks for one that only a file can have named."""
        if self.active and name.partition(".")[0] == CANARY:
            self.seen.append(f"import {name}")

    def _look(self, event: str, args: tuple[object, ...]) -> None:
        if not self.active:
            return
        if event in (*STARTS, *CONNECTS):
            self.seen.append(f"{event} {args[:2]}")
        elif event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITES):
            path = os.path.abspath(os.fsdecode(args[0])) if isinstance(args[0], str | bytes) else ""
            if path and not path.startswith((self.folder, "/dev/null")):
                self.seen.append(f"{event} {path}")


def peak() -> int:
    """Return the most bytes that the process has held since the last call, and begin anew."""
    text = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


def work(kind: Kind, good: bytes, path: Path, seeds: range, memory: int, pipe: Connection) -> None:
    """Run the cases of `seeds`, and send (seed, findings, seconds, bytes) after each. Runs in a process of its own."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with its parent
    os.chdir(path.parent)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * memory, now + 2 * memory))
    watch = Watch(path.parent)
    for seed in seeds:
        pipe.send(seed)
        peak()
        before, began = peak(), time.monotonic()
        watch.active = True
        found = faults(kind, good, path, seed)
        watch.active = False
        seconds, taken = time.monotonic() - began, peak() - before
        found += [f"{kind.name}, seed {seed}: {what}" for what in watch.seen]
        found += [f"{kind.name}, seed {seed}: {taken >> 20} MB"] if taken > memory else []
        watch.seen.clear()
        pipe.send((found, seconds, taken))


def run(kind: Kind, seeds: range, seconds: float, memory: int) -> Outcome:
    """Run all cases of a kind; a process that hangs or dies is replaced, and its case is a finding."""
    outcome = Outcome()
    while len(seeds):
        with tempfile.TemporaryDirectory() as name:
            path = kind.make(Path(name).resolve())
            ours, theirs = multiprocessing.Pipe()
            words = (kind, path.read_bytes(), path, seeds, memory, theirs)
            child = multiprocessing.get_context("fork").Process(target=work, args=words)
            child.start()
            theirs.close()
            reached = follow(ours, outcome, seconds, kind.name)
            child.kill()
            child.join()
        seeds = range(reached + 1, seeds.stop)
    return outcome


def follow(pipe: Connection, outcome: Outcome, seconds: float, name: str) -> int:
    """Collect what the process sends until it ends; return its last seed."""
    seed = sys.maxsize  # of a process that ends before its first case
    try:
        while True:
            seed = pipe.recv()
            outcome.cases += 1
            if not pipe.poll(seconds):
                outcome.findings.append(f"{name}, seed {seed}: more than {seconds:g} seconds")
                return seed
            try:
                found, took, taken = pipe.recv()
            except (EOFError, ConnectionResetError):
                outcome.findings.append(f"{name}, seed {seed}: the process died")
                return seed
            outcome.findings += found
            outcome.slowest, outcome.most = max(outcome.slowest, took), max(outcome.most, taken)
    except (EOFError, ConnectionResetError):
        return seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="kinds of files; default: all")
    parser.add_argument("--cases", type=int, default=1000, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--seconds", type=float, default=20, help="limit of a case, all readers together")
    parser.add_argument("--memory", type=float, default=2, help="limit of a case in GiB")
    chosen = parser.parse_args()
    known, failed = kinds(), False
    if unknown := set(chosen.kinds) - known.keys():
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(known)}")
    print(f"{'kind':<34}{'cases':>8}{'findings':>10}{'slowest s':>11}{'most MB':>9}")
    for name in chosen.kinds or known:
        seeds = range(chosen.seed, chosen.seed + chosen.cases)
        outcome = run(known[name], seeds, chosen.seconds, int(chosen.memory * (1 << 30)))
        findings = outcome.findings
        row = f"{outcome.cases:>8}{len(findings):>10}{outcome.slowest:>11.1f}{outcome.most >> 20:>9}"
        print(f"{name:<34}{row}", flush=True)
        for text, count in Counter(findings).most_common(20):
            print(f"  {count}x {text}", file=sys.stderr)
        failed = failed or bool(findings)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
