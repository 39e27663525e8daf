"""RQ: jobs with results, a failure with a retry, jobs that are due later or depend on others."""

import datetime
import sys

import redis
from rq import Queue, Retry, SimpleWorker

from common import PORT


def double(n):
    return n * 2


def fail_once(key):
    if redis.Redis(port=PORT).incr(key) == 1:
        raise ValueError("the first time")
    return "done"


if __name__ == "__main__":
    sys.modules["rq_jobs"] = sys.modules["__main__"]
    double.__module__ = fail_once.__module__ = "rq_jobs"
    client = redis.Redis(port=PORT)
    queue = Queue(connection=client)
    jobs = [queue.enqueue(double, n) for n in range(10)]
    after = queue.enqueue(double, 50, depends_on=jobs)
    retried = queue.enqueue(fail_once, "tries", retry=Retry(max=1))
    later = queue.enqueue_in(datetime.timedelta(milliseconds=10), double, 7)
    worker = SimpleWorker([queue], connection=client)
    worker.work(burst=True, with_scheduler=False)
    assert [job.return_value() for job in jobs] == [n * 2 for n in range(10)]
    assert after.return_value() == 100 and retried.return_value() == "done"
    assert later.get_status() == "scheduled"
    from rq.scheduler import RQScheduler

    scheduler = RQScheduler([queue], connection=client)
    scheduler.acquire_locks()
    import time

    time.sleep(1.1)
    scheduler.enqueue_scheduled_jobs()
    worker.work(burst=True, with_scheduler=False)
    assert later.return_value() == 14
