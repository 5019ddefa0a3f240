"""One entry that starts ranks: under torchrun, under srun, or by itself."""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import torch

from r1mega.config import LayoutConfig, UserError
from r1mega.parallel.signals import Forwarding, environment

RANK_MODULE = "r1mega.parallel.rank"
SAID = "R1MEGA_SAID"  # where ranks mark what has been said to the user: a folder, in their environment
SLURM_PORT = 29_500  # first port tried for the rendezvous; the job id shifts it, so that two jobs on a node differ


def launch(function: str, arguments: Mapping[str, object], layout: LayoutConfig) -> None:
    """Run `function` ("package.module:name", taking JSON-able keyword arguments) on every rank of the layout.

    Under torchrun (RANK is set) or as a task of srun, this process is already one of the ranks. Otherwise a layout of
    one rank runs right here, and a larger one is started by torch's elastic launcher on this machine.
    Raises UserError when a rank died; what the rank itself had to say is on its standard error. A signal is handed on
    to the ranks; once they have ended, SystemExit tells of it.
    """
    adopt_slurm_task(os.environ)
    if "RANK" in os.environ or layout.world_size == 1:
        call(function, arguments)
    else:
        _spawn(function, arguments, layout.world_size)


def call(function: str, arguments: Mapping[str, object]) -> None:
    """Import `package.module:name` and call it."""
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(**arguments)


def adopt_slurm_task(environ: dict[str, str] | os._Environ[str]) -> None:
    """In a task of srun, set what torch.distributed reads from what Slurm sets. Elsewhere, do nothing."""
    if "RANK" in environ or int(environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    nodes = environ.get("SLURM_STEP_NODELIST", environ.get("SLURM_NODELIST", ""))
    environ["RANK"] = environ["SLURM_PROCID"]
    environ["WORLD_SIZE"] = environ["SLURM_STEP_NUM_TASKS"]
    environ["LOCAL_RANK"] = environ["SLURM_LOCALID"]
    if "MASTER_ADDR" not in environ:
        environ["MASTER_ADDR"] = _first_host(nodes)
    environ.setdefault("MASTER_PORT", str(SLURM_PORT + int(environ.get("SLURM_JOB_ID", "0")) % 10_000))


def _first_host(nodes: str) -> str:
    try:
        shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"scontrol cannot expand SLURM_NODELIST={nodes!r} ({error}); set MASTER_ADDR to the first "
                        "node's name") from error
    return shown.stdout.split()[0]


def _spawn(function: str, arguments: Mapping[str, object], num_ranks: int) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.distributed.run", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a failed rank speaks for itself
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=num_ranks, rdzv_backend="c10d",
                          rdzv_endpoint="localhost:0", run_id=f"r1mega-{os.getpid()}", max_restarts=0,
                          monitor_interval=0.2, signals_to_handle="SIGQUIT")
    command = ["-m", RANK_MODULE, function, json.dumps(dict(arguments))]
    with (tempfile.TemporaryDirectory(prefix="r1mega-") as said, Forwarding(RANK_MODULE) as signals,
          environment(_rank_environment(num_ranks) | {SAID: said})):
        try:
            elastic_launch(config, sys.executable)(*command)
        except ChildFailedError as error:
            rank, failure = min(error.failures.items(), key=lambda item: item[1].timestamp)
            if failure.exitcode == 2:  # a UserError, already printed by the rank
                raise SystemExit(2) from None
            interrupted = failure.exitcode < 0 or failure.exitcode == 128 + signal.SIGINT
            if signals.first is None or not interrupted:
                how = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
                raise UserError(f"rank {rank} (pid {failure.pid}) ended with {how}; run the same command again to go "
                                "on from the last checkpoint") from None
    if signals.first is not None:
        raise SystemExit(128 + signals.first)


def _rank_environment(num_ranks: int) -> dict[str, str]:
    """What ranks started on this machine find in their environment, beside what torch's launcher sets."""
    changes = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_ranks)))}
    devices = torch.cuda.device_count()
    if 0 < devices < num_ranks:
        print(f"r1mega: {num_ranks} ranks but {devices} GPU{'s' * (devices > 1)}: every rank needs one of its own, so "
              "they all run on the CPU", file=sys.stderr, flush=True)
        changes["CUDA_VISIBLE_DEVICES"] = ""
    return changes
