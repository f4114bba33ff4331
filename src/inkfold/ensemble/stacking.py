"""Numbers fitted on out-of-fold predictions: temperatures, weights, member selections, stacking. Pure numpy and scipy.

Everything is fitted on the members' class probabilities of drawings that they were not trained on; `methods` scores it by a
second level of cross-validation. Members may be memory-mapped: whatever needs all their numbers reads some rows at a time.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Int64

from inkfold.ensemble.voting import LEAST_PROBABILITY, log_probs
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import softmax
from inkfold.storage.scratch import scratch_array

EM_STEPS, EM_TOLERANCE = 500, 1e-9
TEMPERATURE_RANGE = (0.05, 20.0)
STACK_L2 = 1.0  # strength of the pull towards equal weights and no bias, in drawings
STACK_TOLERANCE = 1e-5  # slope at the optimum as a share of the scaled slope at the start
LEAST_CURVATURE = 1e-7  # of a direction, as a share of the greatest
FEWEST_FOR_BAGS = 10  # members; half of fewer is so few that chance decides who gets in
CHUNK_ROWS = 64  # so that a chunk of some members and 500 classes stays in the processor's cache


def fit_temperature(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> float:
    """Fit the temperature by which a member's log-probabilities are divided to be calibrated.

    Args:
        probs: Class probabilities of drawings that the member was not trained on.
        targets: True class id of each drawing, in the order of the probabilities' rows.

    Returns:
        The temperature, 0.05 to 20, that makes the targets most likely; above 1 where the member is over-confident.

    Raises:
        PredictionError: If there are no drawings.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - 200 ms

    _check(probs[None], targets)

    def loss(log_temperature: float) -> float:
        temperature, total = math.exp(log_temperature), 0.0
        for part in _parts(len(targets)):
            total += _losses(log_probs(probs[part]) / temperature, targets[part])[0].sum()
        return total / len(targets)

    result = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURE_RANGE)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(result.x))


def tempered(probs: Float[np.ndarray, "n classes"], temperature: float) -> Float[np.ndarray, "n classes"]:
    """Divide log-probabilities by a temperature and bring rows back to sum 1."""
    return softmax(log_probs(probs) / temperature)


def all_tempered(
    members: Float[np.ndarray, "members n classes"], temperatures: Float[np.ndarray, " members"]
) -> Float32[np.ndarray, "members n classes"]:
    """Divide every member's log-probabilities by its temperature; rows sum to 1, in single precision to halve the memory.

    Args:
        members: Class probabilities; every row sums to 1.
        temperatures: Each member's temperature, above 0.
    """
    whole = scratch_array(members.shape, np.float32)
    for result, probs, temperature in zip(whole, members, temperatures, strict=True):
        for part in _parts(len(result)):
            result[part] = tempered(probs[part], temperature)
    return whole


def fit_weights(
    members: Float[np.ndarray, "members n classes"], targets: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " members"]:
    """Fit the weights of a soft vote that make the targets most likely.

    The likelihood of a mixture is concave in its weights, and expectation-maximisation climbs it without a step size.

    Args:
        members: Class probabilities of drawings that the members were not trained on.
        targets: True class id of each drawing, in the order of the probabilities' rows.

    Returns:
        Weights that sum to 1; useless members end near 0.

    Raises:
        PredictionError: If there are no members or no drawings.

    Source: Dempster, Laird and Rubin, J. R. Stat. Soc. B 39 (1977).
    """
    _check(members, targets)
    likelihoods = _likelihoods(members, targets)
    weights = np.full(len(members), 1 / len(members))
    before = -np.inf
    for _ in range(EM_STEPS):
        mixture = weights @ likelihoods
        weights = weights * (likelihoods / mixture).mean(1)
        after = float(np.log(mixture).mean())
        if after - before < EM_TOLERANCE:
            break
        before = after
    return weights


