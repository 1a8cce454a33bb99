"""`python -m api.cli`: the `darkroom` command without an installation."""

from api.cli import main

main()
