"""What follows from the times of `vtrain bench step` and `vtrain bench all`: sentences and tables for people."""

from math import ceil
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vtrain.bench.loader import ENOUGH

Facts = dict[str, Any]

MUCH = 0.2  # of a step: augmentation that takes more is spoken of
LAYOUTS = {"cudnn_default": "cuDNN's choice of kernels", "cudnn_benchmark": "cuDNN's search for kernels"}


def bottleneck(facts: Facts) -> str:
    """Who is waited for; on a CPU, where both want the same processors, these may be it."""
    if facts["device"] == "cpu" and facts["ratio"] < ENOUGH:
        return "processors"
    return "loader" if facts["loader"]["videos_per_s"] < facts["model"]["videos_per_s"] else "model"


def advice_on_both(facts: Facts) -> list[str]:
    lines = {"loader": on_loader, "model": on_model, "processors": on_processors}[facts["bottleneck"]](facts)
    if facts["device"] != "cpu" and facts["ratio"] < ENOUGH:
        most = facts["processors"]
        what = "the GPU waits for something else between the steps: try other numbers of workers"
        if facts["workers"] >= most > 1:
            what = f"leave one processor to what feeds the GPU: workers={most - 1}"
        lines.append(f"together they reach {facts['ratio']:.0%} of the slower one; {what}")
    return lines


def on_loader(facts: Facts) -> list[str]:
    workers, most = facts["workers"], facts["processors"]
    missing = facts["model"]["videos_per_s"] / facts["loader"]["videos_per_s"]
    needed = ceil(max(1, workers) * missing)
    said = f"the model could take {missing:.2g} times what the loader gives"
    if workers >= most:
        return [
            f"{said}, and all {most} processors decode: smaller frames (vprep shard --size) or more processors help; "
            "vtrain bench loader shows where the time goes"
        ]
    if needed > most:
        return [f"{said}: set workers={most}, though {needed} would be needed to keep up"]
    return [f"{said}: set workers={needed}"]


def on_model(facts: Facts) -> list[str]:
    return ["the model is slower than the loader: more workers do not help", *advice_on_model(facts)]


def on_processors(facts: Facts) -> list[str]:
    return [
        f"network and workers share {facts['processors']} processors, so together they reach {facts['ratio']:.0%} of "
        "the slower one: a GPU helps, or a smaller network"
    ]


def advice_on_model(facts: Facts) -> list[str]:
    parts = facts["model"]["parts_ms"]
    share = parts["augment"] / sum(parts.values())
    lines = []
    if share > MUCH:
        lines.append(f"augmentation is {share:.0%} of a step: leave out what the looks can do without")
    if facts["device"] != "cpu" and facts["precision"] == "float32":
        lines.append("the GPU computes in float32: set precision=auto, which takes bf16")
    return lines


def as_table(facts: Facts) -> Group:
    """The facts of either command, for people."""
    frames, height, width = facts["clip"]
    where = (
        f"{facts['recipe']}: {facts['backbone']}, {facts['batch']} videos a step, clips of "
        f"{frames} x {height} x {width}, {facts['precision']} on {facts['device']}"
    )
    both = "together" in facts
    said = [*(_of_both(facts) if both else _of_step(facts)), *facts["advice"]]
    return Group(Text(where), _parts(facts["model"]), *([_speeds(facts)] if both else []), *map(Text, said))


def _parts(model: Facts) -> Table:
    whole = sum(model["parts_ms"].values())
    table = Table("part of a step", "ms", "share", title=f"{model['step_ms']:.1f} ms a step, {model['memory_mb']} MB")
    for name, spent in model["parts_ms"].items():
        table.add_row(name, f"{spent:.2f}", f"{spent / whole:.0%}")
    return table


def _speeds(facts: Facts) -> Table:
    table = Table("", "videos/s", "clips/s")
    names = {"model": "model alone", "loader": f"loader alone, workers={facts['workers']}", "together": "together"}
    for name, said in names.items():
        table.add_row(said, *(f"{facts[name][rate]:.1f}" for rate in ("videos_per_s", "clips_per_s")))
    return table


def _of_both(facts: Facts) -> list[str]:
    slower = "model" if facts["model"]["videos_per_s"] <= facts["loader"]["videos_per_s"] else "loader"
    return [
        f"together: {facts['ratio']:.1%} of the {slower} alone; {facts['together']['waited']:.0%} of the time is spent "
        "waiting for the loader",
        f"bottleneck: {facts['bottleneck']}",
    ]


def _of_step(facts: Facts) -> list[str]:
    model, bare = facts["model"], facts["bare"]
    lines = [
        f"{model['videos_per_s']:.1f} videos/s, {model['clips_per_s']:.1f} clips/s, {facts['tflop_per_s']:.3g} TFLOP/s",
        f"a step takes {facts['over_bare']:.2f} times the backbone's forward and backward of the {bare['clips']} clips "
        f"it learns from ({bare['ms']:.1f} ms)",
    ]
    if "as_authors" in facts and facts["as_authors"] is None:
        lines.append("eager, in float32 and channels first, the step does not fit into this GPU's memory")
    for name, found in (facts.get("as_authors") or {}).items():
        lines.append(
            f"eager, in float32 and channels first, with {LAYOUTS[name]}: {found['videos_per_s']:.1f} videos/s; "
            f"ours is {found['times']:.2f} times as fast"
        )
    return lines