def select_greedily(
    members: Float[np.ndarray, "members n classes"],
    targets: Int64[np.ndarray, " n"],
    *,
    rounds: int = 50,
    bags: int = 20,
    bag_fraction: float = 0.5,
    seed: int = 0,
) -> Float[np.ndarray, " members"]:
    """Select members one by one, with replacement, each time the one that helps most; average over bags of members.

    The mean log-likelihood decides what helps. A member that deserves a small share helps only once others were taken several
    times, so all rounds are run. Every bag weighs the same. Fewer than 10 members are one bag. 30 members and 15,021 drawings
    take less than a second.

    Args:
        members: Class probabilities of drawings that the members were not trained on. May be memory-mapped:
            little of it is held.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        rounds: Number of members added, at least 1; the best of the sets on the way is kept.
        bags: Number of selections, at least 1, each from a random part of the members; 1 selects once from all of them.
        bag_fraction: Share of the members that are in a bag, 0 to 1.
        seed: Seed of the random bags, at least 0.

    Returns:
        Weights that sum to 1: the mean, over bags, of each member's share of those taken.

    Raises:
        PredictionError: If there are no members, no drawings, no rounds or no bags.

    Source: Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.
    """
    _check(members, targets)
    if rounds < 1 or bags < 1:
        raise PredictionError(f"greedy selection: got {rounds} rounds and {bags} bags, expected 1 of each at least.")
    likelihoods, weights = _likelihoods(members, targets), np.zeros(len(members))
    chosen = _bags(len(members), bags, bag_fraction, seed)
    for bag in chosen:
        taken = _taken(likelihoods[bag], rounds)
        weights[bag] += np.bincount(taken, minlength=len(bag)) / len(taken) / len(chosen)
    return weights


def fit_stack(
    members: Float[np.ndarray, "members n classes"], targets: Int64[np.ndarray, " n"], l2: float = STACK_L2
) -> tuple[Float[np.ndarray, " members"], Float[np.ndarray, " classes"]]:
    """Fit a multinomial logistic regression on the members' log-probabilities.

    Its coefficients are tied: one for each member and one bias for each class. With one for each (member, class, class), as
    without the tie, some dozens of drawings per class would be overfitted.

    Args:
        members: Class probabilities of drawings that the members were not trained on.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        l2: Strength of the pull of weights towards 1 / members and of biases towards 0, in drawings; at least 0.

    Returns:
        Each member's weight and each class's bias.

    Raises:
        PredictionError: If there are no members or no drawings.

    Source: Wolpert, "Stacked Generalization", Neural Networks 5 (1992); tied as in Kull et al., arXiv 1910.12656.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - 200 ms

    _check(members, targets)
    count = len(members)
    start = _stack_start(members)
    slopes = _stack_loss(start, members, targets, l2)[1]
    root, spread = _stack_curvature(members, l2)

    def unscaled(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.linalg.solve(root.T, values[:count]), values[count:] / spread])

    def scaled(slopes: np.ndarray) -> np.ndarray:
        return np.concatenate([np.linalg.solve(root, slopes[:count]), slopes[count:] / spread])

    step = float(np.linalg.norm(scaled(slopes)))  # the first line search starts at length 1: Newton's step
    if not step:
        return start[:count], start[count:]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = _stack_loss(start + step * unscaled(values), members, targets, l2)
        return value, step * scaled(slopes)

    options = {"maxiter": 200, "gtol": STACK_TOLERANCE * step}
    result = minimize(loss, np.zeros(len(start)), jac=True, method="L-BFGS-B", options=options)
    found = start + step * unscaled(result.x)
    return found[:count], found[count:]


def _stack_start(members: Float[np.ndarray, "members n classes"]) -> Float[np.ndarray, " parameters"]:
    """Give equal weights and no biases: the geometric mean."""
    return np.concatenate([np.full(len(members), 1 / len(members)), np.zeros(members.shape[2])])


def _stack_loss(
    parameters: Float[np.ndarray, " parameters"],
    members: Float[np.ndarray, "members n classes"],
    targets: Int64[np.ndarray, " n"],
    l2: float,
) -> tuple[float, Float[np.ndarray, " parameters"]]:
    """Give the mean loss of weights and biases, and its slopes.

    Cells are in single precision, which takes 0.4 of the time; sums over more than 64 drawings are in double.
    """
    count, n = members.shape[:2]
    pull = parameters - _stack_start(members)
    value, slopes = float(l2 / 2 * pull @ pull), l2 * pull
    weights, bias = np.split(parameters.astype(np.float32), [count])
    for part in _parts(n):  # taking logarithms anew costs less than holding all of them: the chunk stays in the cache
        logs = _short_logs(members[:, part])
        losses, residual = _losses(_scores(logs, weights, bias), targets[part])
        residual[np.arange(len(residual)), targets[part]] -= 1
        value += float(losses.sum(dtype=np.float64))
        slopes[:count] += np.tensordot(logs, residual, 2)
        slopes[count:] += residual.sum(0)
    return value / n, slopes / n


def _stack_curvature(
    members: Float[np.ndarray, "members n classes"], l2: float
) -> tuple[Float[np.ndarray, "members members"], Float[np.ndarray, " classes"]]:
    """Give roots of the loss's curvature at the start: of all weights together, and of each bias alone.

    Weights change the loss a thousand times as fast as a rare class's bias. In steps that are scaled by these roots L-BFGS
    takes a quarter of the evaluations.
    """
    count, n, classes = members.shape
    of_weights, of_biases = l2 * np.eye(count), np.full(classes, float(l2))
    for part in _parts(n):
        logs = _short_logs(members[:, part])
        probs = softmax(logs.mean(0))
        logs -= np.einsum("mrc,rc->mr", logs, probs)[:, :, None]
        of_weights += np.tensordot(logs * probs, logs, ((1, 2), (1, 2)))
        of_biases += (probs * (1 - probs)).sum(0)
    flat = max(float(of_biases.max()), 1.0) * LEAST_CURVATURE  # without a pull, equal members or a lost class may have none
    of_weights += np.eye(count) * max(float(np.trace(of_weights)), 1.0) * LEAST_CURVATURE
    return np.linalg.cholesky(of_weights / n), np.sqrt(np.maximum(of_biases, flat) / n)


def stacked(
    members: Float[np.ndarray, "members n classes"],
    weights: Float[np.ndarray, " members"],
    bias: Float[np.ndarray, " classes"] | None,
) -> Float[np.ndarray, "n classes"]:
    """Predict with the weights and biases of `fit_stack`; rows sum to 1."""
    probs = scratch_array(members.shape[1:])
    for part in _parts(len(probs)):
        probs[part] = softmax(_scores(log_probs(members[:, part]), weights, bias))
    return probs


def _short_logs(probs: np.ndarray) -> Float32[np.ndarray, "members n classes"]:
    """Take logarithms as `log_probs` does, in single precision."""
    logs: np.ndarray = np.log(np.maximum(probs, LEAST_PROBABILITY, dtype=np.float32))
    return logs


def _scores(logs: np.ndarray, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    scores = np.tensordot(weights, logs, axes=1)
    return scores if bias is None else scores + bias


def _losses(
    scores: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n classes"]]:
    """Give each row's negative log-likelihood, and its probabilities."""
    top = scores.max(1, keepdims=True)
    powers = np.exp(scores - top)
    sums = powers.sum(1, keepdims=True)
    return (np.log(sums) + top)[:, 0] - scores[np.arange(len(targets)), targets], powers / sums


