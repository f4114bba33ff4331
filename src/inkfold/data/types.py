"""The values that reading a dataset returns (drawings, sample submission, dataset), and its options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.config.sections import AUTO_GROUPS, DataSettings, SubmissionSettings
from inkfold.data.labels import Classes
from inkfold.data.paths import Severity
from inkfold.data.submission_form import SubmissionForm
from inkfold.errors import Problem
from inkfold.runtime.display import fit_line, show


class DataOptions(DataSettings):
    """The recipe's section `data`, with the column of groups, which is the section `folds`'s, and the section `submission`."""

    group_column: str | None = None
    """Column that says who drew a drawing, or after which photo; None where there is none."""
    group_pattern: str = AUTO_GROUPS
    """Regular expression that finds each drawing's group in its path or in that column; `auto` or `none`."""
    num_folds: int = 5
    """Number of folds, at least 2: fewer groups than that aren't proposed."""
    submission: SubmissionSettings = SubmissionSettings()
    """The recipe's section `submission`: how the submission is written."""

    @property
    def missing(self) -> Severity:
        """Severity of a missing file: with `on_broken=skip` training rows are dropped and test rows kept without a file."""
        return "warning" if self.on_broken == "skip" else "error"


@final
@dataclass(frozen=True, eq=False, repr=False)
class Drawings:
    """A table of drawings, in the source's row order.

    Attributes:
        image_paths: As the table gives them, to the letter; for folders relative to the part's own folder.
        files: Absolute paths; "" where there is no file, which only `on_broken="skip"` allows, in test rows.
        targets: Class indices, 0 to the number of classes - 1 (not the table's values); None where unknown.
        groups: Who drew it, or after which photo, by the user's own keys; None where they name no groups.
        given_val: The rows that came from the source's own validation part; None where it has none.
        proposed_groups: What names of files, folders or columns propose as groups, which are used where the user names none;
            None where they propose none.
    """

    image_paths: Shaped[np.ndarray, " drawings"]
    files: Shaped[np.ndarray, " drawings"]
    targets: Int64[np.ndarray, " drawings"] | None = None
    groups: Shaped[np.ndarray, " drawings"] | None = None
    given_val: Bool[np.ndarray, " drawings"] | None = None
    proposed_groups: Shaped[np.ndarray, " drawings"] | None = None

    def __len__(self) -> int:
        return len(self.image_paths)

    def __repr__(self) -> str:
        some = ", ".join(fit_line(path, 40) for path in self.image_paths[:3].tolist())
        return f"<Drawings: {len(self):,}: {some}{', ...' if len(self) > 3 else ''}>"

    @property
    def all_groups(self) -> Shaped[np.ndarray, " drawings"] | None:
        """The groups that the user names, else those that are proposed; None without either."""
        return self.proposed_groups if self.groups is None else self.groups

    def select(self, index: np.ndarray) -> "Drawings":
        """Select rows.

        Args:
            index: Row numbers from 0, or a mask over all rows.

        Returns:
            The rows, in the order of `index`; `self` if the mask leaves nothing out.
        """
        if index.dtype == np.bool_ and len(index) == len(self) and index.all():
            return self
        return Drawings(
            self.image_paths[index],
            self.files[index],
            None if self.targets is None else self.targets[index],
            None if self.groups is None else self.groups[index],
            None if self.given_val is None else self.given_val[index],
            None if self.proposed_groups is None else self.proposed_groups[index],
        )


@final
@dataclass(frozen=True, eq=False)
class SampleSubmission:
    """The format of a submission.

    Attributes:
        columns: Headings of its columns, in the table's order.
        ids: The id of every test row, in the test rows' order; all "" if there is no id column.
    """

    columns: tuple[str, ...]
    ids: Shaped[np.ndarray, " drawings"]


