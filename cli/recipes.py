"""What the commands share that take a recipe: the packages that they need, and overrides."""

from __future__ import annotations

import importlib.util

import click

from lt_data.versions import install_command

from .options import FilePath

PACKAGES = ("torch", "torchvision", "pydantic", "yaml", "tensorboard")
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
ROOT = click.option(
    "--root", type=FilePath(), help="What relative paths of the recipe are relative to, for data that moved."
)


def need_packages() -> None:
    """Says in one line what is missing when the package was installed without training."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise click.ClickException(
            f"this command needs {', '.join(missing)}, not installed here; run: {install_command('train')}"
        )


def need_training() -> None:
    """The same for what loads PyTorch, which needs room too."""
    need_packages()
    from lt_train.memory import check_torch_starts

    check_torch_starts()


def with_method(overrides: tuple[str, ...], method: str | None) -> tuple[str, ...]:
    """The overrides with that of ``--method``."""
    if method is None:
        return overrides
    if any(text.startswith("method=") for text in overrides):
        raise click.UsageError("--method and method= are the same; give one of them.")
    return (f"method={method}", *overrides)


class OverriddenCommand(click.Command):
    """Takes keys of the recipe as ``KEY=VALUE``, and says so where one is typed as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses; an option that does not exist may be a key."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from lt_train.recipe.other_names import key_of

            key = key_of(error.option_name.lstrip("-"))
            if key is None:
                raise
            raise click.UsageError(f"No such option '{error.option_name}'; write {key}=VALUE.", ctx) from None


class FitCommand(OverriddenCommand):
    """Lets ``--resume`` stand alone: only ``auto`` or ``=PATH`` is taken for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Writes a bare ``--resume`` out."""
        spelled = []
        for word, following in zip(args, [*args[1:], ""], strict=True):
            spelled.append("--resume=always" if word == "--resume" and following != "auto" else word)
        return super().parse_args(ctx, spelled)


class ConfigGroup(click.Group):
    """Commands about a recipe; a recipe in the place of one is answered with what to type."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command."""
        if args[0] not in self.commands:
            ctx.fail(f"No such command '{args[0]}'. For a recipe write: {ctx.command_path} show {' '.join(args)}")
        return super().resolve_command(ctx, args)
