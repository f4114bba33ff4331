"""One backbone in a race: how fast it is here, and what it predicts of a sample of the drawings."""

import logging
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float16, Int64

from inkfold.augment.views import IDENTITY
from inkfold.auto.backbones import BackboneAtHand
from inkfold.auto.record import RacedBackbone
from inkfold.auto.sample import Sample
from inkfold.auto.standing import Predicted
from inkfold.auto.throughput import USUAL_DECODE_S, count_probed, measure_images_per_s
from inkfold.config.recipe import Recipe
from inkfold.config.sections import CosineHeadSettings, TrainHeadSettings
from inkfold.errors import InkfoldError
from inkfold.evaluation.predictions import is_worth_reporting
from inkfold.features.executors import Executor
from inkfold.features.extractor import DrawingFiles
from inkfold.pipeline.build import TrainingPlan, build_plan
from inkfold.pipeline.prepare import Prepared
from inkfold.runtime.cost import Cost
from inkfold.runtime.parallel import INLINE_BELOW, available_cores
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.auto")

LONGEST_REASON = 300  # characters
DECODED_TO_MEASURE = 500  # drawings, beside which starting processes takes little
FASTEST = 1e4  # drawings per second of a backbone whose features are in the bank
# Quick, and indifferent to the features' scale.
QUICK_HEAD = CosineHeadSettings(kind="cosine")
EPOCHS, FEWEST_STEPS, BATCH_SIZES = 12, 100, (16, 256)  # few drawings are trained on in smaller batches, very few more often
QUICK = TrainHeadSettings(optimiser="adamw", lr=8e-3, weight_decay=0.1, label_smoothing=0.1, precision="float32")


@dataclass(slots=True)
class RaceEntry:
    """What a race found out about one backbone.

    Attributes:
        found: What is written down of it.
        keys: Raw keys of a recipe that give it.
        expected_accuracy: Out-of-fold accuracy to expect of it on all training drawings, 0 to 1; None if it was not judged.
        seconds_for_all: Seconds that the features of all training and test drawings will take; None if unknown.
        is_judged: Whether its accuracy can be trusted: it was not pretrained on nearly all of the sample.
        is_out: Whether it dropped out, or was not tried; `found.why` says why.
    """

    found: RacedBackbone
    keys: dict[str, Any] = field(default_factory=dict)
    expected_accuracy: float | None = None
    seconds_for_all: float | None = None
    is_judged: bool = True
    is_out: bool = False

    @property
    def name(self) -> str:
        """The backbone's full name."""
        return self.found.name

    @classmethod
    def of(cls, backbone: BackboneAtHand, problem: str = "") -> "RaceEntry":
        """Begin the entry of a backbone; with a problem it is out."""
        found = RacedBackbone(backbone.full_name, backbone.source, imagenet_sketch_top1=backbone.imagenet_sketch_top1)
        entry = cls(found, {} if backbone.source == "recipe" else {"backbone": {"name": backbone.name}})
        if problem:
            entry.drop(problem)
        return entry

    def drop(self, why: str) -> None:
        """Take the backbone out of the race; of the reason the first line is kept."""
        self.is_out, self.found.why = True, textwrap.shorten(why.partition("\n")[0], LONGEST_REASON, placeholder=" ...")
        log.info("%s: %s", self.name, why)


