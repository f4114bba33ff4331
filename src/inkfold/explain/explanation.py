"""What an answer rests on, as a value: each stroke with its effect, and the picture of them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from inkfold.explain.occlusion import effects
from inkfold.explain.picture import coloured_page, words_of
from inkfold.explain.strokes import Labels, ink_mask
from inkfold.images.decode import Pixels

Method = Literal["occlusion", "gradients"]
REPORTED_STROKES = 3
PICTURE_PX = 384


@dataclass(frozen=True, slots=True, repr=False)
class StrokeEffect:
    """One stroke, and what it does to the answer.

    Attributes:
        number: The stroke's number on `Explanation.labels`, from 1.
        effect: By how much the stroke raises the logarithm of the explained class's probability, in nats; with a second
            class, that of the two probabilities' ratio. 0.69 says that the probability is half as large without the stroke;
            negative where the stroke speaks against the class.
        box: Left, top, right and bottom of the stroke, in px of the square that the model saw, the last two exclusive.
        ink_fraction: Share of the drawing's ink that it is, above 0 to 1.
        mask: True on the stroke's pixels, its grey edges among them, (s, s).
    """

    number: int
    effect: float
    box: tuple[int, int, int, int]
    ink_fraction: float
    mask: Bool[np.ndarray, "size size"] = field(compare=False)

    def where(self, size_px: int) -> str:
        """Say in words where the stroke's middle is on a square of this side: `upper left`, `middle`, `lower right`."""
        left, top, right, bottom = self.box
        down = ("upper", "", "lower")[min(2, 3 * (top + bottom) // (2 * size_px))]
        across = ("left", "", "right")[min(2, 3 * (left + right) // (2 * size_px))]
        return f"{down} {across}".strip() or "middle"

    def __repr__(self) -> str:
        return f"StrokeEffect({self.number}, effect={self.effect:+.2f}, box={self.box}, ink_fraction={self.ink_fraction:.2f})"


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """Which strokes of a drawing an answer rests on.

    Attributes:
        class_name: The class that is explained: the model's answer, unless another one was chosen.
        probability: Its probability on the whole drawing.
        against: The second class, if there is one.
        against_probability: Its probability on the whole drawing.
        strokes: The strokes, that which raises the answer most first; empty for a blank page.
        square: The drawing as the model saw it, (s, s) if grey, else (s, s, 3).
        labels: 0 on paper, and each stroke's number, (s, s).
        method: `occlusion`: strokes were erased one by one; `gradients`: integrated gradients were added up over strokes.
    """

    class_name: str
    probability: float
    against: str | None
    against_probability: float | None
    strokes: tuple[StrokeEffect, ...]
    square: Pixels = field(compare=False)
    labels: Labels = field(compare=False)
    method: Method = "occlusion"

    def to_image(self, size_px: int = PICTURE_PX) -> Image.Image:
        """Colour the ink: blue where it speaks for the class, orange where it speaks against it, grey where it does neither.

        Both colours are told apart by people who see red and green alike. A legend in words stands below the drawing.

        Args:
            size_px: Side of the drawing in the picture, in px, 16 to 4096; the legend comes below it.
        """
        return coloured_page(self.square, self.effect_of_pixel(), words_of(self.class_name, self.against), size_px)

    def replaced(self, strokes: tuple[StrokeEffect, ...], method: Method) -> "Explanation":
        """Return the same with effects that were found in another way."""
        return replace(self, strokes=strokes, method=method)

    def as_json(self) -> dict[str, Any]:
        """Return all but the pictures as JSON values."""
        return {
            "class_name": self.class_name,
            "probability": round(self.probability, 6),
            "against": self.against,
            "against_probability": None if self.against_probability is None else round(self.against_probability, 6),
            "method": self.method,
            "size_px": len(self.square),
            "strokes": [
                {"box": list(one.box), "effect": round(one.effect, 4), "ink_fraction": round(one.ink_fraction, 4)}
                for one in self.strokes
            ],
        }

    def effect_of_pixel(self) -> Float[np.ndarray, "size size"]:
        """Return the effect of each pixel's stroke, (s, s); 0 on paper."""
        table = np.zeros(len(self.strokes) + 1)
        for one in self.strokes:
            table[one.number] = one.effect
        values: np.ndarray = table[self.labels]
        return values

    def to_png(self) -> bytes:
        """Return the picture of `to_image` as a PNG file's bytes."""
        data = io.BytesIO()
        self.to_image().save(data, "PNG")
        return data.getvalue()

    def _repr_png_(self) -> bytes:
        return self.to_png()

    def __repr__(self) -> str:
        against = "" if self.against is None else f" against {self.against!r} ({self.against_probability:.2f})"
        effects = ", ".join(f"{one.effect:+.2f}" for one in self.strokes[:REPORTED_STROKES])
        rest = f": {effects}{', ...' if len(self.strokes) > REPORTED_STROKES else ''} nats" if self.strokes else ""
        return f"<Explanation {self.class_name!r} ({self.probability:.2f}){against}, {len(self.strokes)} strokes{rest}>"


def explanation_of(
    square: Pixels,
    labels: Labels,
    probs: Float[np.ndarray, "variants classes"],
    class_names: Sequence[str],
    target: int,
    against: int | None = None,
) -> Explanation:
    """Put an explanation by occlusion together.

    Args:
        square: The drawing as the model saw it.
        labels: Its strokes, as `split_ink` returns them.
        probs: Class probabilities of the whole drawing, and then without each stroke, in the order of their numbers.
        class_names: Names of the classes, in the order of the probabilities.
        target: Id of the class that is explained.
        against: Id of the second class, if there is one.

    Returns:
        The explanation; its strokes are those of which there are probabilities.
    """
    found = dict(enumerate(effects(probs, target, against).tolist(), start=1))
    return Explanation(
        class_name=class_names[target],
        probability=float(probs[0, target]),
        against=None if against is None else class_names[against],
        against_probability=None if against is None else float(probs[0, against]),
        strokes=strokes_by_effect(square, labels, found),
        square=square,
        labels=labels,
    )


def strokes_by_effect(square: Pixels, labels: Labels, effect_of: Mapping[int, float]) -> tuple[StrokeEffect, ...]:
    """Describe the strokes of a square, that of the largest effect first.

    Args:
        square: The drawing as the model saw it.
        labels: Its strokes.
        effect_of: The effect of each stroke, by its number.
    """
    ink = ink_mask(square)
    total = np.count_nonzero(ink & (labels > 0))
    strokes = []
    for number, effect in effect_of.items():
        mask = labels == number
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        share = float(np.count_nonzero(mask & ink) / total)
        strokes.append(StrokeEffect(number, float(effect), box, share, mask))
    return tuple(sorted(strokes, key=lambda one: (-one.effect, one.number)))
