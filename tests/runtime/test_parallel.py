import threading

import cv2
import pytest

from inkfold.runtime.parallel import ahead


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_tasks(workers):
    assert list(ahead(lambda task: task**2, range(20), workers, workers + 1)) == [n**2 for n in range(20)]
    assert list(ahead(str, [], workers, 2)) == []


def test_tasks_are_taken_in_the_callers_thread_and_only_so_far_ahead():
    taken, here = [], threading.get_ident()

    def tasks():
        for n in range(10):
            assert threading.get_ident() == here
            taken.append(n)
            yield n

    answers = ahead(lambda task: task, tasks(), 1, 3)
    next(answers)
    assert taken == [0, 1, 2, 3]
    answers.close()
    assert len(taken) == 4


def test_an_error_reaches_the_caller_and_opencv_gets_its_threads_back():
    before = cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda task: 1 / task, [1, 0, 1], 2, 2))
    assert cv2.getNumThreads() == before
