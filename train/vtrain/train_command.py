"""The command `vtrain METHOD`, for built-in methods, those of installed packages and `module:name`."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from vprep import plugins
from vprep.errors import UsageError
from vtrain.options import SHARDS, Backbone, Json, Recipe, Settings, Subset
from vtrain.output import show

RUNS = Path("runs")
MAY_CHANGE = ("workers", "log_every", "save_every", "keep_every")  # settings that no result depends on


class Commands(TyperGroup):
    """The commands of vtrain, and one for each method from outside, whose package is imported when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  a context of the click that typer has inside
        return list(dict.fromkeys([*super().list_commands(ctx), *plugins.installed("method")]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        return super().get_command(ctx, cmd_name) or _outside(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except Exception as error:
            if hasattr(error, "message") and self.get_command(ctx, args[0]) is None:
                error.message = _no_command(args[0], self.list_commands(ctx))
            raise
        if name is not None and name not in self.commands and "--help" in rest:
            command = _outside(name, imported=True)
        return name, command, rest


def _no_command(word: str, commands: list[str]) -> str:
    close = get_close_matches(word, commands, 1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    return f"No such command '{word}'.{meant} A method of your own is written module:METHOD."


def _outside(word: str, *, imported: bool = False) -> Any:  # noqa: ANN401
    """Return the command of a method from outside; None where `word` is none.

    An installed method is imported only if it is asked for; then the command's help shows the method's summary.
    """
    points = plugins.installed("method")
    if ":" in word or (imported and word in points):
        from vtrain.methods import registry

        summary = registry.named(word).summary
    elif word in points:
        summary = f"Method of the installed package {plugins.package_of(points[word])}."
    else:
        return None
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(word, help=summary)(training_by(word))
    return get_command(app)


def training_by(word: str) -> Callable[..., None]:
    """Return the function of the command that trains by the method `word`."""

    def command(
        settings: Settings = None,
        shards: Annotated[str | None, typer.Option(help=SHARDS)] = None,
        recipe: Recipe = "released",
        backbone: Backbone = None,
        out: Annotated[Path | None, typer.Option(help="Folder of the run. [default: runs/METHOD-TIME]")] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Continue the run with its own recipe.")] = False,
        weights: Annotated[
            Path | None, typer.Option(help="Initial backbone weights: a run's folder or a file.")
        ] = None,
        subset: Subset = None,
        json: Json = False,
    ) -> None:
        words = settings or []
        if resume:
            fixed = {"--recipe": recipe != "released", "--weights": weights, "--subset": subset}
            summary = _resume(word, words, shards, backbone, out, [name for name, given in fixed.items() if given])
        else:
            given = {"data.shards": shards, "weights": weights, "data.subset": subset}
            changes = [f"{name}={value}" for name, value in given.items() if value is not None]
            summary = _start(word, recipe, backbone, changes + words, out)
        if os.environ.get("RANK", "0") == "0":  # only the first of several processes prints
            show(summary, json, _for_people)

    return command


def _start(word: str, recipe: str, backbone: str | None, changes: list[str], out: Path | None) -> dict[str, Any]:
    from vtrain.overrides import change
    from vtrain.recipes import find
    from vtrain.training.inputs import early

    chosen = change(find(word, recipe, backbone), changes)
    inputs = early(chosen, out)
    from vtrain.training.train import train  # after all that can be refused without torch

    return train(chosen, out, inputs=inputs)


def _resume(
    word: str, words: list[str], shards: str | None, backbone: str | None, out: Path | None, fixed: list[str]
) -> dict[str, Any]:
    """Continue a run. `fixed` are the given options that only a new run may have."""
    from vtrain.methods import registry
    from vtrain.overrides import change
    from vtrain.run_folder import newest
    from vtrain.training.inputs import command_of, early, recipe_in

    method = registry.named(word).name
    if bare := next((setting for setting in words if "=" not in setting), None):
        raise UsageError(f"'{bare}' is no setting; the folder of a run is named by --out: --resume --out {bare}")
    folder = out or newest(RUNS, method)
    if folder is None:
        raise UsageError(f"no run of {method} in {RUNS}/ has saved its state; name the folder of a run by --out")
    recipe = recipe_in(folder)
    if recipe.method_name != method:
        raise UsageError(f"{folder} is a run of {recipe.method_name}; write: vtrain {command_of(recipe)} --resume")
    if backbone not in (None, recipe.backbone):
        fixed = [f"--backbone {backbone}", *fixed]
    refused = [setting for setting in words if setting.partition("=")[0] not in MAY_CHANGE] + fixed
    if refused:
        raise UsageError(
            f"{refused[0]} with --resume, which continues with the run's own recipe; only {', '.join(MAY_CHANGE)} may "
            "change: leave it out, or start another run"
        )
    changes = [] if shards is None else [f"data.shards={shards}"]
    chosen = change(recipe, changes + words)
    inputs = early(chosen, folder, resume=True)
    from vtrain.training.train import train

    return train(chosen, folder, resume=True, inputs=inputs)


def _for_people(summary: dict[str, Any]) -> str:
    from vtrain.run_folder import Best

    numbers = {name.replace("_", " "): value for name, value in summary.items() if isinstance(value, float)}
    listed = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
    backbone = f" --backbone {summary['backbone']}" if ":" in summary["backbone"] else ""
    return "\n".join((
        f"{summary['run']}: {summary['steps']} steps of {summary['recipe']}, {listed}",
        *([f"best.pt: {Best(**summary['best'])}"] if "best" in summary else []),
        f"next: veval retrieval --weights {summary['run']}{backbone}",
    ))  # fmt: skip
