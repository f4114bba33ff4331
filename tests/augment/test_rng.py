import hashlib

import numpy as np
import pytest

from inkfold.augment.rng import Draws


def raw(name: bytes, count: int) -> list[int]:
    """Philox by NumPy's guaranteed raw stream, keyed as the module says."""
    key = hashlib.blake2b(name, digest_size=16).digest()
    return [int(one) for one in np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)]


def test_the_stream_is_pinned():
    assert Draws(b"a").bytes(8).tobytes().hex() == raw(b"a", 1)[0].to_bytes(8, "little").hex() == "5387499027cf25da"


def test_a_uniform_number_is_53_bits_of_one_word():
    [word] = raw(b"a", 1)
    assert Draws(b"a").uniform(-2, 6) == -2 + 8 * (word >> 11) / 2**53


def test_equal_names_give_equal_streams_and_others_do_not():
    assert Draws(b"a").uniform(0, 1) == Draws(b"a").uniform(0, 1) != Draws(b"b").uniform(0, 1)


def test_uniform_numbers_fill_their_range():
    draws = Draws(b"a")
    drawn = np.array([draws.uniform(2, 5) for _ in range(2000)])
    assert ((drawn >= 2) & (drawn < 5)).all()
    assert drawn.mean() == pytest.approx(3.5, abs=0.08)
    assert drawn.std() == pytest.approx(3 / np.sqrt(12), abs=0.05)


def test_normal_numbers_have_their_deviation():
    draws = Draws(b"a")
    drawn = np.array([draws.normal(3) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(0, abs=0.2)
    assert drawn.std() == pytest.approx(3, abs=0.15)
    assert np.mean(np.abs(drawn) < 3) == pytest.approx(0.6827, abs=0.03)
    assert Draws(b"a").normal(0) == 0


def test_whole_numbers_include_both_ends():
    draws = Draws(b"a")
    assert {draws.whole(3) for _ in range(200)} == {0, 1, 2, 3}
    assert draws.whole(0) == 0


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_bytes_come_in_any_number_and_evenly(count):
    drawn = Draws(b"a").bytes(count)
    assert drawn.shape == (count,)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, Draws(b"a").bytes(count + 5)[:count])
    if count == 1000:
        assert drawn.mean() == pytest.approx(127.5, abs=10)
