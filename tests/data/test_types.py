import numpy as np

from inkfold.data.dataset import Drawings
from inkfold.data.tables import STRING


def test_selecting_takes_every_column_along():
    drawings = Drawings(
        np.array(["a", "b"], dtype=STRING),
        np.array(["/a", "/b"], dtype=STRING),
        np.array([0, 1]),
        np.array(["g", "h"], dtype=STRING),
        np.array([True, False]),
        np.array(["p", "q"], dtype=STRING),
    )
    taken = drawings.select(np.array([False, True]))
    assert len(taken) == 1
    assert [column.tolist() for column in vars(taken).values()] == [["b"], ["/b"], [1], ["h"], [False], ["q"]]