@final
@dataclass(frozen=True)
class Grouping:
    """Where the groups of drawings that stay in one fold come from.

    Attributes:
        key: The settings that name them, as on the command line: `folds.group_column=who`.
        proposed: Whether they are used because names suggest them; otherwise the user names them.
    """

    key: str
    proposed: bool = False

    def as_json(self, groups: Shaped[np.ndarray, " n"] | None) -> dict[str, Any]:
        """Return where the groups come from, and how many there are among the drawings that are used."""
        count = 0 if groups is None else len(np.unique(groups))
        return {"key": self.key, "proposed": self.proposed, "groups": count, "drawings": 0 if groups is None else len(groups)}


@final
@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a dataset, which every layout is read into.

    Attributes:
        train: The labelled drawings, including the data's own validation part.
        classes: The classes of the training drawings.
        test: The drawings to predict; None if there are none.
        sample: Ids that the user's pattern finds in the test files' paths, for the submission; None without any.
        columns: Columns of the training table whose names speak of people or origins, by name.
    """

    train: Drawings
    classes: Classes
    test: Drawings | None = None
    sample: SampleSubmission | None = None
    columns: Mapping[str, Shaped[np.ndarray, " drawings"]] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class Corrected:
    """What a table of a user's decisions changed in the training drawings.

    Attributes:
        file: Path of the table of decisions, as the recipe or the command line names it.
        digest: Digest of the table's bytes.
        dropped: Number of drawings that were left out.
        relabelled: Number of drawings that got another class.
        kept: Number of drawings whose label the user keeps.
        settled: Paths of the drawings that the user has decided on.
        content: The table's bytes, which a run keeps a copy of.
    """

    file: str
    digest: str
    dropped: int
    relabelled: int
    kept: int
    settled: frozenset[str]
    content: bytes

    def as_json(self) -> dict[str, str | int]:
        """Return the numbers, and which table it was, as JSON values."""
        counts = {"dropped": self.dropped, "relabelled": self.relabelled, "kept": self.kept}
        return {"file": self.file, "digest": self.digest, **counts}


@final
@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Drawings to train on and to predict, with their classes.

    Attributes:
        root: Absolute path; no file lies outside it, except below an `image_root` or a table named outside it.
        layout: The layout that it was read as: `competition`, `folder` or `table`.
        train: The labelled drawings, including the data's own validation part.
        test: The drawings to predict; None if there are none.
        class_names: Name of each class, by class index.
        class_targets: Value that a submission has for each class, by class index.
        sample_submission: The sample submission; None if there is none, or none that can be filled in.
        problems: Warnings; with `strict=False` also errors.
        submission: How the submission is written; None where it has the columns of `sample_submission`, or inkfold's own.
        numbered: Whether `class_targets` are the user's own numbers, from a column of them.
        grouping: Where the training drawings' groups come from; None where there are none.
        corrected: What the user's table of decisions changed; None without one.
        options: How it was read; None for the defaults.
        source: What it was read from, `root` or a table in it; None for `root`.
    """

    root: Path
    layout: str
    train: Drawings
    test: Drawings | None
    class_names: tuple[str, ...]
    class_targets: Int64[np.ndarray, " classes"]
    sample_submission: SampleSubmission | None
    problems: tuple[Problem, ...]
    submission: SubmissionForm | None = None
    numbered: bool = False
    grouping: Grouping | None = None
    corrected: Corrected | None = None
    options: DataOptions | None = None
    source: Path | None = None

    def __repr__(self) -> str:
        tests = 0 if self.test is None else len(self.test)
        counts = f"{len(self.train):,} training drawings of {len(self.class_names):,} classes, {tests:,} to predict"
        names = fit_line(", ".join(self.class_names), 100)
        grouped = "" if self.grouping is None else f"\n  groups: {fit_line(self.grouping.key, 100)}"
        warned = (
            "" if not self.problems else f"\n  {len(self.problems):,} problems, such as: {fit_line(str(self.problems[0]), 90)}"
        )
        return f"<Dataset {fit_line(str(self.source or self.root), 90)}\n  {counts}\n  classes: {names}{grouped}{warned}>"

    def _repr_html_(self) -> str:
        html: str = show("dataset", self)
        return html
