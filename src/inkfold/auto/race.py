"""Which backbones are worth the time: all are tried on few drawings, the better ones on more, by successive halving.

Features come from the bank and stay there, so that training on a backbone later computes only what the race has not.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.augment.views import IDENTITY
from inkfold.auto.backbones import BackboneAtHand, worth_trying
from inkfold.auto.extrapolate import with_more_classes, with_more_drawings
from inkfold.auto.record import RacedBackbone
from inkfold.auto.sample import Sample, draw_sample, sample_order
from inkfold.auto.standing import Predicted, Standing
from inkfold.auto.throughput import MachineSpeed, measure_images_per_s
from inkfold.config.recipe import Recipe
from inkfold.config.sections import CosineHeadSettings, TrainHeadSettings
from inkfold.data.fingerprints import SignatureStore
from inkfold.data.seen import seen_list_file
from inkfold.errors import InkfoldError
from inkfold.evaluation.predictions import is_worth_reporting
from inkfold.features.executors import Executor
from inkfold.features.extractor import DrawingFiles
from inkfold.models.weights import find_weights_file
from inkfold.pipeline.build import TrainingPlan, build_plan
from inkfold.pipeline.prepare import Prepared, find_seen
from inkfold.pipeline.run import backbone_spec
from inkfold.runtime.cost import Cost
from inkfold.runtime.parallel import available_cores
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home

log = logging.getLogger("inkfold.auto")

FIRST_DRAWINGS, GROWTH = 800, 3  # drawings of the first round, and by how much each further round has more
FEWEST_DRAWINGS, LEAST_GROWTH = 240, 1.5  # where the time is short
PROBED = 512  # drawings from which the first batches are taken
FOLDS = 3
SHARE_OF_ALL = 0.6  # of the time that is left: what a backbone's features of all drawings may take, as heads take some too
SHARE_OF_ROUND = 0.7  # of the race's time that is left: what the features of a round may take
PROBE_SHARE, LONGEST_PROBE_S = 0.15, 8.0
DOUBTFUL_GUESS = 4.0  # a guess of the time may be wrong by this factor
DOWNLOAD_BYTES_PER_S = 2e6  # until something has been fetched
# Quick, and indifferent to the features' scale; twice as fast as the default head, and orders backbones as that does.
QUICK_HEAD = CosineHeadSettings(kind="cosine")
QUICK = TrainHeadSettings(
    epochs=12, batch_size=256, optimiser="adamw", lr=8e-3, weight_decay=0.1, label_smoothing=0.1, precision="float32"
)


@dataclass(slots=True)
class RaceEntry:
    """One backbone in a race.

    Attributes:
        found: What is written down of it.
        keys: Raw keys of a recipe that give it.
        expected_accuracy: Out-of-fold accuracy to expect of it on all training drawings, 0 to 1; None if it was not judged.
        seconds_for_all: Seconds that the features of all training and test drawings will take; None if unknown.
        is_judged: Whether its accuracy can be trusted: it was not pretrained on nearly all of the sample.
        is_out: Whether it dropped out, or was not tried.
    """

    found: RacedBackbone
    keys: dict[str, Any]
    expected_accuracy: float | None = None
    seconds_for_all: float | None = None
    is_judged: bool = True
    is_out: bool = False

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.found.name


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What came out of a race.

    Attributes:
        entries: All backbones at hand, the best first; those that were not tried or dropped last.
        voters: Names of up to three backbones whose vote is the best on the sample, in the order in which they help.
        vote_accuracy: Out-of-fold accuracy of their vote on the sample; None where there is none.
        n: Number of drawings in the last round.
        seconds: Seconds that it took.
        reason: Why it ended, and what it found: a sentence for the user.
    """

    entries: list[RaceEntry]
    voters: list[str]
    vote_accuracy: float | None
    n: int
    seconds: float
    reason: str

    @property
    def backbones(self) -> list[RacedBackbone]:
        """What is written down of all backbones, the best first."""
        return [entry.found for entry in self.entries]


