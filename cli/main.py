"""The `reclake` command. Commands import what they need when they run; `reclake --help` loads almost nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from ..schemas.errors import ReclakeError
from .output import Output

_COMMANDS = {  # name: (module, what it does)
    "demo": ("demo", "The whole way on one machine, from raw events to a trained model and a report."),
    "init": ("lake", "Make a lake, with the shipped contracts and recipes."),
    "contract": ("contract", "Contracts: what tables promise."),
    "ingest": ("lake", "Read files or folders into the lake through the gate."),
    "seal": ("lake", "Close a span of time for ever and give its events ordinals."),
    "timeline": ("lake", "What a server knew of a user at a time."),
    "samples": ("training", "Assemble the training samples of one day."),
    "media": ("training", "Turn images, clips, sounds and titles into features."),
    "pin": ("training", "Name the present versions of all tables and keep them alive."),
    "unpin": ("training", "Let go of what a pin keeps alive."),
    "pins": ("training", "List the pins."),
    "pack": ("training", "Write pinned samples as shards that a trainer reads."),
    "report": ("training", "Write the report: one self-contained HTML file."),
    "quarantine": ("quarantine", "Rejected rows: list, show, replay, expire."),
    "compact": ("upkeep", "Merge small files."),
    "vacuum": ("upkeep", "Delete files that nothing needs."),
    "forget": ("upkeep", "Remove users from the lake."),
    "doctor": ("upkeep", "Check that the lake keeps its promises."),
}


class _Lazy(click.Group):
    """A group that imports a command's module only when the command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module

        module = import_module(f".{_COMMANDS[cmd_name][0]}_commands", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reclake")
def cli() -> None:
    """reclake: streams and batches of user behaviour become point-in-time-correct timelines and training samples.

    Start with `reclake demo`. Every command takes --json and can be run again safely.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 (refused or failed), 2 (wrong usage) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    output = Output(machine="--json" in arguments)
    try:
        status: Any = cli.main(args=arguments, prog_name="reclake", standalone_mode=False)
    except ReclakeError as error:
        output.error(error)
        return 1
    except OSError as error:
        output.error(_operating_system(error))
        return 1
    except click.ClickException as error:
        output.error(_usage(error, arguments))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


def _usage(error: click.ClickException, arguments: Sequence[str]) -> ReclakeError:
    from ..schemas.errors import UsageError

    context = getattr(error, "ctx", None) or click.Context(cli, info_name="reclake")
    return UsageError(
        error.format_message(),
        where=context.command_path,
        expected=context.get_usage().removeprefix("Usage: "),
        got=" ".join(["reclake", *arguments]),
        hint=f"{context.command_path} --help",
    )


def _operating_system(error: OSError) -> ReclakeError:
    from ..schemas.errors import StorageError
    from ..storage.faults import translated

    try:
        with translated(error.filename):
            raise error
    except StorageError as known:
        return known
    except OSError:
        return StorageError(
            error.strerror or str(error), where=error.filename, hint="check the path and who may use it"
        )


if __name__ == "__main__":
    sys.exit(main())
