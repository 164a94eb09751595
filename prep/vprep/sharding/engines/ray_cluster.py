"""Connect to a Ray cluster, or start one on this machine, and ask its nodes whether they can do the work."""

import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from vprep.errors import UsageError
from vprep.processors import processors
from vprep.sharding.engines.ray_task import Order, fault_of

RETRIES = 3  # of a task whose worker or node was lost, and of one that ran out of memory
ANSWERS = 20.0  # seconds in which a cluster, and then each of its nodes, must answer
_OBJECT_STORE = 80 << 20  # bytes; nothing but names and numbers goes through it
# Ray sends statistics to its makers, and retries for ever after a task ran out of memory, unless told otherwise.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": str(RETRIES)}


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address` or to one of this machine for this block alone."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    ray = _imported()
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _require_cluster(address)
    handler = signal.getsignal(signal.SIGTERM)
    # Ray prints what happens to workers on stdout, which belongs to the result.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            _connect(ray, address)
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:  # noqa: ANN401  the module
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    alone = {
        "num_cpus": len(processors()),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
    }
    try:
        ray.init(address=address or "local", **quiet, **({} if address else alone))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(_no_cluster(address, str(error))) from None


def nodes_with(ray: Any, processors: int) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the living nodes of the cluster that have so many processors for one task."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= processors]


def require_able(ray: Any, nodes: list[dict[str, Any]], order: Order) -> None:  # noqa: ANN401
    """Refuse a cluster of which a node cannot make the same shards, because it sees or has something else."""
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    check = ray.remote(num_cpus=0, max_retries=RETRIES)(fault_of)
    asked = {
        check.options(scheduling_strategy=place(node["NodeID"], soft=False)).remote(order): _name(node)
        for node in nodes
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWERS)
    for answer in answered:
        try:
            fault = ray.get(answer)
        except ray.exceptions.RayError as error:
            fault = f"it cannot run playspeed ({first_line(error)}); install it there, with Python's search path"
        if fault:
            raise UsageError(f"node {asked[answer]} of the cluster cannot take part: {fault}")
    if silent:
        raise UsageError(f"node {asked[silent[0]]} of the cluster does not answer within {ANSWERS:g} seconds")


def first_line(error: BaseException) -> str:
    """Return the part of an error of Ray that a person wants to read: the last line of a traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]


def _imported() -> Any:  # noqa: ANN401
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.util.scheduling_strategies")
    except ImportError:
        raise UsageError("--engine ray needs Ray; install it with: pip install 'playspeed[ray]'") from None
    return ray


def _require_cluster(address: str) -> None:
    """Refuse an address without a cluster in bounded time; Ray itself would try for minutes, and then end the process.

    A process of its own asks, since Ray's client cannot be interrupted.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UsageError(
            f"--ray-address is '{address}'; it must be HOST:PORT of the cluster's head, as in 10.0.0.5:6379, or auto "
            "for the cluster that this machine belongs to"
        )
    try:
        socket.create_connection((host, int(port)), ANSWERS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(_no_cluster(address, str(error))) from None
    argv = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=ANSWERS, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(_no_cluster(address, "what answers there is not Ray")) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(_no_cluster(address, said[-1] if said else "it is not healthy"))


def _no_cluster(address: str | None, why: str) -> str:
    why = (why.strip().splitlines() or ["no reason given"])[0]
    if not address:
        return f"Ray cannot be started on this machine ({why}); use --engine local"
    return f"no Ray cluster answers at {address} ({why}); name HOST:PORT of its head in --ray-address"


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
