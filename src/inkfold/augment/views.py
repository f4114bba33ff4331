"""Views: operations, a seed and a number, which together with a drawing's digest decide every byte of the augmented drawing.

Nothing else has an influence: no worker, batch, order or time. Each operation has its own stream of random numbers, named by
(seed, index, drawing, operation), so adding one changes no number of the others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import UInt8

from inkfold.augment.rng import Draws
from inkfold.config.operations import KINDS, Operation, parse_operations
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import paper_colour

AUGMENT_VERSION = 1  # part of the feature key: raise it whenever the bytes that come out change
GATE_BYTES, GATES_BYTES = 3, 64  # for each kind of operation, and for all: BLAKE2b gives no more than 64
_SLOT = {name: slot for slot, name in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class View:
    """An augmentation of drawings, as a value.

    Attributes:
        operations: The operations. Geometric ones are applied first, in one resampling; the others follow in their order.
            Empty leaves drawings as they are.
        seed: Seed of all random numbers.
        index: Number of the view; views that differ only in it are independent of each other.
    """

    operations: tuple[Operation, ...] = ()
    seed: int = 0
    index: int = 0

    def key(self) -> dict[str, Any]:
        """Return all that decides the bytes, as JSON values."""
        bare = {"operations": [str(operation) for operation in self.operations], "seed": self.seed, "index": self.index}
        coder = {"simplejpeg": version("simplejpeg")} if any(operation.name == "jpeg" for operation in self.operations) else {}
        return {**bare, **resampling(), **coder} if self.operations else bare

    def __str__(self) -> str:
        text = " + ".join(str(operation) for operation in self.operations) or "identity"
        return text if self.is_fixed else f"{text} #{self.index}"

    @property
    def is_fixed(self) -> bool:
        """Whether the view has no random numbers."""
        return all(operation.is_fixed and operation.p == 1 for operation in self.operations)

    @property
    def settles_alike(self) -> bool:
        """Whether `settled` returns this view for every drawing."""
        drawn = any(not operation.is_fixed and operation.p == 1 for operation in self.operations)
        return drawn or (self.is_fixed and self == View(self.operations))

    def settled(self, drawing: bytes) -> "View":
        """Return the simplest view that gives the same pixels for a drawing.

        With `hflip@0.5` half of the drawings stay as they are and the others are flipped, whatever seed and index, so the
        features of two views are enough. A view that applies anything continuous is returned itself.

        Args:
            drawing: Digest of the drawing's file, by which chance decides which operations are applied.

        Returns:
            A view without seed and index if nothing continuous is applied to the drawing, otherwise this view.
        """
        applied = [operation for operation, _ in self.applied(drawing)]
        if all(operation.is_fixed for operation in applied):
            return View(tuple(Operation(operation.name, operation.args) for operation in applied))
        return self

    def applied(self, drawing: bytes) -> list[tuple[Operation, int]]:
        """Decide which operations are applied to a drawing, by one hash with three bytes for each kind of operation.

        Args:
            drawing: Digest of the drawing's file, by which chance decides which operations are applied.

        Returns:
            Each applied operation with its number among the view's operations of this kind, from 0.
        """
        applied, seen, gates = [], dict[str, int](), dict[int, bytes]()
        for operation in self.operations:
            occurrence = seen[operation.name] = seen.get(operation.name, -1) + 1
            if operation.p < 1 and occurrence not in gates:
                gates[occurrence] = hashlib.blake2b(
                    self._stream(drawing, f"gates {occurrence}"), digest_size=GATES_BYTES
                ).digest()
            first = GATE_BYTES * _SLOT[operation.name]
            gate = int.from_bytes(gates[occurrence][first : first + GATE_BYTES], "little") if operation.p < 1 else 0
            if gate < operation.p * 2 ** (8 * GATE_BYTES):
                applied.append((operation, occurrence))
        return applied

    def draws(self, drawing: bytes, operation: Operation, occurrence: int) -> Draws:
        """Return the stream of random numbers of an operation on a drawing."""
        return Draws(self._stream(drawing, f"{operation.name} {occurrence}"))

    def _stream(self, drawing: bytes, what: str) -> bytes:
        return drawing + f"|{self.seed}|{self.index}|{what}".encode()


IDENTITY = View()


def resampling() -> dict[str, Any]:
    """Return the versions of the code that decides an augmented drawing's bytes, as JSON values."""
    import cv2  # noqa: PLC0415 - 160 ms that views of drawings as they are needn't pay

    return {"version": AUGMENT_VERSION, "opencv": cv2.__version__}


