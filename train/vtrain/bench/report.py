"""Sentences and tables about the measurements of `vtrain bench step` and `vtrain bench all`."""

from math import ceil

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vtrain.bench.loader import ENOUGH, Measured

MUCH = 0.2  # of a step: augmentation that takes more is mentioned
KERNELS = {"cudnn_default": "cuDNN's choice of kernels", "cudnn_benchmark": "cuDNN's search for kernels"}


def bottleneck(measured: Measured) -> str:
    """Return the slower side: loader or model, or the processors that both share on a CPU."""
    if measured["device"] == "cpu" and measured["ratio"] < ENOUGH:
        return "processors"
    return "loader" if measured["loader"]["videos_per_s"] < measured["model"]["videos_per_s"] else "model"


def advice_on_both(measured: Measured) -> list[str]:
    """Return advice that makes model and loader together faster."""
    lines = {"loader": on_loader, "model": on_model, "processors": on_processors}[measured["bottleneck"]](measured)
    if measured["device"] != "cpu" and measured["ratio"] < ENOUGH:
        most = measured["processors"]
        what = "something else delays the steps: try other numbers of workers"
        if measured["workers"] >= most > 1:
            what = f"leave one processor to the process that feeds the GPU: set workers={most - 1}"
        lines.append(f"together they reach {measured['ratio']:.0%} of the slower one's speed; {what}")
    return lines


def on_loader(measured: Measured) -> list[str]:
    workers, most = measured["workers"], measured["processors"]
    missing = measured["model"]["videos_per_s"] / measured["loader"]["videos_per_s"]
    needed = ceil(max(1, workers) * missing)
    found = f"the model is {missing:.2g} times as fast as the loader"
    if workers >= most:
        return [
            f"{found}, and all {most} processors decode already: use smaller frames (vprep shard --size) or more "
            "processors; vtrain bench loader shows which stage is slow"
        ]
    if needed > most:
        return [f"{found}: set workers={most}; {needed} workers would keep up"]
    return [f"{found}: set workers={needed}"]


def on_model(measured: Measured) -> list[str]:
    return ["the model is slower than the loader: more workers do not help", *advice_on_model(measured)]


def on_processors(measured: Measured) -> list[str]:
    return [
        f"the network and the workers share {measured['processors']} processors and together reach "
        f"{measured['ratio']:.0%} of the slower one's speed: use a GPU or a smaller network"
    ]


def advice_on_model(measured: Measured) -> list[str]:
    """Return advice that makes the model alone faster."""
    parts = measured["model"]["parts_ms"]
    share = parts["augment"] / sum(parts.values())
    lines = []
    if share > MUCH:
        lines.append(f"augmentation takes {share:.0%} of a step: leave out augmentations that are not needed")
    if measured["device"] != "cpu" and measured["precision"] == "float32":
        lines.append("the GPU computes in float32: set precision=auto for bf16")
    return lines


def as_table(measured: Measured) -> Group:
    """Return the measurements of either command as tables and sentences for people."""
    frames, height, width = measured["clip"]
    heading = (
        f"{measured['recipe']}: {measured['backbone']}, {measured['batch']} videos per step, clips of "
        f"{frames} x {height} x {width}, {measured['precision']} on {measured['device']}"
    )
    both = "together" in measured
    lines = [*(_about_both(measured) if both else _about_step(measured)), *measured["advice"]]
    speeds = [_speeds(measured)] if both else []
    return Group(Text(heading), _parts(measured["model"]), *speeds, *map(Text, lines))


def _parts(model: Measured) -> Table:
    total = sum(model["parts_ms"].values())
    table = Table("part of a step", "ms", "share", title=f"{model['step_ms']:.1f} ms per step, {model['memory_mb']} MB")
    for name, ms in model["parts_ms"].items():
        table.add_row(name, f"{ms:.2f}", f"{ms / total:.0%}")
    return table


def _speeds(measured: Measured) -> Table:
    table = Table("", "videos/s", "clips/s")
    alone = {"model": "model alone", "loader": f"loader alone, workers={measured['workers']}"}
    for name, title in (alone | {"together": "together"}).items():
        table.add_row(title, *(f"{measured[name][rate]:.1f}" for rate in ("videos_per_s", "clips_per_s")))
    return table


def _about_both(measured: Measured) -> list[str]:
    slower = "model" if measured["model"]["videos_per_s"] <= measured["loader"]["videos_per_s"] else "loader"
    return [
        f"together: {measured['ratio']:.1%} of the speed of the {slower} alone; "
        f"{measured['together']['waited']:.0%} of the time is spent waiting for the loader",
        f"bottleneck: {measured['bottleneck']}",
    ]


def _about_step(measured: Measured) -> list[str]:
    model, bare = measured["model"], measured["bare"]
    lines = [
        f"{model['videos_per_s']:.1f} videos/s, {model['clips_per_s']:.1f} clips/s, "
        f"{measured['tflop_per_s']:.3g} TFLOP/s",
        f"a step takes {measured['over_bare']:.2f} times as long as forward and backward of the backbone alone on the "
        f"{bare['clips']} clips that it learns from ({bare['ms']:.1f} ms)",
    ]
    published = "as published code runs (eager, float32, channels first)"
    if "as_authors" in measured and measured["as_authors"] is None:
        lines.append(f"{published}, the step does not fit into this GPU's memory")
    for name, found in (measured.get("as_authors") or {}).items():
        lines.append(
            f"{published}, with {KERNELS[name]}: {found['videos_per_s']:.1f} videos/s; "
            f"ours is {found['times']:.2f} times as fast"
        )
    return lines
