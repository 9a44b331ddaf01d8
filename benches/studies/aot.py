"""Compile every Triton kernel ahead of time, without a GPU: registers, stack, shared memory.

    python -m benches aot [--targets 80,90,100] [--subset] [--write docs/kernels.md] [--only NAME]

The launches are the ones the operators make, built from meta tensors at the codec's own shapes and
with the wider heads that window attention takes. Run it without TRITON_INTERPRET. A kernel that
spills registers or exceeds the target's shared memory fails. With --subset or --only, --write
replaces the rows of the kernels compiled and no others.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benches.harness import document, study
from benches.harness.launches import every_launch
from flic_kernels.triton.launch import INTERPRETED, Launch

# Shared memory a block can have, in bytes (CUDA programming guide, compute capabilities).
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
PART = "aot"  # of the document


def compile_launch(launch: Launch, arch: int):
    """The compiled kernel, specialised as Triton's own launcher would specialise it."""
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(launch.kernel.params):
        name = parameter.name
        value = launch.arguments[name]
        if isinstance(value, torch.Tensor):
            signature[name] = POINTERS[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or value == 1 or value is None:
            signature[name] = "constexpr"
            constants[name] = value
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=launch.options)


def resources(cubin: bytes) -> tuple[int, int]:
    """(registers a thread, bytes of stack a thread); spilled registers live on the stack."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    return int(re.search(r"REG:(\d+)", text)[1]), int(re.search(r"STACK:(\d+)", text)[1])


def label(launch: Launch) -> str:
    """The kernel's name, with the pixels of a window and whether it serves inference."""
    name, arguments = launch.kernel.__name__.strip("_"), launch.arguments
    if "LOG_N" in arguments:
        name += f" {1 << arguments['LOG_N']}"
    return name + " inference" * ("lse" in arguments and arguments["lse"] is None)


def report(targets: list[int], subset: bool, only: str) -> tuple[list[tuple], int]:
    """Rows (kernel, configuration, dtype, warps, then per target registers/stack/shared)."""
    rows, failures = [], 0
    for launches in zip(*(every_launch(arch, subset) for arch in targets), strict=True):
        name, dtype, first = launches[0]
        kernel = label(first)
        if only not in f"{name} {kernel}":
            continue
        cells = []
        for arch, (_, _, launch) in zip(targets, launches, strict=True):
            compiled = compile_launch(launch, arch)
            registers, stack = resources(compiled.asm["cubin"])
            shared = compiled.metadata.shared
            bad = stack > 0 or shared > SHARED_LIMIT[arch]
            failures += bad
            cells.append(f"{registers} / {stack} / {shared / 1024:.1f}" + " **bad**" * bad)
        rows.append((name, kernel, str(dtype).removeprefix("torch."), str(first.num_warps), *cells))
        print(" | ".join(rows[-1]), flush=True)
    return rows, failures


def head(targets: list[int]) -> list[str]:
    """The lines above a table's rows."""
    made = f"Triton {triton.__version__}; registers / stack bytes / KiB of shared memory."
    cells = ["case", "kernel", "dtype", "warps", *(f"sm_{t}" for t in targets)]
    return [made, "", f"| {' | '.join(cells)} |", "|" + "---|" * len(cells)]


def merged(text: str, rows: list[tuple], targets: list[int]) -> list[tuple]:
    """A table's rows, those of the kernels in `rows` replaced. ValueError: made otherwise."""
    lines = text.splitlines()
    if lines[:4] != head(targets):
        raise ValueError("the table is of another Triton or other targets; write all of it")
    old = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines[4:]]
    new = defaultdict(list)
    for row in rows:
        new[row[:3]].append(row)
    count = Counter(row[:3] for row in old)
    if any(count[kernel] != len(found) for kernel, found in new.items()):
        raise ValueError("the table has not these kernels; write all of it")
    return [new[row[:3]].pop(0) if row[:3] in new else row for row in old]


def write(path: Path, rows: list[tuple], targets: list[int], whole: bool) -> None:
    """Put the table into a document, or its rows of these kernels. ValueError: it has none."""
    if not whole:
        rows = merged(document.part(path, PART), rows, targets)
    lines = head(targets) + [f"| {' | '.join(row)} |" for row in rows]
    document.replace(path, PART, "\n".join(lines))


def main(arguments: Sequence[str]) -> int:
    parser = study.parser(__name__, __doc__, publishes=False)
    parser.add_argument("--targets", default="80,90,100")
    parser.add_argument("--subset", action="store_true", help="bfloat16, one case an operation")
    parser.add_argument("--write", type=Path, help="put the table between the markers of this file")
    parser.add_argument("--only", default="", help="kernels whose case or name contains this")
    given = parser.parse_args(arguments)
    if INTERPRETED:
        parser.error("TRITON_INTERPRET is set: nothing can be compiled in this process")
    targets = [int(t) for t in given.targets.split(",")]
    rows, failures = report(targets, given.subset, given.only)
    if given.write:
        try:
            write(given.write, rows, targets, whole=not (given.subset or given.only))
        except ValueError as error:
            parser.error(f"{given.write}: {error}")
    print(f"{len(rows)} kernels for {len(targets)} targets, {failures} over a limit")
    return 1 if failures or not rows else 0
