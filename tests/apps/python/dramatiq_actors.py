"""dramatiq: messages with results, one that is due later, a retry, with a worker in this process."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as Limits
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from common import PORT

broker = RedisBroker(host="127.0.0.1", port=PORT)
broker.add_middleware(Results(backend=RedisBackend(host="127.0.0.1", port=PORT)))
dramatiq.set_broker(broker)
tries = []


@dramatiq.actor(store_results=True)
def double(n):
    return n * 2


@dramatiq.actor(store_results=True, max_retries=2, min_backoff=10, max_backoff=20)
def second_time():
    tries.append(1)
    if len(tries) == 1:
        raise ValueError("the first time")
    return "done"


worker = dramatiq.Worker(broker, worker_threads=2)
worker.start()
messages = [double.send(n) for n in range(20)]
assert [message.get_result(block=True, timeout=45_000) for message in messages] == [n * 2 for n in range(20)]
assert double.send_with_options(args=(4,), delay=200).get_result(block=True, timeout=45_000) == 8
assert second_time.send().get_result(block=True, timeout=45_000) == "done"
limiter = ConcurrentRateLimiter(Limits(host="127.0.0.1", port=PORT), "limiter", limit=1)
with limiter.acquire(), limiter.acquire(raise_on_failure=False) as second:
    assert not second
broker.join("default", timeout=45_000)
worker.stop()
