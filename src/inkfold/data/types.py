"""The values that reading gives: drawings, the options by which they are read, and what is made of them.

Nothing is read here, and no drawing is decoded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.config.sections import DataSettings
from inkfold.data.paths import Severity
from inkfold.errors import Problem


class DataOptions(DataSettings):
    """The recipe's section `data`, with the column of groups, which is the section `folds`'s."""

    group_column: str | None = None
    """Column that says who drew a drawing, or after which photo; None where there is none."""

    @property
    def missing(self) -> Severity:
        """Severity of a missing file: with `on_broken=skip` training rows are dropped and test rows kept without a file."""
        return "warning" if self.on_broken == "skip" else "error"


@final
@dataclass(frozen=True, eq=False)
class Drawings:
    """A table of drawings, in the source's row order.

    Attributes:
        image_paths: As the table gives them, to the letter; for folders relative to the part's own folder.
        files: Absolute paths; "" where there is no file, which only `on_broken="skip"` allows, in test rows.
        targets: Class indices, 0 to the number of classes - 1 (not the table's values); None where unknown.
        groups: Who drew it, or after which photo; None where the source doesn't say.
        given_val: The rows that came from the source's own validation part; None where it has none.
    """

    image_paths: Shaped[np.ndarray, " drawings"]
    files: Shaped[np.ndarray, " drawings"]
    targets: Int64[np.ndarray, " drawings"] | None = None
    groups: Shaped[np.ndarray, " drawings"] | None = None
    given_val: Bool[np.ndarray, " drawings"] | None = None

    def __len__(self) -> int:
        return len(self.image_paths)

    def select(self, index: np.ndarray) -> "Drawings":
        """Take some rows.

        Args:
            index: Row numbers from 0, or a mask over all rows.

        Returns:
            Those rows, in the order of `index`; itself when the mask leaves nothing out.
        """
        if index.dtype == np.bool_ and len(index) == len(self) and index.all():
            return self
        return Drawings(
            self.image_paths[index],
            self.files[index],
            None if self.targets is None else self.targets[index],
            None if self.groups is None else self.groups[index],
            None if self.given_val is None else self.given_val[index],
        )


@final
@dataclass(frozen=True, eq=False)
class SampleSubmission:
    """What a submission has to look like.

    Attributes:
        columns: The names of its columns, in order.
        ids: The id of every test row, in the test rows' order; all "" where there is no id column.
    """

    columns: tuple[str, ...]
    ids: Shaped[np.ndarray, " drawings"]


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """Drawings to learn from and to predict, with their classes.

    Attributes:
        root: Absolute; no file lies outside it, save below an `image_root` or a table that was named outside it.
        layout: How it was read: `competition`, `folder` or `table`.
        train: The labelled drawings, a given validation part among them.
        test: The drawings to predict; None where there are none.
        class_names: By class index.
        class_targets: The value to write to a submission, by class index.
        sample_submission: None where there is none, or none that can be filled in.
        problems: Warnings; with `strict=False` errors too.
    """

    root: Path
    layout: str
    train: Drawings
    test: Drawings | None
    class_names: tuple[str, ...]
    class_targets: Int64[np.ndarray, " classes"]
    sample_submission: SampleSubmission | None
    problems: tuple[Problem, ...]