@dataclass(slots=True)
class _Racer:
    """A backbone while it races.

    Attributes:
        backbone: What it is, and where its weights are.
        entry: What is known of it for the result.
        plan: Its plan; None until it was tried.
        images_per_s: Measured drawings per second; None until it was measured.
        decode_s: Measured seconds for decoding a drawing at its size.
        seen: Which training drawings it was pretrained on; None if that isn't known.
        is_out: Whether it dropped out, for the reason that its entry has.
    """

    backbone: BackboneAtHand
    entry: RaceEntry
    plan: TrainingPlan | None = None
    images_per_s: float | None = None
    decode_s: float = 0.0
    seen: Bool[np.ndarray, " n"] | None = None
    is_out: bool = False

    @property
    def seconds_per_drawing(self) -> float:
        """Measured seconds for decoding a drawing and computing its features."""
        return self.decode_s + (1 / self.images_per_s if self.images_per_s else 1e-4)


@dataclass(frozen=True, slots=True)
class RaceLimits:
    """How long a race may take.

    Attributes:
        seconds_left: Returns the seconds that are left of the whole search.
        share: Share of them that the race may take, 0 to 1.
    """

    seconds_left: Callable[[], float]
    share: float = 0.25


class _TimeIsUp(Exception):  # noqa: N818 - no error
    """The race has taken as long as it may."""


