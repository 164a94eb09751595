"""Connect to a Ray cluster, or start one on this machine, and ask its nodes whether they can do the work."""

import contextlib
import importlib
import importlib.util
import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from typing import Any

from vprep.errors import UsageError
from vprep.processors import processors
from vprep.sharding.engines.ray_task import Order, fault_of

_NO_RAY = "--engine ray needs Ray; install it with: pip install 'playspeed[ray]'"
RETRIES = 3  # of a task whose worker or node was lost, and of one that ran out of memory
ANSWERS = 20.0  # seconds in which a cluster, and then each of its nodes, must answer
_GRPC_BEGINS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and empty settings
_SETTINGS_FRAME = b"\x04"  # the fourth byte of what a server of HTTP/2 says first
_OBJECT_STORE = 80 << 20  # bytes; nothing but names and numbers goes through it
# Unless told otherwise, Ray sends statistics to its makers, retries for ever after a task ran out of memory, and gives
# tasks the lowest priority of all processes.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": str(RETRIES), "RAY_worker_niceness": "0"}


_OF_TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address` or to one of this machine for this block alone."""
    for name, value in (_SETTINGS if address else _SETTINGS | _own_token()).items():
        os.environ.setdefault(name, value)
    ray = importlib.import_module("ray")
    importlib.import_module("ray.util.scheduling_strategies")
    handler = signal.getsignal(signal.SIGTERM)
    # Ray prints what happens to workers on stdout, which belongs to the result.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            _connect(ray, address)
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own
            yield ray
        finally:
            ray.shutdown()


def _own_token() -> dict[str, str]:
    """Return a token for a cluster of this command alone, where Ray would write one into the home folder."""
    if any(name in os.environ for name in _OF_TOKENS):
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _connect(ray: Any, address: str | None) -> None:  # noqa: ANN401  the module
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    alone = {
        "num_cpus": len(processors()),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
    }
    try:
        ray.init(address=address or "local", **quiet, **({} if address else alone))
    except (OSError, RuntimeError, ValueError, AssertionError, SystemExit, ray.exceptions.RayError) as error:
        raise UsageError(no_cluster(address, str(error))) from None


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
        except ray.exceptions.TaskUnschedulableError:  # a node that was lost just now
            fault = ""
        except ray.exceptions.RayError as error:
            fault = f"it cannot run playspeed ({first_line(error)})"
        if fault:
            raise UsageError(f"node {asked[answer]} of the cluster cannot take part: {fault}")
    if silent:
        raise UsageError(
            f"node {asked[silent[0]]} of the cluster does not answer within {ANSWERS:g} seconds; restart Ray on it"
        )


def first_line(error: BaseException) -> str:
    """Return the sentence of an error of Ray that says why: that below a traceback, or else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
    return line.partition(". ")[0].rstrip(".")


def require_cluster(address: str | None) -> None:
    """Refuse an address without a gRPC server, in seconds; Ray would try for minutes, and end the process."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError(_NO_RAY)
    if address in (None, "", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UsageError(
            f"--ray-address is '{address}'; it must be HOST:PORT of the cluster's head, as in 10.0.0.5:6379, or auto "
            "for the cluster that this machine belongs to"
        )
    try:
        with socket.create_connection((host, int(port)), ANSWERS) as connection:
            connection.sendall(_GRPC_BEGINS)
            kind = connection.recv(4)[3:]
    except (OSError, OverflowError) as error:
        raise UsageError(no_cluster(address, str(error))) from None
    if kind != _SETTINGS_FRAME:
        raise UsageError(no_cluster(address, "what answers there is not Ray"))


def no_cluster(address: str | None, why: str) -> str:
    """Return the sentence for an address that Ray cannot connect to."""
    if address and "token" in why.lower():
        return (
            f"the Ray cluster at {address} asks for its token; set RAY_AUTH_MODE=token, and copy the "
            "file ~/.ray/auth_token of its head to this machine"
        )
    why = (why.strip().splitlines() or ["no reason given"])[0]
    if not address:
        return f"Ray cannot be started on this machine ({why}); use --engine local"
    return f"no Ray cluster answers at {address} ({why}); name HOST:PORT of its head in --ray-address"


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
