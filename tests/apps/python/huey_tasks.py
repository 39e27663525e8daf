"""huey: results, a task that is due later, a lock, a pipeline of tasks, with a consumer beside."""

from huey import PriorityRedisHuey

from common import PORT, beside

huey = PriorityRedisHuey("app", host="127.0.0.1", port=PORT)


@huey.task()
def double(n):
    return n * 2


@huey.task()
@huey.lock_task("one-at-a-time")
def alone(n):
    return n


if __name__ == "__main__":
    from huey_tasks import alone, double, huey

    with beside("-m", "huey.bin.huey_consumer", "huey_tasks.huey", "-w", "2", "-k", "thread", "-q"):
        results = [double(n) for n in range(20)]
        assert [result.get(blocking=True, timeout=45) for result in results] == [n * 2 for n in range(20)]
        assert double.schedule((4,), delay=1).get(blocking=True, timeout=45) == 8
        assert alone(3).get(blocking=True, timeout=45) == 3
        chained = huey.enqueue(double.s(1).then(double).then(double))
        assert chained.get(blocking=True, timeout=45) == [2, 4, 8]
