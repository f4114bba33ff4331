"""How commands print figures: tables, intervals, differences and p-values."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from inkfold.evaluation.formatting import p_equation, signed, with_interval


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table.

    Args:
        title: Stands above the table, whose first and last columns are then aligned to the left; empty for none.
        columns: The heading of each column, from the left; an empty one leaves the heading blank.
        rows: The cells of each row, one per column.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if i in (0, len(columns) - 1) and title != "" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # names of runs and classes are no markup
    Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False).print(table)


def print_intervals(parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Print how the intervals of figures were made, by what these are of, where whole groups of drawings were resampled."""
    from inkfold.evaluation.intervals import interval_in_words

    for name, figures in parts.items():
        if words := interval_in_words(figures):
            print(f"intervals of {name}: {words}")


def figure_of(part: dict[str, Any], name: str) -> str:
    """Write the figure of that name in JSON values, with the interval that stands beside it as `NAME_ci95`."""
    return with_interval(part[name], part[f"{name}_ci95"])


def difference_of(part: dict[str, Any]) -> str:
    """Write a tested difference: its sign, its 95 % interval, whether it is more than chance, and the groups resampled."""
    low, high = part["difference_ci95"]
    verdict = verdict_of(part["p_value"], part["distinguishable"])
    resampled = f", by {part['groups_resampled']:,} groups" if "groups_resampled" in part else ""
    return f"{signed(part['difference'])} ({signed(low)} to {signed(high)}), {verdict}{resampled}"


def p_value_of(pair: dict[str, Any], key: str = "distinguishable") -> str:
    """Write a tested pair's p-value if its key says that the two can be told apart; else that they can't."""
    return p_equation(pair["p_value"]) if pair[key] else "not distinguishable"


def verdict_of(p_value: float, distinguishable: bool) -> str:
    """Write a p-value, and whether it tells a difference from chance."""
    return f"{p_equation(p_value)}: {'more than chance' if distinguishable else 'not distinguishable from chance'}"