class BackboneRace:
    """Finds the backbones that are worth training on, in a part of the time that is left.

    `run` may be left at any time by an exception of the progress callback: `result` then says what is known by then.

    Args:
        base: The settled recipe whose keys all backbones share, but for the backbone's name.
        prepared: The training drawings, with their groups and copies.
        backbones: Those at hand, the cheapest first.
        limits: The time that is left, and the race's share of it.
        executor: Computes features; None computes them in this process.
    """

    def __init__(
        self,
        base: Recipe,
        prepared: Prepared,
        backbones: Sequence[BackboneAtHand],
        limits: RaceLimits,
        executor: Executor | None = None,
    ) -> None:
        self._base, self._prepared, self._limits, self._executor = base, prepared, limits, executor
        tried, left_out = worth_trying(backbones)
        self._racers = [_Racer(backbone, _entry(backbone)) for backbone in tried]
        others = [backbone for backbone in backbones if backbone.full_name in left_out]
        self._left_out = [_entry(backbone, left_out[backbone.full_name]) for backbone in others]
        self._standing: Standing | None = None  # after the last round
        self._present: tuple[Sample, dict[str, Predicted]] | None = None  # of the round that is being run
        self._speed: MachineSpeed | None = None
        self._began, self._end_left, self._reason = time.perf_counter(), 0.0, ""

    def run(self, progress: Progress = silent) -> RaceResult:
        """Race all backbones, round by round, until few are left, all drawings are in, or the time is up.

        Args:
            progress: Called as features are computed; what it raises ends the race and is raised again.

        Returns:
            The backbones, the best first.
        """
        self._began = time.perf_counter()
        self._end_left = self._limits.seconds_left() * (1 - self._limits.share)
        guarded = _GuardedProgress(progress, self._check_time)
        try:
            self._mark_seen(guarded)
            seen = [racer.seen for racer in self._racers if racer.seen is not None]
            order = sample_order(self._prepared, FOLDS, self._base.seed, np.logical_or.reduce(seen) if seen else None)
            self._probe_all(order[:PROBED], guarded)
            wanted = FIRST_DRAWINGS
            while (size := self._affordable_size(min(wanted, len(order)))) and self._race_round(order[:size], guarded):
                if size == len(order):
                    self._reason = "all drawings were in the last round"
                    break
                wanted = size * GROWTH
        except _TimeIsUp:
            self._reason = "its share of the time was over"
        return self.result()

    def result(self) -> RaceResult:
        """Say what is known by now; usable after a run that was ended by an exception."""
        if self._standing is None:
            self._end_round()
        standing = self._standing
        voters, accuracy = ([], None) if standing is None else standing.voters(self._seconds_for_features())
        places = {} if standing is None else {name: place for place, name in enumerate(standing.ranked)}
        racers = sorted(self._racers, key=lambda racer: (racer.is_out, places.get(racer.entry.name, len(places))))
        for racer in racers:
            racer.entry.is_out = racer.is_out
            racer.entry.found.why = racer.entry.found.why or _why(racer.entry, places, voters)
        n, seconds = 0 if standing is None else standing.n, time.perf_counter() - self._began
        entries = [*(racer.entry for racer in racers), *self._left_out]
        return RaceResult(entries, voters, accuracy, n, seconds, self._reason)

    def _mark_seen(self, progress: Progress) -> None:
        """Find the training drawings that backbones whose weights are here were pretrained on."""
        for racer in self._racers:
            try:
                file = find_weights_file(backbone_spec(self._recipe(racer.backbone), "float32"))
                if file is not None and seen_list_file(file).is_file():
                    signatures = SignatureStore(home() / "signatures", self._base.image.pixel_limit)
                    racer.seen = find_seen(replace(self._prepared, seen=None), file, signatures, Cost(), progress).seen
            except InkfoldError as error:
                racer.is_out, racer.entry.found.why = True, f"can't be used: {error}".partition("\n")[0]

    def _probe_all(self, rows: Int64[np.ndarray, " n"], progress: "_GuardedProgress") -> None:
        """Measure how fast each backbone is, and drop those that can't compute all features in the time that is left."""
        for racer in [racer for racer in self._racers if not racer.is_out]:
            self._check_time()
            self._guard(racer, partial(self._probe, racer, np.sort(rows), progress), progress)

    def _affordable_size(self, wanted: int) -> int:
        """Choose how many drawings the next round has, and drop the slowest backbones where they would make it too small.

        Returns:
            The number of drawings; 0 where the time doesn't allow another round that is larger than the last one.
        """
        racing = [racer for racer in self._racers if not racer.is_out]
        done = 0 if self._standing is None else len(self._standing.targets)
        least = min(wanted, max(FEWEST_DRAWINGS, round(done * LEAST_GROWTH)))
        while racing:
            size = int(SHARE_OF_ROUND * self._race_left() / sum(racer.seconds_per_drawing for racer in racing))
            if size + done >= least:
                return min(wanted, size + done)
            if done or len(racing) == 1:
                self._reason = "its share of the time allows no larger round"
                return 0 if done else least
            slowest = max(racing, key=lambda racer: racer.seconds_per_drawing)
            slowest.is_out = True
            slowest.entry.found.why = (
                f"too slow to compare: it takes {1 / slowest.seconds_per_drawing:,.1f} drawings per second"
            )
            racing.remove(slowest)
        self._reason = "none could be tried"
        return 0

    def _race_round(self, rows: Int64[np.ndarray, " n"], progress: "_GuardedProgress") -> bool:
        """Race those that are left on some drawings; return whether another round makes sense."""
        sample = draw_sample(self._prepared, rows, FOLDS, self._base.seed)
        if sample is None:
            self._reason = "there are too few drawings to compare backbones on"
            return False
        self._present = (sample, {})
        for racer in [racer for racer in self._racers if not racer.is_out]:
            self._check_time()
            self._guard(racer, partial(self._judge, racer, sample, progress), progress)
        self._end_round()
        assert self._standing is not None
        reasons = self._standing.dropped(self._standing.voters(self._seconds_for_features())[0])
        for racer in self._racers:
            if why := reasons.get(racer.entry.name):
                racer.is_out, racer.entry.found.why = True, why
        left = [racer.entry.name for racer in self._racers if not racer.is_out]
        log.info("round on %d drawings: %s are left", len(sample.rows), ", ".join(left) or "none")
        if len(left) <= 1:
            self._reason = "one is left" if left else "none could be tried"
        return len(left) > 1

    def _end_round(self) -> None:
        """Compare what has been predicted in this round, and write it down."""
        if self._present is None:
            return
        sample, predicted = self._present
        self._present, self._standing = None, Standing.of(predicted, sample.targets, sample.groups)
        classes = len(np.unique(self._prepared.targets))
        growth = len(self._prepared.rows) / classes / (len(sample.rows) / sample.num_classes)
        for entry in (racer.entry for racer in self._racers if racer.entry.name in predicted):
            _score(entry, self._standing, predicted[entry.name], growth, classes)

    def _guard(self, racer: _Racer, work: Callable[[], str], progress: "_GuardedProgress") -> None:
        """Do something with one backbone; whatever is wrong with it is written down, and it drops out."""
        try:
            problem = work()
        except _TimeIsUp:
            raise
        except (InkfoldError, RuntimeError, OSError, MemoryError, ValueError) as error:
            if progress.raised is error:
                raise
            problem = f"can't be used: {error}"
        if problem:
            racer.is_out, racer.entry.found.why = True, problem.partition("\n")[0]
            log.info("%s: %s", racer.entry.name, problem)

    def _probe(self, racer: _Racer, rows: Int64[np.ndarray, " n"], progress: Progress) -> str:
        """Build a backbone and measure its speed; returns why it takes too long, or nothing."""
        if problem := self._unaffordable_guess(racer):
            return problem
        racer.plan = build_plan(self._recipe(racer.backbone), self._executor)
        self._decode(racer, rows, Cost(), progress)
        limit_s = min(LONGEST_PROBE_S, PROBE_SHARE * self._race_left())
        images_per_s = measure_images_per_s(racer.plan.extractor, self._prepared.digests[rows], limit_s, progress)
        if images_per_s is not None:
            log.info("%s: %.1f drawings/s", racer.entry.name, images_per_s)
            racer.images_per_s = racer.entry.found.images_per_s = round(images_per_s, 2)
            self._machine_speed().note(racer.backbone.gmacs, images_per_s)
        return self._unaffordable(racer)

    def _judge(self, racer: _Racer, sample: Sample, progress: Progress) -> str:
        """Compute features and predictions of a sample."""
        assert racer.plan is not None
        assert self._present is not None
        extractor, cost = racer.plan.extractor, Cost()
        self._decode(racer, sample.rows, cost, progress)
        features = extractor.extract(self._prepared.digests[sample.rows], cost, progress).read(IDENTITY)
        self._present[1][racer.entry.name] = self._predict(racer, sample, features)
        return ""

    def _recipe(self, backbone: BackboneAtHand) -> Recipe:
        if backbone.source == "recipe":
            return self._base
        return self._base.model_copy(update={"backbone": self._base.backbone.model_copy(update={"name": backbone.name})})

    def _unaffordable_guess(self, racer: _Racer) -> str:
        """Say why a backbone that has not been measured would take too long even if the guess is far too high."""
        speed, download = self._machine_speed(), racer.backbone.download_bytes / DOWNLOAD_BYTES_PER_S
        per_drawing = 1 / speed.images_per_s(racer.backbone.gmacs) / DOUBTFUL_GUESS
        for_all, left = self._count_all() * per_drawing + download, self._limits.seconds_left()
        for_fewest = FEWEST_DRAWINGS * per_drawing + download
        if for_all <= SHARE_OF_ALL * left and for_fewest <= SHARE_OF_ROUND * self._race_left():
            return ""
        fetched = f", {download:,.0f} s of them to fetch its weights" if download else ""
        return f"not tried: all drawings would take {for_all:,.0f} s at least{fetched}, of {left:,.0f} s left"

    def _unaffordable(self, racer: _Racer) -> str:
        """Say why a backbone that has been measured takes too long."""
        assert racer.plan is not None
        tests, left = self._prepared.test_digests, self._limits.seconds_left()
        everything = self._prepared.digests if tests is None else np.concatenate([self._prepared.digests, tests])
        lacking = int(racer.plan.extractor.lacking(everything).sum())
        racer.entry.seconds_for_all = round(racer.seconds_per_drawing * lacking, 3)
        if racer.entry.seconds_for_all <= SHARE_OF_ALL * left:
            return ""
        rate = f"{1 / racer.seconds_per_drawing:,.1f} drawings per second"
        return f"too slow: at {rate} all drawings take {racer.entry.seconds_for_all:,.0f} s, of {left:,.0f} s left"

    def _decode(self, racer: _Racer, rows: Int64[np.ndarray, " n"], cost: Cost, progress: Progress) -> None:
        assert racer.plan is not None
        train, table_rows = self._prepared.read.train, self._prepared.rows[rows]
        source = DrawingFiles(train.names[table_rows], train.files[table_rows], train.digests[table_rows])
        racer.plan.extractor.decode(source, cost, progress)
        if cost.decoded:
            racer.decode_s = cost.seconds["decode"] / cost.decoded

    def _predict(self, racer: _Racer, sample: Sample, features: np.ndarray) -> Predicted:
        """Predict each drawing by a head that was trained on the other folds, and again by one trained on half of them."""
        probs = _held_out_probs(sample, features, self._base.seed)
        half = sample.halved()
        half_probs = probs if half is None else _held_out_probs(half, features, self._base.seed)
        seen = np.zeros(len(sample.rows), bool) if racer.seen is None else racer.seen[sample.rows]
        seen = seen if is_worth_reporting(int(seen.sum()), len(seen)) else np.zeros_like(seen)
        right = half_probs.argmax(1) == sample.targets
        return Predicted(probs, right, seen, racer.entry.seconds_for_all or 0.0)

    def _seconds_for_features(self) -> float:
        return SHARE_OF_ALL * self._limits.seconds_left()

    def _machine_speed(self) -> MachineSpeed:
        if self._speed is None:
            from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

            self._speed = MachineSpeed(choose_device(self._base.backbone.device).type, available_cores())
        return self._speed

    def _count_all(self) -> int:
        tests = self._prepared.test_digests
        return len(self._prepared.rows) + (0 if tests is None else len(tests))

    def _race_left(self) -> float:
        return max(0.0, self._limits.seconds_left() - self._end_left)

    def _check_time(self) -> None:
        if self._race_left() <= 0:
            raise _TimeIsUp


