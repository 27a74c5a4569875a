"""`python -m billing_sync.stripe_fake --port N --state FILE`."""

import argparse
from pathlib import Path

from aiohttp import web

from billing_sync.stripe_fake.core import Fake
from billing_sync.stripe_fake.server import application


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="A stateful Stripe on loopback")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    arguments = parser.parse_args()
    app = application(Fake(arguments.state))
    web.run_app(app, host="127.0.0.1", port=arguments.port, print=None)


main()
