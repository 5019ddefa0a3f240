"""`python -m r1mega.parallel.rank package.module:function JSON`: one rank started by `launch`."""

import ctypes
import json
import os
import signal
import sys
import time

from r1mega.config import UserError
from r1mega.parallel.launch import call

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    _end_with_launcher()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes tells the launcher too, which asks us to stop
    try:
        call(sys.argv[1], json.loads(sys.argv[2]))
    except UserError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(3)  # mostly every rank meets the same mistake: rank 0 says it, and the launcher ends the rest
        print(f"r1mega: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _end_with_launcher() -> None:
    """A launcher that is killed outright cannot end its ranks; on Linux the kernel does, as SIGTERM would."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
