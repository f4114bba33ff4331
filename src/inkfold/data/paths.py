# pathlib would cost several times as much per row, and tables of a million rows are read here:
# ruff: noqa: PTH112, PTH118, PTH122, PTH208
"""Finds drawings in folders, and the files that the paths of a table name.

Nothing outside the root is ever opened: neither `..`, nor an absolute path, nor a symbolic link leads out.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

import numpy as np

from inkfold.data.tables import STRING, Strings, Where
from inkfold.errors import Problem

# The last line's files may be unreadable here; they are counted all the same, so that each is refused with its remedy.
IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".heic", ".heif", ".hif", ".avif", ".svg", ".svgz"}
)
# Files that are surely no drawings: a folder of nothing else is no class.
NOT_DRAWINGS = (
    ".txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .toml .html .htm .py .pyc .ipynb .js .sh .bat .c .h .cpp .java .m "
    ".mat .r .zip .tar .gz .tgz .bz2 .xz .7z .rar .log .cfg .ini .doc .docx .xls .xlsx .ppt .pptx .parquet .pq .db .sqlite "
    ".pkl .pt .pth .onnx .h5 .mp4"
)
OTHER_SUFFIXES = frozenset(NOT_DRAWINGS.split())
JUNK_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})
PROBE_ROWS = 50
SEPARATE_FAULTS = 20

Severity = Literal["error", "warning"]


def is_junk(name: str) -> bool:
    """Return whether a file or folder is hidden, or left behind by an operating system or a tool."""
    return name.startswith(".") or name.lower() in JUNK_NAMES


def list_images(directory: Path, root: Path | None = None, skip: frozenset[str] = frozenset()) -> tuple[Strings, list[Problem]]:
    """Find all drawings below a directory, as `scan_folder` does."""
    listing = scan_folder(directory, root, skip)
    return listing.images, listing.problems


@final
@dataclass(frozen=True, slots=True)
class BareFolder:
    """A folder without a drawing and without folders.

    Attributes:
        path: Relative to the directory that was searched, with forward slashes.
        files: Number of other files in it.
        example: The first of them that may be a drawing by its suffix; "" where all are text, tables, code or archives.
    """

    path: str
    files: int
    example: str


@final
@dataclass(frozen=True, eq=False)
class Listing:
    """The drawings below a directory.

    Attributes:
        images: Paths relative to the directory with forward slashes, in code point order whatever the platform.
        problems: Junk is left out silently, other files that aren't images with one warning.
        bare: The folders without drawings, by path.
    """

    images: Strings
    problems: list[Problem]
    bare: list[BareFolder]


def scan_folder(directory: Path, root: Path | None = None, skip: frozenset[str] = frozenset()) -> Listing:
    """Find all drawings below a directory.

    Args:
        directory: The directory, which is searched with all its folders.
        root: The directory that links may not lead out of; None takes `directory`.
        skip: Names of entries of `directory` that are left out.
    """
    scan = _Scan(directory, FileFinder(root or directory))
    if not scan.finder.is_inside(os.path.realpath(directory)):
        return Listing(np.empty(0, STRING), [_outside(directory.name, str(directory), str(root))], [])
    waiting = [""]
    while waiting:
        waiting += scan.visit(waiting.pop(), skip)
        skip = frozenset()
    if scan.others:
        text = (
            f"left out {scan.others} file(s) that aren't images by their suffix, such as {min(scan.examples)!r}. "
            "Save those that are drawings as PNG; the others do no harm."
        )
        scan.problems.append(Problem("not_an_image", directory.name, text, "warning"))
    images = np.concatenate(scan.images)
    images.sort()
    problems = sorted(scan.problems, key=lambda problem: problem.where)
    return Listing(images, problems, sorted(scan.bare, key=lambda folder: folder.path))


@final
@dataclass
class _Scan:
    """The state of a search through folders."""

    directory: Path
    finder: "FileFinder"
    images: list[Strings] = field(default_factory=lambda: [np.empty(0, STRING)])
    problems: list[Problem] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    bare: list[BareFolder] = field(default_factory=list)
    others: int = 0

    def visit(self, folder: str, skip: frozenset[str]) -> list[str]:
        """Collect a folder's images and return its folders; relative paths, folders ending in a slash."""
        folders: list[str] = []
        images: list[str] = []
        others: list[str] = []
        try:
            entries = list(os.scandir(self.directory / folder))
        except OSError as error:
            text = f"the folder can't be read ({error.strerror}). Make it readable."
            self._report("unreadable_folder", folder, text)
            return []
        for entry in entries:
            if is_junk(entry.name) or entry.name in skip:
                continue
            relative = folder + entry.name
            if entry.is_symlink() and not self._follows(entry, relative):
                continue
            if entry.is_dir():
                folders.append(relative + "/")
            elif self._takes(entry, relative):
                images.append(relative)
            else:
                others.append(entry.name)
        images = self._without_svg_twins(images)
        if folder and not images and not folders and _is_text(folder):
            pictures = (name for name in others if os.path.splitext(name)[1].lower() not in OTHER_SUFFIXES)
            self.bare.append(BareFolder(folder.rstrip("/"), len(others), min(pictures, default="")))
        self.images.append(np.array(images, dtype=STRING))
        return folders

    def _takes(self, entry: "os.DirEntry[str]", relative: str) -> bool:
        if os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES or not entry.is_file():
            self.others += 1
            if len(self.examples) < SEPARATE_FAULTS:
                self.examples.append(relative)
        elif _is_text(relative):
            return True
        else:
            self._report("undecodable_name", relative, "the file's name isn't UTF-8. Rename the file.")
        return False

    def _without_svg_twins(self, images: list[str]) -> list[str]:
        """Leave out SVG files beside a picture of the same name: they are its source, not another drawing."""
        vectors = [path for path in images if path.lower().endswith((".svg", ".svgz"))]
        if not vectors or len(vectors) == len(images):
            return images
        pictures = {os.path.splitext(path)[0] for path in set(images).difference(vectors)}
        twins = {path for path in vectors if os.path.splitext(path)[0] in pictures}
        self.others += len(twins)
        self.examples += sorted(twins)[: SEPARATE_FAULTS - len(self.examples)]
        return [path for path in images if path not in twins]

    def _follows(self, entry: "os.DirEntry[str]", relative: str) -> bool:
        """Return whether a link leads to a file inside the root; report it otherwise."""
        if not self.finder.is_inside(os.path.realpath(entry.path)):
            self.problems.append(_outside(self._where(relative), relative, self.finder.root))
        elif entry.is_dir():
            text = "a link to a folder inside the root, left out: its drawings are read where they are."
            self._report("linked_folder", relative, text, "warning")
        elif not entry.is_file():
            self._report("missing_file", relative, "a link to a file that isn't there. Remove or correct it.")
        else:
            return True
        return False

    def _report(self, kind: str, relative: str, text: str, severity: Severity = "error") -> None:
        self.problems.append(Problem(kind, self._where(relative), text, severity))

    def _where(self, relative: str) -> str:
        return f"{self.directory.name}/{relative}".encode(errors="replace").decode()


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _outside(where: str, path: str, root: str) -> Problem:
    text = f"{path!r} leads out of {root}, expected a file inside. Copy it there, or give a folder above both as root."
    return Problem("outside_root", where, text.encode(errors="replace").decode())


