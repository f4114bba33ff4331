"""Which strokes of a drawing an answer rests on: ink is split into strokes, each is erased, and the answer is asked again.

`strokes` splits the ink, `occlusion` erases and measures, `picture` colours, `explanation` is the value that users get. Models
stay outside: whoever has one (`pipeline.explain`, `serve`) predicts the erased squares.
"""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.explain.explanation import Explanation as Explanation
    from inkfold.explain.explanation import StrokeEffect as StrokeEffect

__getattr__, __dir__ = lazy_names(__name__, {"Explanation": "explanation", "StrokeEffect": "explanation"})
