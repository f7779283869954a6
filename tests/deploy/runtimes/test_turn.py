"""The lock under which guests run: first come, first served."""

from __future__ import annotations

import threading
import time

from registry.deploy.runtimes.wasmtime.turn import Turn


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_turns_are_taken_in_the_order_of_asking():
    turn, order = Turn(), []
    turn.acquire()

    def take(i):
        turn.acquire()
        order.append(i)
        turn.release()

    threads = []
    for i in range(5):
        threads.append(threading.Thread(target=take, args=(i,)))
        threads[-1].start()
        until(lambda i=i: len(turn._queue) == i + 1)
    assert turn.wanted
    turn.release()
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2, 3, 4]
    assert not turn.wanted


def test_who_gives_the_turn_away_gets_it_back_last():
    turn, order = Turn(), []
    turn.acquire()

    def take():
        turn.acquire()
        order.append("other")
        turn.release()

    thread = threading.Thread(target=take)
    thread.start()
    until(lambda: turn.wanted)
    turn.release()
    turn.acquire()
    order.append("first")
    thread.join(5)
    assert order == ["other", "first"]


def test_waiting_ends_after_its_time():
    turn = Turn()
    turn.acquire()
    assert not turn.acquire(0.01)
    assert not turn.wanted
    turn.release()
    assert turn.acquire(0)
