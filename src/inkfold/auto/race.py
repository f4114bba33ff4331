"""Which backbones are worth the time: all are tried on few drawings, the better ones on more, by successive halving.

Features come from the bank and stay there, so that training on a backbone later computes only what the race has not.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from inkfold.auto.backbones import BackboneAtHand, fetch_weights, worth_trying
from inkfold.auto.extrapolate import with_more_classes, with_more_drawings
from inkfold.auto.racer import RaceEntry, Racer
from inkfold.auto.record import RacedBackbone
from inkfold.auto.sample import Sample, draw_sample, sample_order
from inkfold.auto.standing import Predicted, Standing
from inkfold.auto.throughput import MachineSpeed
from inkfold.config.recipe import Recipe
from inkfold.data.fingerprints import SignatureStore
from inkfold.data.seen import seen_list_file
from inkfold.errors import InkfoldError
from inkfold.features.executors import Executor
from inkfold.models.weights import find_weights_file
from inkfold.pipeline.prepare import Prepared, find_seen
from inkfold.pipeline.run import backbone_spec
from inkfold.runtime.cost import Cost
from inkfold.runtime.parallel import available_cores
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home

log = logging.getLogger("inkfold.auto")

FIRST_DRAWINGS, GROWTH = 800, 3  # drawings of the first round, and by how much each further round has more
FEWEST_DRAWINGS, LEAST_GROWTH = 240, 1.5  # where the time is short
PROBED = 2048  # drawings of which the first batches are taken
FOLDS = 3
SHARE_OF_ALL = 0.6  # of the time that is left: what a backbone's features of all drawings may take, as heads take some too
SHARE_OF_ROUND = 0.7  # of the race's time that is left: what the features of a round may take
PROBE_SHARE, LONGEST_PROBE_S = 0.15, 8.0
DOUBTFUL_GUESS = 4.0  # a guess of the time may be wrong by this factor
DOWNLOAD_BYTES_PER_S = 2e6  # until something has been fetched


@dataclass(frozen=True, slots=True)
class RaceResult:
    """What came out of a race.

    Attributes:
        entries: All backbones at hand, the best first; those that were not tried or dropped out last.
        voters: Names of up to three backbones whose vote is the best on the sample, in the order in which they help.
        vote_accuracy: Out-of-fold accuracy of their vote on the sample; None where there is none.
        n: Number of drawings by which the last round was judged.
        seconds: Seconds that it took.
        reason: Why it ended: a clause for the user.
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
        self._racers = [Racer(own, RaceEntry.of(own), _recipe_on(base, own), prepared) for own in tried]
        others = [backbone for backbone in backbones if backbone.full_name in left_out]
        self._left_out = [RaceEntry.of(backbone, left_out[backbone.full_name]) for backbone in others]
        self._standing: Standing | None = None  # after the last round
        self._present: tuple[Sample, dict[str, Predicted]] | None = None  # of the round that is being run
        self._speed: MachineSpeed | None = None
        self._download_rate = DOWNLOAD_BYTES_PER_S
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
        entries = [racer.entry for racer in self._racers]
        entries.sort(key=lambda entry: (entry.is_out, entry.found.rounds == 0, places.get(entry.name, len(places))))
        for entry in entries:
            if not entry.is_out:
                entry.found.why = _why(entry, places, voters)
        n, seconds = 0 if standing is None else standing.n, time.perf_counter() - self._began
        return RaceResult([*entries, *self._left_out], voters, accuracy, n, seconds, self._reason)

    # ------------------------------------------------------------------ stages

    def _mark_seen(self, progress: "_GuardedProgress") -> None:
        """Find the training drawings that backbones whose weights are here were pretrained on."""
        for racer in self._racers:
            with self._noting_problems(racer, progress):
                file = find_weights_file(backbone_spec(racer.recipe, "float32"))
                if file is not None and seen_list_file(file).is_file():
                    signatures = SignatureStore(home() / "signatures", self._base.image.pixel_limit)
                    racer.seen = find_seen(replace(self._prepared, seen=None), file, signatures, Cost(), progress).seen

    def _probe_all(self, rows: Int64[np.ndarray, " rows"], progress: "_GuardedProgress") -> None:
        """Measure how fast each backbone is, and drop those that can't compute all features in the time that is left."""
        for racer in self._racing:
            self._check_time()
            if problem := self._unaffordable_guess(racer):
                racer.entry.drop(problem)
                continue
            with self._noting_problems(racer, progress):
                self._fetch(racer, progress)
                racer.probe(rows, self._probe_s, self._executor, progress)
                if racer.images_per_s is not None:
                    self._machine_speed().note(_gmacs(racer), racer.images_per_s)
                self._drop_slow(racer)

    def _affordable_size(self, wanted: int) -> int:
        """Choose how many drawings the next round has, and drop the slowest backbones where they would make it too small.

        Returns:
            The number of drawings; 0 where the time doesn't allow another round that is larger than the last one.
        """
        done = 0 if self._standing is None else len(self._standing.targets)
        least = min(wanted, max(FEWEST_DRAWINGS, round(done * LEAST_GROWTH)))
        while racing := self._racing:
            size = done + int(
                SHARE_OF_ROUND * self._race_left() / max(sum(racer.seconds_per_drawing for racer in racing), 1e-6)
            )
            if size >= least:
                return min(wanted, size)
            if done:
                self._reason = "its share of the time allowed no larger round"
                return 0
            if len(racing) == 1:
                return least
            slowest = max(racing, key=lambda racer: racer.seconds_per_drawing)
            slowest.entry.drop(f"too slow to compare: {slowest.images_per_s_decoded:,.1f} drawings per second")
        self._reason = "none could be tried"
        return 0

    def _race_round(self, rows: Int64[np.ndarray, " n"], progress: "_GuardedProgress") -> bool:
        """Race those that are left on some drawings; return whether another round makes sense."""
        sample = draw_sample(self._prepared, rows, FOLDS, self._base.seed)
        if sample is None:
            self._reason = "there are too few drawings to compare backbones on"
            return False
        predicted: dict[str, Predicted] = {}
        self._present = (sample, predicted)
        for racer in self._racing:
            self._check_time()
            with self._noting_problems(racer, progress):
                predicted[racer.entry.name] = racer.predict(sample, progress)
        self._end_round()
        assert self._standing is not None
        reasons = self._standing.dropped(self._standing.voters(self._seconds_for_features())[0])
        for racer in self._racing:
            if why := reasons.get(racer.entry.name):
                racer.entry.drop(why)
        left = [racer.entry.name for racer in self._racing]
        log.info("round on %d drawings: %s are left", len(sample.rows), ", ".join(left) or "none")
        if len(left) <= 1:
            self._reason = "one was left" if left else "none could be tried"
        return len(left) > 1

    def _end_round(self) -> None:
        """Compare what has been predicted in this round, and write it down."""
        if self._present is None:
            return
        sample, predicted = self._present
        self._present, self._standing = None, Standing.of(predicted, sample.targets, sample.groups)
        for entry in (racer.entry for racer in self._racers if racer.entry.name in predicted):
            entry.found.rounds += 1
            entry.is_judged = entry.name in self._standing.predicted
            if entry.is_judged:
                _score(entry, self._standing, sample, self._prepared)

    # ------------------------------------------------------------------ time

    def _unaffordable_guess(self, racer: Racer) -> str:
        """Say why a backbone that has not been measured would take too long even if the guess is far too high."""
        tests = self._prepared.test_digests
        drawings = len(self._prepared.rows) + (0 if tests is None else len(tests))
        download = racer.backbone.download_bytes / self._download_rate
        per_drawing = 1 / self._machine_speed().images_per_s(_gmacs(racer)) / DOUBTFUL_GUESS
        for_all, left = drawings * per_drawing + download, self._limits.seconds_left()
        for_fewest = min(FEWEST_DRAWINGS, drawings) * per_drawing + download
        if for_all <= SHARE_OF_ALL * left and for_fewest <= SHARE_OF_ROUND * self._race_left():
            return ""
        fetched = f", {download:,.0f} s of them to fetch its weights" if download else ""
        return f"not tried: all drawings would take {for_all:,.0f} s at least{fetched}, of {left:,.0f} s left"

    def _drop_slow(self, racer: Racer) -> None:
        """Drop a backbone that has been measured and takes too long for all drawings."""
        seconds, left = racer.entry.seconds_for_all or 0.0, self._limits.seconds_left()
        if seconds > self._seconds_for_features():
            rate = f"{racer.images_per_s_decoded:,.1f} drawings per second"
            racer.entry.drop(f"too slow: at {rate} all drawings take {seconds:,.0f} s, of {left:,.0f} s left")

    def _fetch(self, racer: Racer, progress: Progress) -> None:
        """Fetch a backbone's weights from the hub, and learn how fast that is."""
        if racer.backbone.source != "hub":
            return
        seconds = fetch_weights(racer.backbone.full_name, SHARE_OF_ROUND * self._race_left(), progress)
        self._download_rate = max(racer.backbone.download_bytes, 1) / max(seconds, 1e-3)

    def _probe_s(self) -> float:
        return min(LONGEST_PROBE_S, PROBE_SHARE * self._race_left())

    def _seconds_for_features(self) -> float:
        return SHARE_OF_ALL * self._limits.seconds_left()

    def _race_left(self) -> float:
        return max(0.0, self._limits.seconds_left() - self._end_left)

    def _check_time(self) -> None:
        if self._race_left() <= 0:
            raise _TimeIsUp

    def _machine_speed(self) -> MachineSpeed:
        if self._speed is None:
            from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

            self._speed = MachineSpeed(choose_device(self._base.backbone.device).type, available_cores())
        return self._speed

    # ------------------------------------------------------------------ problems

    @property
    def _racing(self) -> list[Racer]:
        return [racer for racer in self._racers if not racer.entry.is_out]

    @contextlib.contextmanager
    def _noting_problems(self, racer: Racer, progress: "_GuardedProgress") -> Iterator[None]:
        """Drop a backbone with which something is wrong, instead of ending the race."""
        try:
            yield
        except _TimeIsUp:
            raise
        except (InkfoldError, RuntimeError, OSError, MemoryError, ValueError) as error:
            if progress.raised is error:
                raise
            racer.entry.drop(f"can't be used: {error}")


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


