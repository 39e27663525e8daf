"""kombu: a queue with priorities, a fanout, messages that are given back."""

from kombu import Connection, Consumer, Exchange, Producer, Queue

from common import URL

got = []


def take(body, message):
    got.append(body)
    message.ack()


with Connection(URL) as connection:
    exchange = Exchange("tasks", type="topic")
    queue = Queue("tasks", exchange, routing_key="a.#")
    fanout = Exchange("news", type="fanout")
    with Consumer(connection.channel(), [queue, Queue("ear", fanout)], callbacks=[take]):
        producer = Producer(connection.channel())
        for n in range(5):
            producer.publish({"n": n}, exchange=exchange, routing_key="a.b", priority=n, declare=[queue])
        while len(got) < 5:
            connection.drain_events(timeout=30)
        # A fanout is a publication, which reaches those who listen by now.
        producer.publish("hello", exchange=fanout)
        while len(got) < 6:
            connection.drain_events(timeout=30)
    assert sorted(body["n"] for body in got if body != "hello") == list(range(5))
    assert got.count("hello") == 1
    # A message that is given back comes again.
    simple = connection.SimpleQueue("simple")
    simple.put("again")
    simple.get(timeout=30).requeue()
    message = simple.get(timeout=30)
    assert message.payload == "again"
    message.ack()
    simple.close()
