"""`python -m tallyboard_server.cli` is `tallyboard`."""

from tallyboard_server.cli import main

main()
