"""Writes the dashboards and their provisioning: `python -m dashboards.generate`, or with a folder to write to."""

import json
import shutil
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import provision
from dashboards.boards import (
    billing,
    close,
    customer,
    explanation,
    finance,
    home,
    margins,
    pipeline,
    quality,
    quotas,
    revenue,
)  # fmt: skip
from dashboards.layout import Board

HERE = Path(__file__).parent
GENERATED, PROVISIONING = "generated", "provisioning"
BOARDS = (home, revenue, customer, explanation, margins, finance, close, quality, quotas, billing, pipeline)


def boards() -> list[Board]:
    """Every dashboard, in the order of the menu."""
    return [module.board() for module in BOARDS]


def rendered(board: Board) -> str:
    """The JSON of a dashboard: the same text for the same dashboard."""
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def write(folder: Path) -> list[Path]:
    """Write all of them, a folder for each folder in Grafana; what is no longer made goes."""
    written: list[Path] = []
    panels: dict[tuple[str, str], int] = {}
    for name in (GENERATED, PROVISIONING):
        shutil.rmtree(folder / name, ignore_errors=True)
    for board in boards():
        file = folder / GENERATED / board.folder / f"{board.uid}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = rendered(board)
        file.write_text(text, "utf-8")
        written.append(file)
        panels |= {(board.uid, panel["title"]): panel["id"] for panel in json.loads(text)["panels"]}
    return written + provision.write(folder / PROVISIONING, panels)


def main() -> None:
    """Generate into the repository, or into the folder that is named."""
    for file in write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE):
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
