"""`python -m hub.edge`: the command line without the installed script."""

from hub.edge.main import main

main()
