"""`python -m api.cli`: the `darkroom` command where it is not installed."""

from api.cli import main

main()