class _GuardedProgress:
    """Reports progress, ends the race in time, and remembers what the callback raised, which is no fault of a backbone."""

    def __init__(self, progress: Progress, check_time: Callable[[], None]) -> None:
        self._progress, self._check_time = progress, check_time
        self.raised: BaseException | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._check_time()
        try:
            self._progress(stage, done, total)
        except BaseException as error:
            self.raised = error
            raise


def _entry(backbone: BackboneAtHand, why: str = "") -> RaceEntry:
    found = RacedBackbone(
        backbone.full_name, backbone.source, imagenet_sketch_top1=backbone.imagenet_sketch_top1, why=why.partition("\n")[0]
    )
    keys = {} if backbone.source == "recipe" else {"backbone": {"name": backbone.name}}
    return RaceEntry(found, keys)


def _score(entry: RaceEntry, standing: Standing, predicted: Predicted, growth: float, classes: int) -> None:
    """Write down a backbone's accuracy in a round, and what it lets expect of all drawings."""
    found = entry.found
    found.rounds += 1
    entry.is_judged = predicted.is_judged
    if not entry.is_judged:
        return
    found.n, found.accuracy = standing.n, round(standing.accuracy(entry.name), 6)
    half_accuracy = float(predicted.half_right[standing.scored].mean())
    grown = with_more_drawings(found.accuracy, half_accuracy, growth)
    factor = with_more_classes(predicted.probs[standing.scored], standing.targets[standing.scored], classes)
    entry.expected_accuracy = round(grown * factor, 6)
    log.info("%s: %.4f out of fold on %d drawings", entry.name, found.accuracy, standing.n)


