"""The demo's data and recipe: drawings that inkfold draws itself, so that everything works offline from the first minute."""

from pathlib import Path

from inkfold.data.synthetic import write_sketches

RECIPE = "demo"


def prepare_demo(out: Path, *, per_class: int = 40, seed: int = 0) -> Path:
    """Write the demo's drawings, unless they are there.

    Args:
        out: The demo's directory; the drawings go to `drawings` below it.
        per_class: Training drawings a class; a quarter of it more for the test.
        seed: Of the drawings.

    Returns:
        The drawings' directory, in the competition's layout.
    """
    return write_sketches(out / "drawings", train_per_class=per_class, test_per_class=max(1, per_class // 4), seed=seed)
