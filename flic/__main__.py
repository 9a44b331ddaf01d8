"""`python -m flic` is `flic`."""

from .cli import main

main()
