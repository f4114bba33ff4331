import math

from hypothesis import strategies as st

from inkfold.config.operations import KINDS, Operation

PAIRS = [name for name, kind in KINDS.items() if kind.range == "pair"]


probabilities = st.just(1.0) | st.floats(0, 1, exclude_min=True)


def bounds(name):
    """The lowest and highest value of each of the two numbers."""
    kind = KINDS[name]
    return list(zip(kind.low, kind.high, strict=True)) * (1 if kind.range == "pair" else 2)


@st.composite
def operations(draw, names=tuple(KINDS)):
    name = draw(st.sampled_from(names))
    numbers = [draw(st.floats(low, high) | st.integers(math.ceil(low), math.floor(high))) for low, high in bounds(name)]
    if name == "grid":
        numbers[0] = round(numbers[0])
    args = numbers if name in PAIRS else sorted(numbers)
    return Operation(name, tuple(map(float, args)), draw(probabilities))
