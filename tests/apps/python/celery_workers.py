"""Celery: two workers, a group with a callback, a retry, a task that is due later, a chain."""

import os
import time

from celery import Celery, chain, chord

from common import URL, beside, eventually

app = Celery("celery_workers", broker=URL, backend=URL)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@app.task
def double(n):
    time.sleep(0.02)
    return n * 2


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def who():
    time.sleep(0.2)
    return os.getpid()


@app.task(bind=True, max_retries=2)
def second_time(self):
    if self.request.retries == 0:
        raise self.retry(countdown=0.1)
    return "done"


def worker(name):
    return beside("-m", "celery", "-A", "celery_workers", "worker", "-n", name, "-c", "1", "-P", "prefork", "-l", "WARNING")


if __name__ == "__main__":
    from celery_workers import app, double, second_time, total, who

    with worker("one@%h"), worker("two@%h"):
        eventually(lambda: len(app.control.ping(timeout=1)) == 2)
        assert chord((double.s(i) for i in range(20)), total.s())().get(timeout=60) == 380
        results = [who.delay() for _ in range(8)]
        assert len({result.get(timeout=60) for result in results}) == 2, "both workers have worked"
        assert second_time.delay().get(timeout=60) == "done"
        assert double.apply_async((21,), countdown=0.5).get(timeout=60) == 42
        assert chain(double.s(1), double.s(), double.s())().get(timeout=60) == 8
        stats = app.control.inspect(timeout=5).stats()
        assert len(stats) == 2, stats
