from __future__ import annotations

import gc
import json
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.waiting import PATIENCE, threads_started
from token_limit_core.delivery.queue import EventQueue
from token_limit_core.errors import ConfigurationError
from token_limit_core.events import LLMEvent

NEVER = 3600.0


def event(number: int) -> LLMEvent:
    return LLMEvent(event_id=str(number))


class Destination:
    """Keeps what it is given; can be told to block, and says when a delivery is under way."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.entered = threading.Event()
        self.arrived = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.raises: BaseException | None = None
        self.threads: set[threading.Thread] = set()

    def __call__(self, batch: list[LLMEvent]) -> None:
        self.threads.add(threading.current_thread())
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        if self.raises is not None:
            raise self.raises
        self.batches.append([event.event_id for event in batch])
        self.arrived.set()

    @property
    def ids(self) -> list[str]:
        return [event_id for batch in self.batches for event_id in batch]


@pytest.fixture
def destination() -> Iterator[Destination]:
    destination = Destination()
    yield destination
    destination.gate.set()


@pytest.fixture
def make(destination: Destination) -> Iterator[Callable[..., EventQueue]]:
    queues: list[EventQueue] = []

    def factory(**options: Any) -> EventQueue:
        queue = EventQueue(destination, **{"flush_interval": NEVER, **options})
        queues.append(queue)
        return queue

    yield factory
    destination.gate.set()
    for queue in queues:
        assert queue.close(PATIENCE)


def test_no_thread_until_the_first_put_and_then_one_daemon(make, destination):
    with threads_started() as started:
        queue = make()
        assert queue.flush_now(0)
        assert started == []
        for number in range(3):
            queue.put(event(number))
    (thread,) = started
    assert thread.daemon
    assert queue.flush_now(PATIENCE)
    assert destination.threads == {thread}


def test_a_full_batch_is_delivered_at_once(make, destination):
    queue = make(max_batch_size=3)
    for number in range(3):
        queue.put(event(number))
    assert destination.arrived.wait(PATIENCE)
    assert destination.batches == [["0", "1", "2"]]


def test_less_than_a_batch_is_delivered_after_the_interval(make, destination):
    queue = make(flush_interval=0.01)
    queue.put(event(1))
    assert destination.arrived.wait(PATIENCE)
    destination.arrived.clear()
    queue.put(event(2))
    assert destination.arrived.wait(PATIENCE)
    assert destination.ids == ["1", "2"]


def test_flush_delivers_in_order_and_in_batches_of_the_size(make, destination):
    queue = make(max_batch_size=4)
    destination.gate.clear()
    for number in range(10):
        queue.put(event(number))
    assert destination.entered.wait(PATIENCE)
    destination.gate.set()
    assert queue.flush_now(PATIENCE)
    assert destination.ids == [str(number) for number in range(10)]
    assert [len(batch) for batch in destination.batches] == [4, 4, 2]
    assert queue.pending == 0


def test_put_does_not_wait_for_a_delivery_and_overflow_drops_the_oldest(make, destination):
    queue = make(max_batch_size=1, max_queue_size=3)
    destination.gate.clear()
    queue.put(event(0))
    assert destination.entered.wait(PATIENCE)
    for number in range(1, 6):
        queue.put(event(number))
    assert (queue.pending, queue.dropped) == (3, 2)
    destination.gate.set()
    assert queue.flush_now(PATIENCE)
    assert destination.ids == ["0", "3", "4", "5"]
    assert queue.dropped == 2


def test_a_failing_batch_is_reported_and_the_next_one_is_delivered(destination, make):
    errors: list[Exception] = []
    queue = make(on_flush_error=errors.append)
    destination.raises = OSError("no route")
    queue.put(event(1))
    assert queue.flush_now(PATIENCE)
    assert errors == [destination.raises]
    destination.raises = None
    queue.put(event(2))
    assert queue.flush_now(PATIENCE)
    assert destination.ids == ["2"]
    assert len(destination.threads) == 1


def test_an_error_hook_that_raises_does_not_end_the_delivery(destination, make, caplog):
    def hook(error: Exception) -> None:
        raise ZeroDivisionError

    queue = make(on_flush_error=hook)
    destination.raises = OSError()
    queue.put(event(1))
    assert queue.flush_now(PATIENCE)
    assert "on_flush_error raised" in caplog.text
    destination.raises = None
    queue.put(event(2))
    assert queue.flush_now(PATIENCE)
    assert destination.ids == ["2"]
    assert len(destination.threads) == 1


def test_without_a_hook_a_failure_is_logged(destination, make, caplog):
    queue = make()
    destination.raises = OSError("no route")
    with caplog.at_level(logging.WARNING, "token_limit"):
        queue.put(event(1))
        assert queue.flush_now(PATIENCE)
    assert "no route" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_flush_starts_a_new_thread_when_the_old_one_has_died(destination, make):
    class Killed(BaseException):
        """Nothing that guards against Exception stops this."""

    queue = make(max_batch_size=1)
    destination.gate.clear()
    destination.raises = Killed()
    queue.put(event(1))
    assert destination.entered.wait(PATIENCE)
    queue.put(event(2))
    (first,) = destination.threads
    destination.gate.set()
    first.join(PATIENCE)
    destination.raises = None
    assert queue.flush_now(PATIENCE)
    assert destination.ids == ["2"]
    assert len(destination.threads) == 2


def test_flush_delivers_in_its_own_thread_when_none_can_be_started(destination, make, monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    queue = make()
    queue.put(event(1))
    assert queue.pending == 1
    assert queue.flush_now(PATIENCE)
    assert destination.ids == ["1"]
    assert destination.threads == {threading.current_thread()}


def test_flush_gives_up_at_its_timeout_and_nothing_is_lost(make, destination):
    queue = make()
    destination.gate.clear()
    queue.put(event(1))
    assert not queue.flush_now(0.01)
    assert not queue.flush_now(0)
    destination.gate.set()
    assert queue.flush_now(PATIENCE)
    assert destination.ids == ["1"]


def test_a_flush_from_inside_a_delivery_does_not_wait_for_itself(make):
    answers: list[bool] = []
    queue: EventQueue
    queue = EventQueue(lambda batch: answers.append(queue.flush_now()), flush_interval=NEVER)
    queue.put(event(1))
    assert queue.close(PATIENCE)
    assert answers == [False]


def test_close_delivers_the_rest_and_ends_the_thread(make, destination):
    queue = make()
    queue.put(event(1))
    assert queue.close(PATIENCE)
    assert destination.ids == ["1"]
    (thread,) = destination.threads
    assert not thread.is_alive()
    assert queue.close(PATIENCE)


def test_a_put_after_close_is_delivered_by_a_new_thread(make, destination):
    queue = make()
    queue.put(event(1))
    assert queue.close(PATIENCE)
    queue.put(event(2))
    assert queue.flush_now(PATIENCE)
    assert destination.ids == ["1", "2"]
    assert len(destination.threads) == 2


def test_close_gives_up_at_its_timeout(make, destination):
    queue = make(max_batch_size=1)
    destination.gate.clear()
    queue.put(event(1))
    assert destination.entered.wait(PATIENCE)
    queue.put(event(2))
    assert not queue.close(0.01)
    destination.gate.set()
    assert queue.flush_now(PATIENCE)
    assert sorted(destination.ids) == ["1", "2"]


def test_a_finaliser_may_put_while_its_thread_is_inside_the_queue(make, destination):
    class Leaves:
        """Puts an event when collected, as a stream nobody finished does."""

        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            queue.put(event(999))

    queue = make(max_queue_size=10_000)
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(200):
            Leaves()
            queue.put(event(number))
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert queue.flush_now(PATIENCE)
    assert len(destination.ids) == 400


def test_many_threads_lose_nothing(make, destination):
    queue = make(max_batch_size=7)
    threads = [
        threading.Thread(target=lambda base=base: [queue.put(event(base + i)) for i in range(100)])
        for base in range(0, 800, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.flush_now(PATIENCE)
    assert sorted(map(int, destination.ids)) == list(range(800))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_starts_empty_with_a_thread_of_its_own(make, destination):
    queue = make(max_batch_size=1, max_queue_size=2)
    destination.gate.clear()
    queue.put(event(1))
    assert destination.entered.wait(PATIENCE)
    for number in (2, 3, 4):
        queue.put(event(number))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer: dict[str, Any] = {}
        try:
            answer = {"pending": queue.pending, "dropped": queue.dropped}
            destination.gate = threading.Event()
            destination.gate.set()
            queue.put(event(100))
            answer |= {"flushed": queue.flush_now(PATIENCE), "ids": destination.ids}
        finally:
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        child = json.load(pipe)
    os.waitpid(pid, 0)
    assert child == {"pending": 0, "dropped": 0, "flushed": True, "ids": ["100"]}
    destination.gate.set()
    assert queue.flush_now(PATIENCE)
    assert (destination.ids, queue.dropped) == (["1", "3", "4"], 1)


def test_a_queue_nobody_holds_is_collected_although_it_registered_for_forks():
    queue = EventQueue(lambda batch: None)
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("setting", ["flush_interval", "max_batch_size", "max_queue_size"])
def test_sizes_must_be_positive(setting):
    with pytest.raises(ConfigurationError, match=setting):
        EventQueue(lambda batch: None, **{setting: 0})
