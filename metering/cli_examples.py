"""The examples that `--help` shows, by command; the tests parse each of them."""

from collections.abc import Mapping

import typer

Examples = Mapping[str, tuple[str, ...]]

EXAMPLES: Examples = {
    "quotad": ("METERING_QUOTAD_PORT=8710 metering quotad",),
    "quota show": ("metering quota show acme-robotics",),
    "quota watch": ("metering quota watch acme-robotics --seconds 60",),
    "quota top": ("metering quota top acme-robotics",),
    "grant add": ('metering grant add acme-robotics tokens 1000000 --reason "a launch"',),
    "grant list": ("metering grant list --scope acme-robotics",),
    "grant revoke": ('metering grant revoke acme-robotics tokens launch --reason "it is over"',),
    "limit set": ('metering limit set acme-robotics tokens 5000000 --reason "a larger contract"',),
    "web": ("metering web", "METERING_WEB_PORT=9000 metering web"),
    "notify run": ("METERING_NOTIFY_FILE=notify.yaml metering notify run",),
    "notify test": ("METERING_NOTIFY_FILE=notify.yaml metering notify test",),
    "notify dead": ("metering notify dead --json",),
    "notify retry": ("metering notify retry --all",),
    "dev": ("metering dev", "metering dev --workers 2"),
    "send": ("metering send examples/event.json", "metering events export | metering send -"),
    "bill": ("metering bill acme-robotics --period 2026-11",),
    "periods": ("metering periods --customer acme-robotics",),
    "explain": (
        "metering explain acme-robotics --period 2026-11",
        "metering explain acme-robotics --period 2026-11 --price input --hour 2026-11-20T10",
    ),
    "audit": ("metering audit --period 2026-11",),
    "whatif": ("metering whatif --catalog new/ --period 2026-11 --csv difference.csv",),
    "rate": ("metering rate --catalog examples/saas/catalog --usage examples/saas/usage.jsonl",),
    "status": ("metering status", "metering status --json"),
    "watch": ("metering watch --every 300", "metering watch --once"),
    "migrate": ("metering migrate",),
    "worker": ("METERING_INSTANCE=worker-1 metering worker",),
    "sink": ("metering sink",),
    "demo": ("metering demo", "metering demo --workers 2 --json figures.json"),
    "local up": ("metering local up",),
    "local down": ("metering local down",),
    "local status": ("metering local status",),
    "catalog check": ("metering catalog check examples/llm/catalog",),
    "catalog publish": ("metering catalog publish examples/llm/catalog",),
    "catalog diff": ("metering catalog diff old/ new/",),
    "catalog show": ("metering catalog show", "metering catalog show acme-robotics"),
    "topics apply": ("metering topics apply --dry-run",),
    "topics grow": ("metering topics grow --partitions 8",),
    "state verify": ("metering state verify", "metering state verify --partition 3 --json"),
    "state rebuild": ("metering state rebuild --from journal",),
    "rebuild clickhouse": ("metering rebuild clickhouse --into metering_second",),
    "books digest": ("metering books digest --period 2026-11",),
    "rejected list": ("metering rejected list --reason unknown_type --since 24h",),
    "rejected show": ("metering rejected show 2:1234",),
    "rejected retry": ("metering rejected retry --reason unknown_type --yes",),
    "rejected discard": ('metering rejected discard 2:1240 --reason "a load test" --yes',),
    "events show": ("metering events show r-17 --customer acme-robotics",),
    "events export": ("metering events export > archive.jsonl",),
    "correct void": ('metering correct void r-17 --reason "a load test" --yes',),
    "correct amend": (
        """metering correct amend r-17 --data '{"seconds": 3}' --reason "the gateway's clock" --yes""",
    ),
    "backfill preview": (
        "metering backfill preview usage.jsonl --mode replace --from 2026-10-30 --to 2026-11-04",
    ),
    "backfill apply": ('metering backfill apply usage.jsonl --mode add --reason "a gateway was away" --yes',),
    "backfill revert": ('metering backfill revert bf-ed0195edf362 --reason "the wrong file" --yes',),
    "backfill list": ("metering backfill list",),
    "backfill show": ("metering backfill show bf-ed0195edf362",),
    "late list": ("metering late list --period 2026-10",),
    "late approve": ('metering late approve --all-of acme-robotics/tokens/2026-10 --reason "agreed" --yes',),
}


def add_examples(app: typer.Typer, examples: Examples, words: str = "") -> None:
    """Put the examples of each command below its help; subcommands of groups included."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        found = examples.get(f"{words} {name}".strip(), ())
        # Typer joins single line breaks: each example is a paragraph.
        command.epilog = (
            "\n\n".join(["Examples:" if len(found) > 1 else "Example:", *found]) if found else None
        )
    for group in app.registered_groups:
        if group.typer_instance is not None and group.name:
            add_examples(group.typer_instance, examples, f"{words} {group.name}".strip())
