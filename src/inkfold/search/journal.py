"""A study on disk: which trials were drawn, in batches, and what became of them.

A batch is drawn from the trials before it and from the seed alone, and its trials keep their numbers whatever happens: a batch
whose process died is drawn to its end and fitted again by the next one. So a study of one process repeats, also when it was
killed on the way. Several processes share a study batch by batch; what they draw then depends on which batch ends first.
"""

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inkfold.config.recipe import Recipe
from inkfold.config.sections import SearchRange
from inkfold.errors import PredictionError
from inkfold.search.journal_file import JournalFile
from inkfold.search.space import default_values, suggest
from inkfold.storage.locks import FileLock, Timeout

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("inkfold.search")

FILE = "study.journal"
FINGERPRINT, WEIGHTS = "data_fingerprint", "weights"
AS_IT_IS = "as_it_is"
BATCH, BATCH_SIZE = "batch", "batch_size"  # a trial's attributes: number of its batch's first trial, and how many it has
ENDED = ("COMPLETE", "PRUNED")
SEED_STEP = 1_000_003
POLL_S = 0.5  # while other processes finish their trials


@dataclass(frozen=True, slots=True)
class Draws:
    """What trials are drawn from.

    Attributes:
        raw: The recipe's keys as they are written.
        recipe: The same recipe validated.
        space: Each key's range or choices, by dotted key.
    """

    raw: Mapping[str, Any]
    recipe: Recipe
    space: Mapping[str, SearchRange]


