"""python -m r1mega_kernels.benchmarks {logits,linear,grpo,all,table,plot}: see the README beside this file."""

import argparse
import sys
from pathlib import Path

import torch

from r1mega_kernels.benchmarks.acceptance import FAIL, lines
from r1mega_kernels.benchmarks.driver import run
from r1mega_kernels.benchmarks.plan import HIDDEN, TINY_HIDDEN, TINY_TOKENS, TINY_VOCABS, TOKENS, VOCABS, Plan
from r1mega_kernels.benchmarks.plot import plots
from r1mega_kernels.benchmarks.record import MEASURED, read_all
from r1mega_kernels.benchmarks.table import markdown

OPERATIONS = ("logits", "linear", "grpo")


def main(arguments: list[str]) -> int:
    """0; 1 if an acceptance line failed; 2 if the command makes no sense."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "table":
            print(markdown(read_all(options.folder)), end="")
            return 0
        if options.command == "plot":
            return write_plots(options.folder, options.out or options.folder)
        plan = plan_of(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    record = run(plan, options.out / f"{options.command}.json", arguments)
    (options.out / "table.md").write_text(markdown(read_all(options.out)))
    write_plots(options.out, options.out)
    found = lines([record])
    print(f"\n{record.data['kind']}; record, table and plots are in {options.out}")
    if record.data["kind"] != MEASURED:
        print("Nothing of this is a measurement: sizes are tiny, and a CPU does not do what a GPU does.")
    for check in record.data.get("self_check", []):
        if not check["passed"]:
            print(f"self-check failed: {check['check']}: {check['error']:.3g} > {check['bound']:.3g}")
    for line in found:
        print(f"{line.verdict:10} {line.text}" + (f": {line.detail}" if line.detail else ""))
    return int(any(line.verdict == FAIL for line in found))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m r1mega_kernels.benchmarks", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name in (*OPERATIONS, "all"):
        command = commands.add_parser(name, help="measure, then write record, table and plots to --out")
        command.add_argument("--out", type=Path, required=True, metavar="DIR")
        command.add_argument("--tokens", type=numbers, metavar="N,N", help=f"default {','.join(map(str, TOKENS))}")
        command.add_argument("--vocab", type=numbers, metavar="N,N", help=f"default {','.join(map(str, VOCABS))}")
        command.add_argument("--hidden", type=int, help=f"default {HIDDEN}")
        command.add_argument("--peers", type=words, default=(), metavar="WORD,WORD",
                             help="only those with such a word in their name")
        command.add_argument("--quick", action="store_true", help="few sizes, few repetitions")
        command.add_argument("--device", help="cuda or cpu; default: cuda if there is one")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--budget-bytes", type=int, default=1 << 30, help="of ours, in a fused linear")
        command.add_argument("--minutes", type=float, default=8.0, help="what is not begun by then is left out")
        command.add_argument("--tp", type=int, default=8, help="ranks of the modelled collective")
        command.add_argument("--latency-us", type=float, default=12.0, help="of the modelled collective")
        command.add_argument("--gigabytes-per-s", type=float, default=300.0, help="of the modelled collective")
    for name, text in (("table", "print Markdown from records"), ("plot", "write SVG from records")):
        command = commands.add_parser(name, help=text)
        command.add_argument("folder", type=Path, metavar="DIR")
        if name == "plot":
            command.add_argument("--out", type=Path, metavar="DIR", help="default: beside the records")
    return top


def plan_of(options: argparse.Namespace) -> Plan:
    """ValueError if the device is not there. Sizes are tiny on a CPU, unless they are given."""
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: no GPU is visible to torch {torch.__version__}; leave it out for a "
                         "rehearsal on the CPU")
    on_cpu = torch.device(device).type == "cpu"
    tokens, vocabs, hidden = (TINY_TOKENS, TINY_VOCABS, TINY_HIDDEN) if on_cpu else (TOKENS, VOCABS, HIDDEN)
    if options.quick and not on_cpu:
        tokens = (256, 8192)
    sizes = (*(options.tokens or tokens), *(options.vocab or vocabs), options.hidden or hidden)
    if min(sizes) < 1:
        raise ValueError(f"sizes {sizes} must all be 1 or more")
    return Plan(
        operations=OPERATIONS if options.command == "all" else (options.command,), tokens=options.tokens or tokens,
        vocabs=options.vocab or vocabs, hidden=options.hidden or hidden, peers=options.peers, device=device,
        seed=options.seed, budget_bytes=options.budget_bytes, tp=options.tp, latency_us=options.latency_us,
        gigabytes_per_s=options.gigabytes_per_s, seconds=0.02 if options.quick or on_cpu else 0.25,
        minutes=options.minutes,
    )


def write_plots(folder: Path, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    for record in read_all(folder):
        for name, svg in plots(record).items():
            (out / f"{record.path.stem}-{name}").write_text(svg)
    return 0


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
