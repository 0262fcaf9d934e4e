"""Heap and lines against sorted lists."""

from __future__ import annotations

import random

from statemachine.heap import TaskHeap
from statemachine.kinds import kind_of
from statemachine.lines import Line, Queue, take_best
from statemachine.task import Task


def a_task(place: int, priority: int = 100) -> Task:
    kind = kind_of("default", "q", "task", {"priority": priority})
    return Task(place.to_bytes(16, "big"), kind, place, 0, None)


def test_a_heap_gives_tasks_by_rank_and_place_whoever_left_in_between(rng: random.Random) -> None:
    for _ in range(30):
        heap, inside = TaskHeap(), dict[int, tuple[int, Task]]()
        for place in rng.sample(range(1000), 200):
            rank = rng.randrange(20)
            task = a_task(place)
            heap.push(rank, task)
            inside[place] = (rank, task)
            if rng.random() < 0.4:
                gone = rng.choice(sorted(inside))
                heap.remove(inside.pop(gone)[1])
            if rng.random() < 0.2 and inside:
                first = min(inside, key=lambda p: (inside[p][0], p))
                assert heap.head() == inside[first]
                assert heap.pop() is inside.pop(first)[1]
            assert len(heap) == len(inside)
        order = sorted(inside, key=lambda p: (inside[p][0], p))
        assert [inside[place][1] for place in order] == [heap.pop() for _ in order]
        assert heap.head() is None


def test_a_queue_gives_tasks_by_priority_and_place_whatever_came_back(rng: random.Random) -> None:
    for _ in range(30):
        queue, inside, outside = Queue(("default", "q")), list[Task](), list[Task]()
        for place in range(200):
            task = a_task(place, rng.choice([0, 100, 100, 255]))
            queue.add(task)
            inside.append(task)
            if rng.random() < 0.3:
                gone = rng.choice(inside)
                queue.remove(gone)
                inside.remove(gone)
            if rng.random() < 0.2:
                taken = queue.take(rng.randrange(5))
                assert sorted(inside, key=by_rank)[: len(taken)] == taken
                inside = [task for task in inside if task not in taken]
                outside += taken
            while outside and rng.random() < 0.3:
                back = outside.pop(rng.randrange(len(outside)))
                queue.add(back)
                inside.append(back)
            assert len(inside) == queue.ready()
            assert len(inside) == sum(queue.depth_by_tier())
            expected = min(map(by_rank, inside), default=None)
            assert expected == queue.head()
        assert sorted(inside, key=by_rank) == queue.take(1000)
        assert queue.head() is None


def test_tasks_that_left_a_line_are_not_kept_for_long(rng: random.Random) -> None:
    line, tasks = Line(), [a_task(place) for place in range(1000)]
    line.arrived.extend(tasks)
    line.last_place = 999
    for gone in rng.sample(tasks[1:], 900):
        line.remove(gone)
        tasks.remove(gone)
        assert len(line) == len(tasks)
        assert len(line.arrived) <= 2 * len(tasks)
        assert line.head_place() == tasks[0].place
    taken: list[Task] = []
    line.take(1000, taken)
    assert tasks == taken
    assert not line


def test_over_several_queues_the_best_head_comes_first(rng: random.Random) -> None:
    queues = [Queue(("default", str(number))) for number in range(5)]
    tasks = [a_task(place, rng.randrange(3)) for place in range(100)]
    for task in rng.sample(tasks, len(tasks)):
        rng.choice(queues).add(task)
    first = take_best(queues, 30)
    assert sorted(tasks, key=by_rank) == first + take_best(queues, 1000)


def by_rank(task: Task) -> tuple[int, int]:
    return -task.kind.priority, task.place
