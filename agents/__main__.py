"""`python -m agents` is `inferwatch`."""

from agents.main import main

main()