def _held_out_probs(sample: Sample, features: np.ndarray, seed: int) -> Float[np.ndarray, "n classes"]:
    """Fit the quick head in all folds, and predict what each holds out."""
    from inkfold.heads.fit import Trial, fit_trials  # noqa: PLC0415 - torch takes a second
    from inkfold.heads.head import HeadSpec, mean_probs  # noqa: PLC0415
    from inkfold.heads.training_set import TrainingSet  # noqa: PLC0415

    training_set = TrainingSet(features, sample.targets, sample.folds, sample.num_classes, seed)
    [fitted] = fit_trials(training_set, [Trial(HeadSpec(QUICK_HEAD), QUICK)], threads_per_group=1)
    if fitted.heads is None:
        raise InkfoldError("a head on its features diverged")
    probs = np.zeros((len(features), sample.num_classes), np.float32)
    for place, fold in enumerate(fitted.folds):
        held_out = sample.folds.held_out[fold]
        probs[held_out] = mean_probs(fitted.heads, fitted.spec, features[held_out], [place])
    return probs


def _why(entry: RaceEntry, places: Mapping[str, int], voters: Sequence[str]) -> str:
    """Say why a backbone that has not dropped out is taken, or not."""
    found = entry.found
    if not entry.is_judged:
        return "nothing can be said of it: its weights were trained on these drawings"
    if entry.name not in places:
        return "not tried: the race's time was over"
    figure = f"{found.accuracy:.3f} out of fold on {found.n:,} drawings"
    vote = (
        f", and {voters.index(entry.name) + 1} of {len(voters)} in the best vote"
        if len(voters) > 1 and entry.name in voters
        else ""
    )
    return f"{'the best' if places[entry.name] == 0 else 'among the best'}: {figure}{vote}"
