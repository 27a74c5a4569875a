"""`python -m metering` is the `metering` command."""

from metering.cli import main

main()