@dataclass(frozen=True, slots=True)
class Batch:
    """Trials that are fitted together, while this process holds their lock.

    Attributes:
        trials: The trials, in the order of their numbers.
        earlier: All trials before them that have ended.
        lock: Says to other processes that this one is at work.
    """

    trials: Sequence["optuna.trial.FrozenTrial"]
    earlier: Sequence["optuna.trial.FrozenTrial"]
    lock: FileLock


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What became of a trial.

    Attributes:
        score: Its cross-validated metric, greater for better ones; None if it was stopped at a rung.
        reached: Its score at each rung, by the number of epochs there.
        diverged: The epoch, from 0, in which a loss was not finite; None if none was.
    """

    score: float | None
    reached: Mapping[int, float] = field(default_factory=dict)
    diverged: int | None = None


@dataclass(slots=True)
class Journal:
    """A study's directory.

    Attributes:
        out: The directory, which exists.
        study: Optuna's study of that directory, which all processes at work on it read and write.
    """

    out: Path
    study: "optuna.Study" = field(init=False)
    _storage: "optuna.storages.JournalStorage" = field(init=False)

    def __post_init__(self) -> None:
        import optuna  # noqa: PLC0415 - a second that only studies need to pay
        from optuna.storages.journal import JournalStorage  # noqa: PLC0415

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file = JournalFile(self.out / FILE, self.out / ".journal.lock")
        with self._alone():
            self._storage = JournalStorage(cast("Any", file))  # it has the methods that storages call
            self.study = optuna.create_study(
                storage=self._storage, study_name="tune", direction="maximize", load_if_exists=True
            )

    def claim_drawings(self, fingerprint: str) -> None:
        """Record which drawings are searched on.

        Args:
            fingerprint: Digest of the training drawings.

        Raises:
            PredictionError: If there are trials that were scored on other drawings.
        """
        with self._alone():
            earlier = self.study.user_attrs.get(FINGERPRINT)
            if earlier == fingerprint:
                return
            if any(trial.state.name != "WAITING" for trial in self._trials()):
                raise PredictionError(
                    f"{self.out}: holds trials on other drawings: their fingerprint is {earlier} there, {fingerprint} now. "
                    "What is set aside now may have been searched on. Restore the drawings, or choose another out=."
                )
            self.study.set_user_attr(FINGERPRINT, fingerprint)

    def claim_weights(self, digests: Mapping[str, str]) -> None:
        """Record which backbones' weights are searched on; a study of a version that didn't record them takes these.

        Args:
            digests: Digest of the weights of each backbone, by its name.

        Raises:
            PredictionError: If there are trials that were scored with other weights.
        """
        with self._alone():
            earlier = self.study.user_attrs.get(WEIGHTS)
            if earlier is None:
                self.study.set_user_attr(WEIGHTS, dict(digests))
            elif earlier != digests:
                changed = [name for name, digest in digests.items() if earlier.get(name) != digest]
                raise PredictionError(
                    f"{self.out}: holds trials with other weights of {', '.join(changed)} than are found now, and their scores "
                    "can't be compared. Put the old weights back, or choose another out=."
                )

    def count(self) -> int:
        """Return the number of trials that have ended."""
        return len(self.ended())

    def ended(self) -> list["optuna.trial.FrozenTrial"]:
        """Return the trials that have ended, in the order of their numbers."""
        return [trial for trial in self._trials() if trial.state.name in ENDED]

    @contextlib.contextmanager
    def next_batch(self, draws: Draws) -> Iterator[Batch | None]:
        """Take over the batch of a process that died, or draw a new one, and hold it while the block runs.

        Waits while other processes work on the last batches.

        Args:
            draws: What trials are drawn from; its `tune` section says how many there are in all and in a batch.

        Yields:
            The batch; None where all trials have ended.
        """
        while True:
            with self._alone():
                batch = self._left_behind(draws) or self._drawn(draws)
            if batch is not None or not any(trial.state.name == "RUNNING" for trial in self._trials()):
                break
            time.sleep(POLL_S)  # the drawings set aside are predicted once, when all processes are done
        try:
            yield batch
        finally:
            if batch is not None:
                _give_back(batch.lock)

    def write(self, batch: Batch, results: Sequence[TrialResult]) -> None:
        """Store what became of a batch's trials, one after the other.

        Args:
            batch: The trials that this process holds the lock of, from `next_batch`.
            results: A result for each of its trials; those that have been stored before a process died stay as they are.
        """
        from optuna.trial import TrialState  # noqa: PLC0415

        study = self._storage.get_study_id_from_name(self.study.study_name)
        for trial, result in zip(batch.trials, results, strict=True):
            if trial.state.is_finished():
                continue
            number = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
            for epochs, accuracy in result.reached.items():
                self._storage.set_trial_intermediate_value(number, epochs, accuracy)
            if result.diverged is not None:
                self._storage.set_trial_user_attr(number, "diverged", result.diverged)
            if result.score is None:
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                self.study.tell(trial.number, result.score)

    def _trials(self) -> list["optuna.trial.FrozenTrial"]:
        return self.study.get_trials(deepcopy=False)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from the study: they would take a batch that is half drawn for a dead process's."""
        with FileLock(self.out / ".study.lock"):
            yield

    def _left_behind(self, draws: Draws) -> Batch | None:
        """Take over the first batch whose process has died."""
        from optuna.trial import TrialState  # noqa: PLC0415

        running = [trial for trial in self._trials() if trial.state == TrialState.RUNNING]
        for trial in running:
            if BATCH not in trial.user_attrs:  # by an earlier version, which drew a dead process's trials anew
                self.study.tell(trial.number, state=TrialState.FAIL)
        for first in sorted({trial.user_attrs[BATCH] for trial in running if BATCH in trial.user_attrs}):
            lock = self._taken(first)
            if lock is None:
                continue
            own = [trial for trial in self._trials() if trial.user_attrs.get(BATCH) == first]
            if all(trial.state.is_finished() for trial in own):  # its process has just ended
                _give_back(lock)
                continue
            log.info("trials %d to %d: their process has died, so they are run again", first, own[-1].number)
            size = own[0].user_attrs[BATCH_SIZE]
            return self._batch(draws, first, size, lock, drawn=len(own))
        return None

    def _drawn(self, draws: Draws) -> Batch | None:
        """Draw a new batch; None where there are as many trials as are wanted."""
        wanted, trials = draws.recipe.tune, self._trials()
        running = sum(trial.state.name == "RUNNING" for trial in trials)
        size = min(wanted.batch, wanted.trials - self.count() - running)
        if size <= 0:
            return None
        if running:
            log.info("another process works on this study: what is drawn, and so the result, depends on whose batch ends first")
        lock = self._taken(len(trials))
        assert lock is not None, "no process has drawn trials of these numbers"
        return self._batch(draws, len(trials), size, lock, drawn=0)

    def _batch(self, draws: Draws, first: int, size: int, lock: FileLock, *, drawn: int) -> Batch:
        """Draw the trials of a batch that haven't been drawn yet."""
        if drawn < size:
            for trial in _draw(draws, self._trials()[:first], size)[drawn:]:
                self.study.add_trial(trial)
        trials = self._trials()
        earlier = [trial for trial in trials[:first] if trial.state.name in ENDED]
        return Batch([trial for trial in trials if trial.user_attrs.get(BATCH) == first], earlier, lock)

    def _taken(self, first: int) -> FileLock | None:
        """Take the lock of a batch; None where a process holds it."""
        lock = FileLock(self.out / f".batch-{first}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock


def _give_back(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)  # while it is held
    lock.release()


def _draw(draws: Draws, earlier: Sequence["optuna.trial.FrozenTrial"], size: int) -> list["optuna.trial.FrozenTrial"]:
    """Draw a batch's trials by the seed, their numbers and all trials before them, in a study that is in memory only."""
    import optuna  # noqa: PLC0415
    from optuna.trial import TrialState  # noqa: PLC0415

    first, own = len(earlier), default_values(draws.space, draws.raw)
    counted = [trial for trial in earlier if trial.state not in (TrialState.WAITING, TrialState.FAIL)]
    study = optuna.create_study(direction="maximize")
    study.add_trials(counted)
    starts_with_own = own is not None and not any(AS_IT_IS in trial.user_attrs for trial in counted)
    if own is not None and starts_with_own:
        study.enqueue_trial(own)
    for number in range(first, first + size):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            seed = (draws.recipe.seed + SEED_STEP * number) % 2**32
            study.sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
        suggest(study.ask(), draws.space, draws.raw)
    attributes = {BATCH: first, BATCH_SIZE: size}
    return [
        optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attributes | ({AS_IT_IS: True} if starts_with_own and i == 0 else {}),
        )
        for i, trial in enumerate(study.get_trials(deepcopy=False)[-size:])
    ]
