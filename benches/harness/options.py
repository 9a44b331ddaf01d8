"""The command lines of studies: their help is their docstring."""

import argparse
from pathlib import Path


def parser(study: str, description: str, model: str | None = None) -> argparse.ArgumentParser:
    """For a study's options; `study` is its module's `__name__`.

    Where `model` says what the model is without -m, with --photos DIR and -m MODEL.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m benches {study.rpartition('.')[2]}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if model:
        made.add_argument("--photos", type=Path, required=True, help="folder of pictures")
        made.add_argument("-m", "--model", help=f"name or checkpoint (default: {model})")
    return made