@dataclass(slots=True)
class Racer:
    """A backbone while it races.

    Attributes:
        backbone: What it is, and where its weights are.
        entry: What is known of it for the result.
        recipe: The settled recipe that trains a head on it.
        prepared: All training drawings.
        plan: Its plan; None until it was built.
        images_per_s: Measured drawings per second; None until it was measured, or where all is in the bank.
        decode_s: Seconds for decoding a drawing at its size, measured where any was decoded.
        seen: Which training drawings it was pretrained on; None if that isn't known.
        lacking_share: Share of all drawings whose features the bank lacks, 0 to 1.
    """

    backbone: BackboneAtHand
    entry: RaceEntry
    recipe: Recipe
    prepared: Prepared
    plan: TrainingPlan | None = None
    images_per_s: float | None = None
    decode_s: float = USUAL_DECODE_S
    seen: Bool[np.ndarray, " n"] | None = None
    lacking_share: float = 1.0

    @property
    def images_per_s_decoded(self) -> float:
        """Measured drawings per second, with decoding them."""
        return 1 / (self.decode_s + 1 / (self.images_per_s or FASTEST))

    @property
    def seconds_per_drawing(self) -> float:
        """Seconds that a further drawing of the race takes on average: those whose features are in the bank take none."""
        return self.lacking_share / self.images_per_s_decoded

    def probe(
        self, rows: Int64[np.ndarray, " rows"], limit_s: Callable[[], float], executor: Executor | None, progress: Progress
    ) -> None:
        """Build the backbone and measure how fast it is, on a few drawings.

        Args:
            rows: Indices of training drawings, of which the first are taken to measure on.
            limit_s: Returns for how many seconds it may be measured, when that begins.
            executor: Computes features; None computes them in this process.
            progress: Called as features are computed.

        Raises:
            InkfoldError: If it can't be used.
        """
        self.plan = build_plan(self.recipe, executor)
        rows = rows[: count_probed(self.plan.extractor)]
        self._probe_decoding(rows, progress)
        rate = measure_images_per_s(self.plan.extractor, self.prepared.digests[rows], limit_s(), progress)
        if rate is not None:
            self.images_per_s = self.entry.found.images_per_s = round(rate, 2)
            log.info("%s: %.1f drawings per second", self.entry.name, rate)
        self._note_lacking()

    def predict(self, sample: Sample, progress: Progress) -> Predicted:
        """Predict each drawing of a sample by a head that was trained on other folds, and by one trained on half of them.

        Args:
            sample: The drawings and their folds.
            progress: Called as features are computed.

        Raises:
            InkfoldError: If it gives no features.
        """
        assert self.plan is not None
        self._decode(sample.rows, progress)
        digests = self.prepared.digests[sample.rows]
        features = self.plan.extractor.extract(digests, Cost(), progress).read(IDENTITY)
        probs = held_out_probs(sample, features, self.recipe.seed)
        half = sample.halved()
        half_probs = probs if half is None else held_out_probs(half, features, self.recipe.seed)
        seen = np.zeros(len(digests), bool) if self.seen is None else self.seen[sample.rows]
        seen = seen if is_worth_reporting(int(seen.sum()), len(seen)) else np.zeros_like(seen)
        self._note_lacking()
        return Predicted(probs, half_probs.argmax(1) == sample.targets, seen, self.entry.seconds_for_all or 0.0)

    def _decode(self, rows: Int64[np.ndarray, " rows"], progress: Progress) -> Cost:
        assert self.plan is not None
        train, table_rows, cost = self.prepared.read.train, self.prepared.rows[rows], Cost()
        source = DrawingFiles(train.names[table_rows], train.files[table_rows], train.digests[table_rows])
        self.plan.extractor.decode(source, cost, progress)
        if cost.decoded >= DECODED_TO_MEASURE:
            self.decode_s = cost.seconds["decode"] / cost.decoded
        return cost

    def _probe_decoding(self, rows: Int64[np.ndarray, " rows"], progress: Progress) -> None:
        """Decode some drawings in this process: starting others would take longer, and is no measure of what many take."""
        decoded, seconds = 0, 0.0
        for start in range(0, len(rows), INLINE_BELOW - 1):
            cost = self._decode(rows[start : start + INLINE_BELOW - 1], progress)
            decoded, seconds = decoded + cost.decoded, seconds + cost.seconds["decode"]
        if decoded:
            self.decode_s = seconds / decoded / available_cores()

    def _note_lacking(self) -> None:
        """Count the training and test drawings whose features the bank lacks."""
        assert self.plan is not None
        tests = self.prepared.test_digests
        digests = self.prepared.digests if tests is None else np.concatenate([self.prepared.digests, tests])
        lacking = int(self.plan.extractor.lacking(digests).sum())
        self.lacking_share = lacking / len(digests)
        self.entry.seconds_for_all = round(lacking / self.images_per_s_decoded, 3)


def held_out_probs(sample: Sample, features: Float16[np.ndarray, "n d"], seed: int) -> Float[np.ndarray, "n classes"]:
    """Fit a quick head in all folds, and predict what each holds out.

    Args:
        sample: The drawings and their folds.
        features: Their features.
        seed: Seed of the heads' starts and of the order in which they are trained.

    Returns:
        Class probabilities; zeros for drawings that no fold holds out.

    Raises:
        InkfoldError: If a head diverges.
    """
    from inkfold.heads.fit import Trial, fit_trials  # noqa: PLC0415 - torch takes a second
    from inkfold.heads.head import HeadSpec, mean_probs  # noqa: PLC0415
    from inkfold.heads.training_set import TrainingSet  # noqa: PLC0415

    training_set = TrainingSet(features, sample.targets, sample.folds, sample.num_classes, seed)
    drawings = int(sample.folds.trained_on.sum(1).min())
    batch_size = int(np.clip(drawings * EPOCHS // FEWEST_STEPS, *BATCH_SIZES))
    epochs = max(EPOCHS, -(-FEWEST_STEPS // -(-drawings // batch_size)))
    settings = QUICK.model_copy(update={"epochs": epochs, "batch_size": batch_size})
    [fitted] = fit_trials(training_set, [Trial(HeadSpec(QUICK_HEAD), settings)], threads_per_group=1)
    if fitted.heads is None:
        raise InkfoldError("a head on its features diverged")
    probs = np.zeros((len(features), sample.num_classes), np.float32)
    for place, fold in enumerate(fitted.folds):
        held_out = sample.folds.held_out[fold]
        probs[held_out] = mean_probs(fitted.heads, fitted.spec, features[held_out], [place])
    return probs
