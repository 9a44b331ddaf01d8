"""The command line, `flic`. Heavy modules are imported by the commands that need them."""

from .app import app, main

__all__ = ["app", "main"]
