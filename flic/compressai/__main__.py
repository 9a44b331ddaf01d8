"""Run one of CompressAI's tools, with FLIC among its models: see the package's docstring."""

from __future__ import annotations

import importlib
import importlib.metadata
import runpy
import sys
from pathlib import Path

from ..errors import FlicError
from . import register

TOOLS = ("eval_model", "update_model", "plot", "bench", "find_close")
"""In the package, as compressai.utils.TOOL."""
EXAMPLES = ("codec", "train")
"""Beside it, as examples/TOOL.py: the wheel of 1.2.8 has them, others may not."""
_WITH_CODECS = ("bench", "find_close")


def main(arguments: list[str]) -> int | None:
    """Run a tool; what it returns. Its own errors and SystemExit pass through."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m flic.compressai {{{','.join(TOOLS + EXAMPLES)},FILE.py}} ...")
        return 0 if arguments else 2
    name, *rest = arguments
    if name in TOOLS:
        return _run_tool(name, rest)
    if name in EXAMPLES:
        return _run_script(_example(name), rest)
    if name.endswith(".py"):
        return _run_script(Path(name), rest)
    raise FlicError(f"no tool {name!r} (there are {', '.join(TOOLS + EXAMPLES)}, or a FILE.py)")


def _run_tool(name: str, arguments: list[str]) -> int | None:
    register()
    module = importlib.import_module(f"compressai.utils.{name}.__main__")
    if name in _WITH_CODECS:
        from .codec import Flic

        if Flic not in module.codecs:
            module.codecs.append(Flic)
    sys.argv = [f"python -m flic.compressai {name}", *arguments]
    return module.main(arguments)


def _run_script(path: Path, arguments: list[str]) -> None:
    if not path.is_file():
        raise FlicError(f"{path}: no such file")
    register()
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))  # as Python does for a script
    runpy.run_path(str(path), run_name="__main__")


def _example(name: str) -> Path:
    distribution = importlib.metadata.distribution("compressai")
    path = Path(distribution.locate_file(f"examples/{name}.py"))
    if not path.is_file():
        raise FlicError(
            f"CompressAI {distribution.version} is installed without its examples: take "
            f"examples/{name}.py from https://github.com/InterDigitalInc/CompressAI and run "
            f"python -m flic.compressai PATH/{name}.py"
        )
    return path


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FlicError as error:
        print(f"flic.compressai: {error}", file=sys.stderr)
        sys.exit(1)