def _recipe_on(base: Recipe, backbone: BackboneAtHand) -> Recipe:
    if backbone.source == "recipe":
        return base
    return base.model_copy(update={"backbone": base.backbone.model_copy(update={"name": backbone.name})})


def _gmacs(racer: Racer) -> float:
    """What a forward pass costs at the size that the recipe says, which is the backbone's own where it says none."""
    row, size_px = racer.backbone.published, racer.recipe.image.size
    return racer.backbone.gmacs * (1.0 if row is None or size_px is None else (size_px / row.image_size) ** 2)


def _score(entry: RaceEntry, standing: Standing, sample: Sample, prepared: Prepared) -> None:
    """Write down a backbone's accuracy in a round, and what it lets expect of all drawings."""
    found, predicted, scored = entry.found, standing.predicted[entry.name], standing.scored
    found.n, found.accuracy = standing.n, round(standing.accuracy(entry.name), 6)
    targets = prepared.targets[sample.rows]
    of_all, of_sample = (np.bincount(every)[targets[scored]].mean() for every in (prepared.targets, targets))
    grown = with_more_drawings(found.accuracy, float(predicted.half_right[scored].mean()), float(of_all / of_sample))
    classes = len(np.unique(prepared.targets))
    entry.expected_accuracy = round(grown * with_more_classes(predicted.probs[scored], standing.targets[scored], classes), 6)
    log.info("%s: %.4f out of fold on %d drawings", entry.name, found.accuracy, standing.n)


def _why(entry: RaceEntry, places: Mapping[str, int], voters: Sequence[str]) -> str:
    """Say why a backbone that has not dropped out is taken, or not."""
    found = entry.found
    if not entry.is_judged:
        return "nothing can be said of it: its weights were trained on these drawings"
    if entry.name not in places:
        return "not tried: the race's time was over"
    figure = f"{found.accuracy:.3f} out of fold on {found.n:,} drawings"
    in_vote = len(voters) > 1 and entry.name in voters
    vote = f", and {voters.index(entry.name) + 1} of {len(voters)} in the best vote" if in_vote else ""
    return f"{'the best' if places[entry.name] == 0 else 'among the best'}: {figure}{vote}"
