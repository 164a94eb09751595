"""The command `vtrain METHOD`, for built-in methods, those of installed packages and `module:name`."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from vprep import plugins, signals
from vprep.errors import UsageError
from vprep.printing import show
from vtrain.meeting import joined
from vtrain.options import SETS, SHARDS, Backbone, Cache, CacheGb, Json, Recipe, Settings, Subset

RUNS = Path("runs")
SHOWN = 3  # changed settings in the last line
UNBEGUN = "stopped before the training began; run the same command again"
# No result depends on these, but for the last two: a run that met a bad video must be able to go on without it.
MAY_CHANGE = ("workers", "log_every", "save_every", "save_minutes", "keep_every", "data.on_error", "data.budget")
LENGTH = ("steps", "epochs")
RESUME = (
    "Continue a run by its own recipe: --resume RUN, or without RUN the newest of the method. steps=N lengthens it."
)


class Commands(TyperGroup):
    """The commands of vtrain, and one for each method from outside, whose package is imported when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  a context of the click that typer has inside
        return list(dict.fromkeys([*super().list_commands(ctx), *plugins.installed("method")]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        return super().get_command(ctx, cmd_name) or _outside(cmd_name, completing=ctx.resilient_parsing)

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


def _outside(word: str, *, imported: bool = False, completing: bool = False) -> Any:  # noqa: ANN401
    """Return the command of a method from outside; None where `word` is none.

    An installed method is imported only if it is asked for; then the command's help shows the method's summary. None is
    imported while the shell completes a command.
    """
    points = plugins.installed("method")
    if completing and ":" in word:
        summary = "Method from outside the package."
    elif ":" in word or (imported and word in points):
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
        resume: Annotated[bool, typer.Option("--resume", help=RESUME)] = False,
        weights: Annotated[
            Path | None, typer.Option(help="Initial backbone weights: a run's folder or a file.")
        ] = None,
        subset: Subset = None,
        cache: Cache = None,
        cache_gb: CacheGb = None,
        json: Json = False,
    ) -> None:
        words = settings or []
        moved = {"data.shards": shards, "data.subset": subset}
        changes = [f"{name}={value}" for name, value in moved.items() if value is not None]
        with joined(), signals.explained(lambda: UNBEGUN):
            if resume:
                given = {"--recipe": recipe != "released", "--weights": weights}
                fixed = [name for name, is_given in given.items() if is_given]
                summary = _resume(word, words, changes, backbone, out, fixed)
            else:
                changes += [] if weights is None else [f"weights={weights}"]
                summary = _start(word, recipe, backbone, changes + words, out)
        if os.environ.get("RANK", "0") == "0":  # only the first of several processes prints
            show(summary, json, _for_people)

    return command


def _start(word: str, recipe: str, backbone: str | None, changes: list[str], out: Path | None) -> dict[str, Any]:
    from vtrain.overrides import change
    from vtrain.recipes import changes_of, find
    from vtrain.training.inputs import early

    for run in filter(_names_run, changes):
        raise UsageError(f"'{run}' is no setting; to continue a run: vtrain {word} --resume {run}")
    chosen = change(find(word, recipe, backbone), with_steps(changes))
    inputs = early(chosen, out)
    from vtrain.training.train import train  # after all that can be refused without torch

    return train(chosen, out, inputs=inputs) | {"changed": changes_of(chosen)}


def _resume(
    word: str, words: list[str], moved: list[str], backbone: str | None, out: Path | None, fixed: list[str]
) -> dict[str, Any]:
    """Continue a run. `moved` are settings that say where its files are now; only a new run may have `fixed` ones."""
    from vtrain.methods import registry
    from vtrain.overrides import change
    from vtrain.recipes import changes_of
    from vtrain.training.inputs import command_of, early, recipe_in

    method = registry.named(word).name
    settings = [setting for setting in words if _is_setting(setting)]
    folder = _run_named([run for run in words if run not in settings], out, method)
    recipe = recipe_in(folder)
    if recipe.method_name != method:
        raise UsageError(
            f"{folder} is a run of {recipe.method_name}; write: vtrain {command_of(recipe)} --resume {folder}"
        )
    if backbone not in (None, recipe.backbone):
        fixed = [f"--backbone {backbone}", *fixed]
    refused = [setting for setting in settings if setting.partition("=")[0] not in (*MAY_CHANGE, *LENGTH)] + fixed
    if refused:
        raise UsageError(
            f"{refused[0]} with --resume, which continues with the run's own recipe; only {', '.join(MAY_CHANGE)} and "
            f"its length ({' or '.join(LENGTH)}) may change: leave it out, or start another run"
        )
    chosen = change(recipe, moved + with_steps(settings))
    inputs = early(chosen, folder, resume=True)
    from vtrain.training.train import train

    return train(chosen, folder, resume=True, inputs=inputs) | {"changed": changes_of(chosen)}


def with_steps(words: list[str]) -> list[str]:
    """Return the settings so that `epochs=` counts, also in a recipe whose length is in steps."""
    keys = {word.partition("=")[0] for word in words}
    return [*words, "steps=none"] if "epochs" in keys and "steps" not in keys else words


def _is_setting(word: str) -> bool:
    """Return whether a word is key=value; a path may have a = in it, too, behind a slash."""
    key, equals, _ = word.partition("=")
    return bool(equals) and "/" not in key


def _names_run(word: str) -> bool:
    from vtrain.run_folder import RECIPE

    return not _is_setting(word) and (Path(word) / RECIPE).is_file()


def _run_named(words: list[str], out: Path | None, method: str) -> Path:
    """Return the run that the words after --resume name; without words that of --out, or the newest of the method."""
    from vtrain.run_folder import newest

    if len(words) > 1:
        raise UsageError(f"--resume continues one run, and {len(words)} are named: {', '.join(words)}; name one")
    if not words:
        folder = out or newest(RUNS, method, to_resume=True)
        if folder is None:
            raise UsageError(f"there is no run of {method} in {RUNS}/; name the folder of a run: --resume RUN")
        return folder
    folder = Path(words[0])
    if out is not None and out != folder:
        raise UsageError(f"--resume names {folder} and --out {out}; name one of them")
    if not folder.is_dir():
        near = [path for path in (folder.parent, RUNS / folder) if _names_run(str(path))]
        hint = f"did you mean --resume {near[0]}?" if near else "settings are written key=value"
        raise UsageError(f"there is no run in {folder}; --resume takes the folder of a run: {hint}")
    return folder


def _recipe_of(summary: dict[str, Any]) -> str:
    """Return the recipe's name, with the first of the settings that were changed."""
    changed: list[str] = summary["changed"]
    if not changed:
        return str(summary["recipe"])
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"{summary['recipe']} (changed: {', '.join(changed[:SHOWN])}{more})"


def _for_people(summary: dict[str, Any]) -> str:
    from vtrain.run_folder import Best

    backbone = f" --backbone {summary['backbone']}" if ":" in summary["backbone"] else ""
    numbers = {name.replace("_", " "): value for name, value in summary.items() if isinstance(value, float)}
    listed = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
    done = f"{summary['steps']} {'step' if summary['steps'] == 1 else 'steps'} of {_recipe_of(summary)}"
    return "\n".join((
        f"{summary['run']}: {done}, {listed}" if summary["trained"] else _finished(summary, done),
        *([f"best.pt: {Best(**summary['best'])}"] if "best" in summary else []),
        f"next: veval retrieval --weights {quote(summary['run'])}{backbone}{_shards_option(summary['shards'])}",
    ))  # fmt: skip


def _shards_option(spec: str) -> str:
    """Return the option that names the shards to another command; "" for those that it takes by itself."""
    here = spec.replace(f"{Path.cwd()}/", "")
    return "" if here.rstrip("/") == SETS else f" --shards {quote(here)}"


def _finished(summary: dict[str, Any], done: str) -> str:
    return f"{summary['run']}: all {done} were done before; nothing was trained or changed (steps=N makes it longer)"
