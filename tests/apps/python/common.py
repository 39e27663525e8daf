"""What the scripts share: where the server is, waiting, and programs that run beside a script.

A script is called with the port of a server, whose data are lost. It ends with 0 if the application works.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

PORT = int(os.environ.get("SPINEL_PORT") or sys.argv[1])
# For programs that a script starts.
os.environ["SPINEL_PORT"] = str(PORT)
URL = f"redis://127.0.0.1:{PORT}/0"


def eventually(check, seconds=45):
    """The first true value of `check()`."""
    until = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def beside(*words):
    """Runs Python with `words` until the block ends."""
    here = os.path.dirname(os.path.abspath(__file__))
    program = subprocess.Popen([sys.executable, *words], cwd=here, start_new_session=True)
    try:
        yield program
        assert program.poll() is None, f"{words} ended early with {program.returncode}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGTERM)
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
