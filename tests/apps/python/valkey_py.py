"""valkey-py: a lock, a pipeline, a script."""

import valkey

from common import PORT

client = valkey.Valkey(port=PORT, decode_responses=True)
with client.lock("lock", timeout=20):
    assert not client.lock("lock").acquire(blocking=False)
script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
assert (script(keys=["n"], args=[3]), script(keys=["n"], args=[4])) == (3, 7)
with client.pipeline() as pipe:
    pipe.multi()
    script(keys=["n"], args=[1], client=pipe)
    assert pipe.get("n").execute() == [8, "8"]
