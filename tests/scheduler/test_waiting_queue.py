import random

from octavo.scheduler import Request, StopRule
from octavo.scheduler.waiting_queue import WaitingQueue

RULE = StopRule(max_tokens=1, max_total_tokens=10)


def make_request(*key: int) -> Request:
    request = Request(str(key), [1], RULE)
    request.key = key
    return request


def drain(queue: WaitingQueue) -> list[Request]:
    drained = []
    while (request := queue.head) is not None:
        queue.remove(request)
        drained.append(request)
    return drained


def test_comes_out_in_key_order_whatever_was_removed_between():
    chooser = random.Random(1)
    requests = [make_request(chooser.randrange(3), 0, number) for number in range(200)]
    queue = WaitingQueue()
    for request in requests:
        queue.push(request)
    removed = set(chooser.sample(range(200), 150))
    for index in removed:
        queue.remove(requests[index])
    assert len(queue) == 50
    rest = [request for index, request in enumerate(requests) if index not in removed]
    assert drain(queue) == sorted(rest, key=lambda request: request.key)


def test_a_request_may_leave_and_return():
    queue = WaitingQueue()
    first, second = make_request(0, 0, 1), make_request(0, 0, 2)
    queue.push(first)
    queue.push(second)
    queue.remove(first)
    assert queue.head is second
    queue.push(first)
    assert drain(queue) == [first, second]
    assert queue.head is None


def test_leftovers_never_outnumber_the_living():
    queue = WaitingQueue()
    requests = [make_request(0, 0, number) for number in range(1000)]
    for request in requests:
        queue.push(request)
    for request in reversed(requests[10:]):
        queue.remove(request)
        assert len(queue._heap) <= 2 * len(queue)
    assert drain(queue) == requests[:10]
