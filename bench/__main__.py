"""The command line of the benchmarks: `python -m bench run [ROW...]`, `check`, `model`, `page`."""

import argparse
import shlex
import sys
from pathlib import Path

from bench import guard, page, scaling
from bench.machine import describe
from bench.options import Options
from bench.peers.catalog import PEERS
from bench.place import world
from bench.results import Found, read, write
from bench.rows import DEFAULT, TARGETS
from bench.table import is_exact, show
from metering.commands import stop_children_when_told
from metering.console import console
from metering.errors import UserError

_LOAD_FIELDS = {"seed": int, "customers": int, "hours": int, "envelope": int, "partitions": int}
_SHARES = ("copies", "late", "malformed")


def main() -> int:
    """Do what the command line says; 1 when an event was lost or counted twice."""
    chosen = _parser().parse_args()
    stop_children_when_told()
    try:
        return int(chosen.do(chosen))
    except UserError as error:
        console.print(f"[red]{error}[/]\n{error.hint}")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure rows and print one table")
    run.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(TARGETS)}; default: {DEFAULT}")
    run.add_argument("--events", type=int, default=Options.events)
    run.add_argument("--repeats", type=int, default=Options.repeats)
    run.add_argument("--ids", type=int, default=Options.ids, help="ids of earlier days, row deep")
    run.add_argument("--rate", type=int, default=Options.rate, help="events a second, row latency")
    run.add_argument("--seconds", type=int, default=Options.seconds, help="of the row latency")
    run.add_argument("--peers", default="", help=f"of {', '.join(p.name for p in PEERS)}; default: all")
    run.add_argument("--json", type=Path, default=Options.file, help="where the results go")
    for name, kind in _LOAD_FIELDS.items():
        run.add_argument(f"--{name}", type=kind)
    for name in _SHARES:
        run.add_argument(f"--{name}", type=float, help="share of the events")
    run.add_argument("--codec", choices=("lz4", "zstd", "gzip", "snappy", "none"))
    run.set_defaults(do=_run)
    check = commands.add_parser("check", help="the guard: the fold against a reference loop")
    check.add_argument("--record", action="store_true", help="commit to the ratio of now")
    check.set_defaults(do=lambda chosen: guard.check(record=chosen.record))
    model = commands.add_parser("model", help="fit the scaling model to results and write its page")
    model.add_argument("files", nargs="*", type=Path)
    model.set_defaults(do=lambda chosen: scaling.main(chosen.files))
    pages = commands.add_parser("page", help="write docs/performance.md from results")
    pages.add_argument("files", nargs="*", type=Path)
    pages.set_defaults(do=lambda chosen: page.main(chosen.files))
    return parser


def _run(chosen: argparse.Namespace) -> int:
    names = chosen.rows or DEFAULT
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        raise UserError(f"no row {', '.join(unknown)}", hint=f"rows are {', '.join(TARGETS)}")
    fields = (*_LOAD_FIELDS, *_SHARES, "codec")
    load = {name: value for name in fields if (value := getattr(chosen, name)) is not None}
    peers = tuple(filter(None, chosen.peers.split(",")))
    options = Options(
        chosen.events, chosen.repeats, chosen.ids, chosen.rate, chosen.seconds, chosen.json, load, peers
    )
    command = _command(sys.argv[1:])
    described = describe()
    found: list[Found] = []
    needs_clickhouse = any(TARGETS[name].clickhouse for name in names)
    with world(console.print, clickhouse=needs_clickhouse) as here:
        for name in names:
            for one in TARGETS[name].run(here, options):
                found.append(one)
                write(options.file, command, described, found)  # what was measured stays, whatever comes next
                console.print(f"[green]✓[/] {one.row}: {one.cpu:.2f} µs, {one.rate:,.0f} events/s")
    head, found = read(options.file)
    show(found, {"command": head["command"], **head["machine"]})
    console.print(f"results in {options.file}")
    return 0 if is_exact(found) else 1


def _command(words: list[str]) -> str:
    """What was asked for, without where the results go."""
    kept = [w for n, w in enumerate(words) if w != "--json" and words[max(0, n - 1)] != "--json"]
    return "python -m bench " + shlex.join(kept)


if __name__ == "__main__":
    sys.exit(main())