def _likelihoods(members: np.ndarray, targets: np.ndarray) -> Float[np.ndarray, "members n"]:
    """Give each member's probability of the true classes, and 1e-7 for 0: a logarithm of 0 would decide alone."""
    rows = np.arange(len(targets))
    return np.stack([np.maximum(np.asarray(probs[rows, targets], np.float64), LEAST_PROBABILITY) for probs in members])


def _bags(members: int, bags: int, fraction: float, seed: int) -> list[Int64[np.ndarray, " bag"]]:
    """Draw bags of members; a single bag of all members where a part would be too few, or all."""
    size = max(1, round(fraction * members))
    if bags == 1 or members < FEWEST_FOR_BAGS or size >= members:
        return [np.arange(members)]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 5])))
    return [np.sort(rng.choice(members, size, replace=False)) for _ in range(bags)]


def _taken(likelihoods: Float[np.ndarray, "bag n"], rounds: int) -> list[int]:
    """Select members by log-likelihood; give their places in the bag, in order."""
    taken, heights, total, logs = [], [], np.zeros(likelihoods.shape[1]), np.empty_like(likelihoods)
    for count in range(1, rounds + 1):
        means = np.log(np.add(likelihoods, total, out=logs), out=logs).mean(1)
        taken.append(int(means.argmax()))
        heights.append(means.max() - math.log(count))
        total += likelihoods[taken[-1]]
    return taken[: int(np.argmax(heights)) + 1]


def _parts(n: int) -> Iterator[slice]:
    """Divide rows into slices that are read at a time."""
    return (slice(start, start + CHUNK_ROWS) for start in range(0, n, CHUNK_ROWS))


def _check(members: np.ndarray, targets: np.ndarray) -> None:
    if not len(members) or not len(targets) or members.shape[1] != len(targets):
        raise PredictionError(
            f"vote: got {len(members)} members, {members.shape[1]} drawings and {len(targets)} true classes, expected a member "
            "and a drawing at least, and a class for each drawing. Complete them, or take a vote that needs no fitting."
        )
