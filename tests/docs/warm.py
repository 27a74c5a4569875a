"""Our programs, loaded once: each call is a fork with its own arguments, folder, variables and files.

Loading them takes longer than most commands on a page, and a page has dozens.
"""

import json
import os
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from billing_sync.cli import main as billing_sync
from metering.cli import main as metering

# What commands of the pages import only when they run.
for slow in (
    "billing_sync.providers.stripe_invoices",
    "metering.bills.output",
    "metering.grow",
    "metering.invariants.registry",
    "metering.recovery.clickhouse",
    "metering.recovery.verify",
    "metering.web.app",
    "metering.whatif",
):
    import_module(slow)

MAINS = {"metering": metering, "billing-sync": billing_sync}
_MOST = 1 << 20

# What stops the caller stops the call: Ctrl-C and SIGTERM go to the fork.
CALL = """#!{python} -SE
import json, os, signal, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect({path!r})
call = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(sock, [b"%08d" % len(call)], [0, 1, 2])
sock.sendall(call)
fork = int(sock.recv(8))
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(fork, number))
sys.exit(int(sock.recv(8) or b"1"))
"""


def serve(path: Path) -> NoReturn:
    """Take calls until it is killed."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{path}.new")
    listening.listen(16)
    Path(f"{path}.new").rename(path)  # who sees it can call
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the background ignores it
            listening.close()
            _answer(caller)
        caller.close()


def _answer(caller: socket.socket) -> NoReturn:
    size, files, _, _ = socket.recv_fds(caller, 8, 3)
    text = b""
    while len(text) < int(size):
        text += caller.recv(_MOST)
    program, arguments, folder, environment = json.loads(text)
    caller.sendall(b"%08d" % os.getpid())
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    code: object = 0
    try:
        MAINS[program]()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(str(code or 0).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
