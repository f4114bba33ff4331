"""Whether strokes are recognised as well as files: the same drawings, as pictures and as the strokes that they were drawn of.

    python benchmarks/strokes.py MODEL.onnx     # of the demo's run
    python benchmarks/strokes.py MODEL.onnx --quick

The drawings come from inkfold's generator, of another world than the demo's (seed 1 instead of 0). Strokes go to the model as
the server sends them: drawn anew as training drawings look, wherever and however large they were drawn on a page.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np

from inkfold.data.synthetic import draw_sketch, draw_strokes
from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.paired import paired_difference
from inkfold.images.strokes import Sketch, Stroke, draw_page
from inkfold.serve.model import OnnxModel

SEED = 1
PAGE = 400.0


def sketch_of(class_name: str, index: int) -> Sketch:
    """Give the strokes that `draw_sketch` inks."""
    rng = np.random.default_rng([SEED, index, zlib.crc32(class_name.encode())])
    return Sketch(tuple(Stroke(stroke * PAGE) for stroke in draw_strokes(class_name, rng)), PAGE, PAGE)


def main() -> None:
    """Measure, print a table and the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--quick", action="store_true", help="5 drawings a class instead of 40")
    given = parser.parse_args()
    model = OnnxModel(given.model)
    names, look = model.about.class_names, model.about.look
    right: dict[str, list[bool]] = {"files": [], "strokes": []}
    for target, name in enumerate(names):
        for index in range(5 if given.quick else 40):
            pages = {"files": draw_sketch(name, SEED, index, 256), "strokes": draw_page(sketch_of(name, index), look)}
            for way, page in pages.items():
                probs = model.predict([model.preprocess(page)]).probs[0]
                right[way].append(int(probs.argmax()) == target)
    for way, hits in right.items():
        low, high = wilson_interval(sum(hits), len(hits))
        print(f"{way:>8}: {np.mean(hits):.3f} ({low:.3f}-{high:.3f}) of {len(hits)}")
    paired = paired_difference(np.array(right["files"]), np.array(right["strokes"]))
    low, high = paired["difference_ci95"]
    print(f"strokes less files: {paired['difference']:+.3f} ({low:+.3f} to {high:+.3f}), p = {paired['p_value']:.2g}")
    print(f"RESULT files={np.mean(right['files']):.4f} strokes={np.mean(right['strokes']):.4f} n={len(right['files'])}")


if __name__ == "__main__":
    main()
