"""`python -m r1mega.parallel.rank package.module:function JSON`: one rank started by `launch`."""

import ctypes
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from r1mega.config import UserError
from r1mega.parallel.launch import SAID, call

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    _end_with_launcher()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes tells the launcher too, which asks us to stop
    try:
        call(sys.argv[1], json.loads(sys.argv[2]))
    except UserError as error:
        if _first_to_say(str(error)):
            print(f"r1mega: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _first_to_say(text: str) -> bool:
    """Mostly every rank meets the same mistake: one of them says it."""
    place = Path(os.environ[SAID]) / hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        place.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _end_with_launcher() -> None:
    """A launcher that is killed outright cannot end its ranks; on Linux the kernel does, as SIGTERM would."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
