from __future__ import annotations

import threading
from contextlib import closing

import pytest

from hsifcn.inference.streaming import WriteBehind, read_ahead


def test_everything_comes_in_order():
    assert list(read_ahead(lambda number: number**2, range(50), 3)) == [n**2 for n in range(50)]
    assert list(read_ahead(str, [], 3)) == []
    assert list(read_ahead(str, range(2), 0)) == ["0", "1"]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_no_more_is_read_than_may_wait(count):
    done = threading.Semaphore(0)
    begun = []

    def read(number):
        begun.append(number)
        done.release()
        return number

    with closing(read_ahead(read, range(20), count)) as results:
        for number in range(15):
            assert next(results) == number
            for _ in range(len(range(number + count + 1)) + 1 - len(begun)):
                done.acquire(timeout=0.01)
            assert len(begun) <= number + 1 + count
    assert len(begun) < 20
    assert not any(thread.name.startswith("reader") for thread in threading.enumerate())


def test_the_reader_is_ahead_while_the_caller_is_busy():
    third = threading.Event()
    results = read_ahead(lambda number: third.set() if number == 2 else None, range(5), 2)
    with closing(results):
        next(results)
        assert third.wait(10)


def test_an_error_of_the_reader_comes_where_its_item_would():
    with closing(read_ahead(lambda number: 1 // (3 - number), range(9), 2)) as results:
        assert [next(results) for _ in range(3)] == [0, 0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_calls_run_in_order_in_another_thread():
    seen = []
    with WriteBehind() as writer:
        for number in range(20):
            writer.call(lambda number: seen.append((number, threading.current_thread())), number)
    assert [number for number, _ in seen] == list(range(20))
    assert threading.current_thread() not in {thread for _, thread in seen}


def test_the_caller_is_one_call_ahead():
    go, begun = threading.Event(), threading.Event()
    with WriteBehind() as writer:
        writer.call(lambda: begun.set() or go.wait(10))
        assert begun.wait(10)  # and the caller is here meanwhile
        go.set()


def fail():
    raise OSError("disk full")


def test_an_error_of_a_call_comes_with_the_next_or_the_end():
    with pytest.raises(OSError, match="disk full"), WriteBehind() as writer:
        writer.call(fail)
    with WriteBehind() as writer:
        writer.call(fail)
        with pytest.raises(OSError, match="disk full"):
            writer.call(print)


def test_an_error_of_the_caller_is_not_hidden():
    ended = []

    def caller(error, *call):
        with WriteBehind() as writer:
            writer.call(*call)
            raise error

    with pytest.raises(KeyboardInterrupt):
        caller(KeyboardInterrupt, fail)
    with pytest.raises(KeyError):
        caller(KeyError, ended.append, 1)
    assert ended in ([], [1])
    assert not any(thread.name.startswith("writer") for thread in threading.enumerate())
