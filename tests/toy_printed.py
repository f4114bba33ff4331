"""Reads tables and lines that commands have printed, and a cost that they print."""

COST = {"forwards": 3, "forwards_cached": 4, "decoded": 1, "seconds": {"fit": 1.25, "total": 2.0}, "peak_memory_bytes": 5 << 20}


def lines_with(text, word):
    return [line for line in text.splitlines() if word in line]


def cells(line):
    return [cell.strip() for cell in line.strip("│").split("│")]


def row_of(text, name):
    [line] = [line for line in text.splitlines() if "│" in line and cells(line)[-1] == name]
    return cells(line)
