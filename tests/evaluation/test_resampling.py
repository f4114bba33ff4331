import numpy as np
import pytest
from scipy.sparse import csr_array

from inkfold.errors import PredictionError
from inkfold.evaluation import resampling
from inkfold.evaluation.resampling import group_sums


def resampled(statistics, groups=None, **options):
    return np.concatenate([*group_sums(statistics, groups).resample(**options)])


def sparse_case(n=400, classes=7):
    """Drawings and rights by class, one row per drawing, dense."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, classes, n)
    statistics = np.zeros((n, 2 * classes))
    statistics[np.arange(n), targets] = 1
    statistics[np.arange(n), classes + targets] = generator.random(n) < 0.6
    return statistics, generator.integers(0, 60, n)


@pytest.mark.parametrize("kind", ["few kinds of groups", "many kinds", "floats"])
def test_resamples_are_those_of_groups_whose_rows_are_copied(kind):
    generator = np.random.default_rng(0)
    groups = generator.integers(0, {"few kinds of groups": 500, "many kinds": 300, "floats": 300}[kind], 1500)
    values = generator.random((1500, 2)) if kind == "floats" else generator.integers(0, 2, (1500, 2))
    if kind == "many kinds":
        values = values * generator.integers(1, 50, (1500, 1))
    own = resampled(values, groups, resamples=2000)
    rows = [values[groups == group].sum(0) for group in np.unique(groups)]
    naive = np.array([np.sum([rows[i] for i in generator.integers(0, len(rows), len(rows))], 0) for _ in range(1000)])
    assert own.mean(0) == pytest.approx(values.sum(0), abs=4 * own.std() / np.sqrt(2000))
    assert own.std(0) == pytest.approx(naive.std(0), rel=0.1)
    assert np.corrcoef(own.T)[0, 1] == pytest.approx(np.corrcoef(naive.T)[0, 1], abs=0.1)


def test_sparse_statistics_give_the_bytes_of_dense_ones():
    statistics, groups = sparse_case()
    assert np.array_equal(resampled(statistics, groups), resampled(csr_array(statistics), groups))
    assert np.array_equal(resampled(statistics), resampled(csr_array(statistics)))


@pytest.mark.parametrize("cells", [1, 1000])
def test_statistics_that_stay_sparse_and_small_blocks_give_the_same_bytes(monkeypatch, cells):
    statistics, groups = sparse_case()
    expected = resampled(statistics, groups, resamples=50)
    monkeypatch.setattr(resampling, "DENSE_CELLS", 0)
    monkeypatch.setattr(resampling, "MAX_KINDS", 10)
    monkeypatch.setattr(resampling, "BLOCK_CELLS", cells)
    many = resampled(csr_array(statistics), groups, resamples=50)
    assert np.array_equal(many, resampled(statistics, groups, resamples=50))
    assert many.shape == expected.shape
    assert {*many.sum(1)} != {many[0].sum()}


@pytest.mark.parametrize("make", [np.asarray, csr_array])
def test_bytes_depend_on_neither_the_order_of_rows_nor_the_numbers_of_groups(make):
    generator = np.random.default_rng(0)
    statistics, groups = sparse_case()
    statistics *= generator.random(statistics.shape)  # sums of such numbers depend on their order unless they are exact
    for _ in range(5):
        order, names = generator.permutation(len(groups)), generator.permutation(60)
        other = resampled(make(statistics[order]), names[groups][order])
        assert np.array_equal(resampled(make(statistics), groups), other)


def test_more_groups_than_are_resampled_one_by_one_keep_their_spread():
    values = np.random.default_rng(0).random((20_000, 1))
    expected = values.std() * np.sqrt(20_000)
    sums = group_sums(values)
    assert (sums.groups, sums.rows.shape[0]) == (20_000, resampling.MAX_BLOCKS)
    assert sums.rows.sum() == pytest.approx(sums.total[0])
    spread = np.concatenate([*sums.resample()]).std()
    # each draw is of a block of five, so that the number of drawings is the same each time
    assert spread == pytest.approx(expected, rel=0.08)


def test_groups_that_sum_to_nothing_are_not_informative():
    values = np.array([[1.0], [-1.0], [2.0], [0.0], [0.0]])
    sums = group_sums(values, np.array([0, 0, 1, 2, 2]))
    assert (sums.groups, sums.informative, sums.total.tolist()) == (3, 1, [2.0])
    assert group_sums(csr_array(values), np.array([0, 0, 1, 2, 2])).informative == 1


def test_resampling_nothing_is_refused():
    with pytest.raises(PredictionError, match=r"^interval: got no drawings, expected one at least\. Give"):
        group_sums(np.zeros((0, 2)))
