"""Our programs, loaded once: each call is a fork with its own arguments, folder, variables and files.

Loading them takes longer than most commands on a page, and a page has dozens.
"""

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from billing_sync.cli import main as billing_sync
from metering.cli import main as metering

MAINS = {"metering": metering, "billing-sync": billing_sync}
_MOST = 1 << 20

CALL = """#!{python} -SE
import json, os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect({path!r})
call = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(sock, [b"%08d" % len(call)], [0, 1, 2])
sock.sendall(call)
sys.exit(int(sock.recv(8) or b"1"))
"""


def serve(path: Path) -> NoReturn:
    """Take calls until it is killed."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            _answer(caller)
        caller.close()


def _answer(caller: socket.socket) -> NoReturn:
    size, files, _, _ = socket.recv_fds(caller, 8, 3)
    text = b""
    while len(text) < int(size):
        text += caller.recv(_MOST)
    program, arguments, folder, environment = json.loads(text)
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
