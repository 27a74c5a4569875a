"""A sender in a process of its own, to be killed: `python -m tests.billing_sync.victim LEDGER ADDRESS`."""

import sys
from pathlib import Path

from billing_sync.ledger import Ledger
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.round import Round
from tests.billing_sync.office import Office
from tests.billing_sync.world import closed

CUSTOMERS = 25


def main() -> None:
    """One round over the same books, however often it is started."""
    office = Office()
    office.books = [closed(f"c{n:02d}") for n in range(CUSTOMERS)]
    ledger = Ledger(Path(sys.argv[1]))
    try:
        Round(office, ledger, StripeProvider(FAKE_KEY, base=sys.argv[2])).run()
    finally:
        ledger.close()


if __name__ == "__main__":
    main()