@final
class FileFinder:
    """Finds the files that a table names, inside one root, at the cost of one `lstat` each.

    Folders are resolved once each. A path is tried as it is, then with `/` for Windows' backslashes, then in the
    other Unicode forms: macOS decomposes names (NFD) where tables mostly have them composed (NFC).

    Args:
        root: The directory that no path may lead out of.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self._prefix = self.root.rstrip(os.sep) + os.sep
        self._real: dict[str, str] = {}
        self._listings: dict[str, dict[str, str]] = {}

    def is_inside(self, real: str) -> bool:
        """Return whether a resolved path is the root or below it."""
        return real == self.root or real.startswith(self._prefix)

    def find(self, base: str, named: str) -> tuple[str, str]:
        """Look for a file.

        Args:
            base: The absolute folder that relative paths start from.
            named: A path as the table writes it, with either kind of slash.

        Returns:
            The file's absolute path and "", or "" and the fault: `missing_file` or `outside_root`.
        """
        fault = "missing_file"
        texts = [named, named.replace("\\", "/")] if "\\" in named else [named]
        for text in texts:
            path, fault = self._locate(base, text)
            if path:
                return path, ""
        for text in [] if named.isascii() or fault == "outside_root" else texts:
            path = self._other_forms(base, text)
            if path:
                return path, ""
        if re.match(r"[A-Za-z]:[\\/]|\\\\", named):
            fault = "outside_root"
        return "", fault

    def _locate(self, base: str, text: str) -> tuple[str, str]:
        folder, name = os.path.split(os.path.join(base, text))
        try:
            real = self._resolve(folder)
            if not self.is_inside(real):
                return "", "outside_root"
            path = os.path.join(real, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                path = os.path.realpath(path)
                if not self.is_inside(path):
                    return "", "outside_root"
                mode = os.lstat(path).st_mode
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return "", "missing_file"
        return (path, "") if stat.S_ISREG(mode) else ("", "missing_file")

    def _resolve(self, folder: str) -> str:
        real = self._real.get(folder)
        if real is None:
            real = self._real[folder] = os.path.realpath(folder)
        return real

    def _other_forms(self, base: str, text: str) -> str:
        """Find the file whose path differs only in Unicode form, folder by folder; "" if there is none."""
        for form in ("NFC", "NFD"):
            path, _ = self._locate(base, unicodedata.normalize(form, text))
            if path:
                return path
        here = base
        for part in text.split("/"):
            if not self.is_inside(self._resolve(here)):
                return ""
            here = os.path.join(here, self._listing(here).get(unicodedata.normalize("NFC", part), part))
        return self._locate(base, here)[0]

    def _listing(self, folder: str) -> dict[str, str]:
        """Map the composed form of each name in a folder to the name."""
        if folder not in self._listings:
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            self._listings[folder] = {unicodedata.normalize("NFC", name): name for name in reversed(names)}
        return self._listings[folder]


def choose_base(finder: FileFinder, bases: Sequence[Path], paths: Strings) -> Path:
    """Choose the folder under which most of the first 50 paths exist; the first of equally good ones."""
    probes = [str(path) for path in paths[:PROBE_ROWS]]
    return max(bases, key=lambda base: sum(bool(finder.find(str(base), probe)[0]) for probe in probes))


def find_files(
    paths: Strings, finder: FileFinder, base: Path, where: Where, missing: Severity
) -> tuple[Strings, list[Problem]]:
    """Find the file of every path of a table.

    Args:
        paths: Paths as the table gives them; an empty one gets no file and no problem.
        finder: The finder of the root that no path may lead out of.
        base: The folder that relative paths start from.
        where: Returns the name of a row, for messages.
        missing: Severity of a missing file; a path out of the root is always an error.

    Returns:
        Absolute paths ("" where there is no file or it lies outside), and the problems. If there are many rows and
        none has a file, this is a single problem.
    """
    files = np.empty(len(paths), STRING)
    faults: dict[int, str] = {}
    start = str(base)
    for i, named in enumerate(paths):
        if named:
            path, fault = finder.find(start, named)
            if fault or not _is_text(path):
                faults[i] = fault or "missing_file"
            else:
                files[i] = path
    if len(faults) == len(paths) > SEPARATE_FAULTS and "outside_root" not in faults.values():
        text = (
            f"none of {len(paths)} images is found under {base}, such as {paths[0]!r}. "
            "Re-extract the archive or correct `data.image_root`."
        )
        return files, [Problem("missing_file", where(0).partition(" row ")[0], text, missing)]
    problems = []
    for i, fault in faults.items():
        if fault == "outside_root":
            problems.append(_outside(where(i), paths[i], finder.root))
        else:
            text = f"image {paths[i]!r} not found under {base}. Re-extract the archive or remove the row."
            problems.append(Problem(fault, where(i), text, missing))
    return files, problems
