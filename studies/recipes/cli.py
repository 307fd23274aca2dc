"""``qnoise methods``: the recipes, and what each is made of."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="List the methods of the papers, or show one as the recipe that runs.", rich_markup_mode=None)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")]


@app.callback(invoke_without_command=True)
def methods(context: typer.Context, json: JsonOption = False) -> None:
    """List every recipe with its paper."""
    if context.invoked_subcommand is not None:
        return
    from studies.recipes.show import show_methods

    show_methods(json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A recipe, or module:NAME for one of your own.")],
    json: JsonOption = False,
) -> None:
    """Print a recipe: its stages with their parameters, its paper, and where it differs from there."""
    from studies.recipes.show import show_method

    show_method(name, json)