def parse_view(text: str, seed: int = 0, index: int = 0) -> View:
    """Parse a view's short form; a view without random numbers has neither seed nor index.

    Args:
        text: Operations with ` + ` between them, or `identity`.
        seed: Seed of its random numbers, at least 0; a view without any gets 0.
        index: Number of the view, from 0, among those of one seed: another number draws other random numbers.

    Raises:
        ValueError: If an operation can't be parsed.
    """
    view = View(parse_operations(text), seed, index)
    return View(view.operations) if view.is_fixed else view


def render(pixels: Pixels, view: View, drawing: bytes, size_px: int) -> Pixels:
    """Apply a view to a drawing.

    Args:
        pixels: Pixels from the pixel store, (s, s) or (s, s, 3).
        view: The operations, and the seed and number by which their random numbers are drawn.
        drawing: The drawing's digest, which decides its random numbers.
        size_px: Side of the result; the operations' px refer to it.

    Returns:
        (size_px, size_px), or (size_px, size_px, 3); three equal channels are computed as one. `pixels` itself
        if nothing is applied.
    """
    if pixels.ndim == 3 and (pixels[..., :1] == pixels[..., 1:]).all():
        grey = render(np.ascontiguousarray(pixels[..., 0]), view, drawing, size_px)
        return np.repeat(grey[..., None], 3, axis=2)
    applied = view.applied(drawing)
    if not applied and len(pixels) == size_px:
        return pixels
    from inkfold.augment.geometric import warp  # noqa: PLC0415
    from inkfold.augment.photometric import apply_ink  # noqa: PLC0415 - OpenCV: 160 ms

    paper = paper_colour(pixels)
    motions, effects = [], []
    for operation, occurrence in applied:
        draws = view.draws(drawing, operation, occurrence)
        if KINDS[operation.name].geometric:
            motions.append(_motion(operation, size_px, draws))
        else:
            effects.append((operation, draws))
    if motions or len(pixels) != size_px:
        pixels = warp(pixels, size_px, motions, paper)
    for operation, draws in effects:
        low, high = operation.args or (0.0, 0.0)
        pixels = apply_ink(operation.name, pixels, draws.uniform(low, high), paper, draws)
        paper = 255 - paper if operation.name == "invert" else paper
    return pixels


def render_batch(
    pixels: UInt8[np.ndarray, "n s s *channels"], view: View, drawings: Sequence[bytes], size_px: int
) -> UInt8[np.ndarray, "n size size *channels"]:
    """Apply a view to several drawings; see `render`."""
    if not view.operations and pixels.shape[1] == size_px:
        return pixels
    rendered = np.empty((len(pixels), size_px, size_px, *pixels.shape[3:]), np.uint8)
    for i, (square, drawing) in enumerate(zip(pixels, drawings, strict=True)):
        rendered[i] = render(square, view, drawing, size_px)
    return rendered


def _motion(operation: Operation, size_px: int, draws: Draws) -> Any:  # noqa: PLR0911 - a table
    import math  # noqa: PLC0415

    from inkfold.augment import geometric as warp  # noqa: PLC0415 - OpenCV: 160 ms

    low, high = operation.args or (0.0, 0.0)  # or the two numbers of a pair
    match operation.name:
        case "hflip" | "vflip":
            return warp.flip(size_px, left_right=operation.name == "hflip")
        case "rotate":
            return warp.rotate(size_px, draws.uniform(low, high))
        case "scale":
            factor = draws.uniform(low, high)
            return warp.affine(size_px, [[factor, 0], [0, factor]])
        case "shear":
            x, y = (math.tan(math.radians(draws.uniform(low, high))) for _ in range(2))
            return warp.affine(size_px, [[1, x], [y, 1]])
        case "translate":
            x, y = (draws.uniform(low, high) * size_px for _ in range(2))
            return warp.affine(size_px, [[1, 0], [0, 1]], (x, y))
        case "perspective":
            deviation = draws.uniform(low, high)
            inset = [[abs(draws.normal(deviation)) % KINDS["perspective"].high[0] for _ in range(2)] for _ in range(4)]
            return warp.perspective(size_px, inset)
        case "elastic":
            return warp.Elastic(low, high, draws)
        case "grid":
            steps = int(low)
            weights = [1 + draws.uniform(-high, high) for _ in range(2 * steps)]
            return warp.grid(size_px, weights[:steps], weights[steps:])
    raise AssertionError(operation.name)
