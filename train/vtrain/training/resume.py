"""Continue a run from its last state, which is checked first: anyone may have written the file.

last.pt -> state -> the same videos? -> another length? -> the network, the optimiser and the rest of `Run`
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vprep.errors import UsageError
from vprep.hashing import hash_file
from vtrain import run_folder, torch_file
from vtrain.meeting import demand_same, meeting
from vtrain.run_folder import BEST, LAST, RECIPE, Best, State
from vtrain.training.run import Run
from vtrain.training.training import DataInfo

GROUPS = {"step": int, "model": dict, "optimizer": dict, "data": dict, "validation_losses": list, "sums": dict}
OPTIMIZER_VALUES = {
    "SGD": {"momentum_buffer"}, "LARS": {"momentum_buffer"}, "AdamW": {"step", "exp_avg", "exp_avg_sq"},
}  # fmt: skip
MEANS = {"names": list, "values": Tensor, "steps": int}


def demand_same_state(folder: Path) -> None:
    """Refuse a state that the processes of one training do not all see, as on nodes that share no folder."""
    path = folder / LAST
    if meeting() is not None:
        demand_same(
            {str(path): hash_file(path) if path.is_file() else "no file"},
            "continue a run in a folder that all nodes share, or copy it to each of them",
        )


def state_in(folder: Path) -> State:
    """Return the last state, on the CPU; a UsageError says what is wrong with the file, and what can replace it."""
    path = folder / LAST
    others = run_folder.other_states(folder)
    instead = f"replace it by {others}" if others else "no other state is kept: start another run"
    try:
        state = torch_file.read(path)
        fault = fault_in(state)
    except torch_file.UnreadableError as error:
        fault = str(error)
    if fault:
        raise UsageError(f"{path} is no state of a training ({fault}); {instead}")
    found: State = state
    return found


def fault_in(state: Any) -> str:  # noqa: ANN401  whatever a file holds
    """Return what a state lacks or has of a wrong type; "" where it is one."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}"
    return (
        _missing(state, GROUPS)
        or _missing(state["data"], {"hash": str, "videos": int}, "data.")
        or _missing(state["sums"], MEANS, "sums.")
        or _faulty_values(state)
        or _not_finite(state["model"])
    )


def _missing(group: dict[Any, Any], types: dict[str, type], where: str = "") -> str:
    for name, kind in types.items():
        if name not in group:
            return f"it has no '{where}{name}'"
        if not isinstance(group[name], kind) or isinstance(group[name], bool):
            return f"its '{where}{name}' is a {type(group[name]).__name__}"
    return ""


def _faulty_values(state: State) -> str:
    sums, bad = state["sums"], state.get("bad", [])
    holds = {
        "step": 0 <= state["step"] < 2**62,
        "initial": isinstance(state.get("initial"), str | None),
        "validation_losses": all(isinstance(loss, float) for loss in state["validation_losses"]),
        "sums.names": all(isinstance(name, str) for name in sums["names"]),
        "sums.values": sums["values"].ndim == 2 and sums["values"].shape[1] == len(sums["names"]),
        "sums.steps": 0 <= sums["steps"] < 2**62,
        "sums.epoch_loss": "epoch_loss" not in sums or _is_epoch_loss(sums),
        "bad": isinstance(bad, list) and all(map(_is_bad, bad)),
    }
    return next((f"its '{name}' is damaged" for name, well in holds.items() if not well), "")


def _not_finite(weights: dict[str, Any]) -> str:
    """Return which weight is NaN or infinite: no training saves such a state, and none could go on from it."""
    for name, weight in weights.items():
        if isinstance(weight, Tensor) and not weight.isfinite().all():
            return f"its weights '{name}' are not finite"
    return ""


def _is_epoch_loss(sums: dict[str, Any]) -> bool:
    loss, steps = sums["epoch_loss"], sums.get("epoch_steps")
    return isinstance(loss, Tensor) and loss.ndim == 2 and loss.shape[1] == 1 and type(steps) is int and steps >= 0


def _is_bad(fields: Any) -> bool:  # noqa: ANN401
    return isinstance(fields, list) and len(fields) == 4 and all(isinstance(field, str) for field in fields)


def refuse_other_videos(state: State, folder: Path, data: DataInfo) -> None:
    """Refuse to continue on other videos than those that the run was trained on."""
    if state["data"]["hash"] != data.hash:
        raise UsageError(
            f"{folder} was trained on {state['data']['videos']} videos of other shards than these "
            f"{data.videos}; name its own shards, or start from its weights: --weights {folder}"
        )


def load(run: Run, state: State, folder: Path) -> None:
    """Load the state into `run`."""
    try:
        run.load(state)
        fault = optimizer_fault(run.optimizer)
    except Exception as error:  # torch raises errors of any kind for values that are not its own
        fault = (str(error).splitlines() or [type(error).__name__])[0]
    if fault:
        raise UsageError(
            f"{folder / LAST} was not saved by a training with {RECIPE} ({fault}); "
            "restore the recipe that the run began with"
        )


def optimizer_fault(optimizer: Optimizer) -> str:
    """Return which of the optimiser's values do not fit its weights; "" where all do. torch does not look."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    names = OPTIMIZER_VALUES[type(optimizer).__name__]
    if not set(optimizer.state) <= set(weights):
        return "the optimiser has values of other weights"
    for weight in weights:
        values = optimizer.state.get(weight, {})
        if not isinstance(values, dict) or (values and set(values) != names):
            return f"the optimiser needs {', '.join(sorted(names))} of each weight"
        for name, value in values.items():
            shape = torch.Size() if name == "step" else weight.shape
            if value is not None and getattr(value, "shape", None) != shape:
                return f"the optimiser's {name} does not fit a weight of shape {list(weight.shape)}"
    return ""


# ---- the best epoch


def restore_best(folder: Path, state: State) -> Best | None:
    """Return the best epoch whose state the folder holds; move it to best.pt where a kill came before that."""
    if fault := best_fault(folder, state):
        raise UsageError(
            f"{folder / BEST} {fault}; move it away to continue: the best epoch to come will be kept there"
        )
    return run_folder.restore_best(folder)


def best_fault(folder: Path, state: State) -> str:
    """Return why best.pt is not of the run whose last state is `state`; "" where it is, or is not there.

    Its epoch may lie ahead when the user went back to a kept state.
    """
    path, noted = folder / BEST, Best.read(state.get("best"))
    if not path.exists():
        return ""
    found, data = run_folder.best_in(path), run_folder.header(path).get("data")
    is_best = noted is not None and noted.step == state["step"]  # then a kill may have come before best.pt was replaced
    if found is None:
        return "" if is_best else "is damaged"
    if not isinstance(data, dict) or data.get("hash") != state["data"]["hash"]:
        return "is of another run"
    is_other = found.step <= state["step"] and found != noted and not is_best
    return "is of another run" if is_other else ""
