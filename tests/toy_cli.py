"""Helpers for tests of the command line."""

import typer.main

from inkfold.cli.main import APP


def words(*arguments):
    return [str(argument) for argument in arguments]


def parse(name, *arguments):
    """The values that a command is called with, by parameter."""
    command = typer.main.get_command(APP).commands[name]
    return command.make_context(name, words(*arguments)).params
