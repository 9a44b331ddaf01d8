"""Rows as a table, as Markdown and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benches.harness import document
from benches.harness.problems import BOTH, FORWARD
from benches.harness.rows import OK, Row

COLORS = {
    "reference": "0.65", "compile": "tab:blue", "sdpa": "tab:orange", "default": "tab:purple",
    "accelerated": "tab:green", "exact": "tab:brown", "cpu": "tab:red", "triton": "tab:red",
}  # fmt: skip
OURS = "cpu", "triton", "default"  # the implementation that is used
RIVALS = {"compile": "torch.compile", "sdpa": "SDPA", "exact": "exact engine"}
WIDTH = 180  # enough for every column


def table(found: list[Row]) -> Table:
    """All rows, a section for each thing; a column that would be empty is left out."""
    columns = {
        "op": lambda r: f"{r.op} {r.case}",
        "shape": lambda r: "x".join(map(str, r.shape or ())),
        "dtype": lambda r: r.dtype,
        "mode": lambda r: r.mode.replace(BOTH, "fwd+bwd"),
        "impl": lambda r: r.impl,
        "p50, ms": lambda r: _milliseconds(r.p50) if r.status == OK else r.status.upper(),
        "p20-p80": lambda r: f"{_milliseconds(r.p20)}-{_milliseconds(r.p80)}" if r.p50 else "",
        "x eager": lambda r: f"{r.speedup:.2f}" if r.speedup else "",
        "of copy": lambda r: _percent(r.copy_share),
        "GFLOP/s": lambda r: f"{r.gflops:.0f}" if r.gflops else "",
        "of peak": lambda r: _percent(r.peak_share),
        "peak MB": lambda r: f"{r.peak_bytes / 1e6:.0f}" if r.peak_bytes is not None else "",
        "error": lambda r: f"{r.error:.0e}" if r.error is not None else "",
    }
    cells = {name: [cell(row) for row in found] for name, cell in columns.items()}
    if len({row.dtype for row in found}) == 1:
        del cells["dtype"]
    cells = {name: column for name, column in cells.items() if any(column)}
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in cells:
        left = name in ("op", "shape", "dtype", "mode", "impl")
        made.add_column(name, justify="left" if left else "right", no_wrap=True)
    shown = None
    for row, values in zip(found, zip(*cells.values(), strict=True), strict=True):
        # What rows have in common stands in the first of them.
        same = {"op", "shape", "dtype"} if shown and row.group[:3] == shown[:3] else set()
        same |= {"mode"} if row.group == shown else set()
        if not same and shown:
            made.add_section()
        shown = row.group
        made.add_row(*("" if n in same else v for n, v in zip(cells, values, strict=True)))
    return made


def markdown(found: list[Row]) -> str:
    """A table for each mode, a line for each thing: what it takes, and times as fast as eager."""
    lines = [_where(found[0]), ""]
    for mode in (FORWARD, BOTH):
        groups: dict[tuple, dict[str, Row]] = {}
        for row in found:
            if row.mode == mode and row.status == OK:
                groups.setdefault(row.group, {})[row.impl] = row
        rivals = [n for n in RIVALS if any(n in rows for rows in groups.values())]
        if not groups:
            continue
        head = (mode, "", "eager, ms", "ours, ms", "of the peak", "ours")
        cells = []
        for (op, case, dtype, _), rows in groups.items():
            ours = next((rows[n] for n in OURS if n in rows), None)
            eager = rows.get("reference")
            line = [
                f"{op} {case}", dtype, _milliseconds(eager.p50) if eager else "",
                _milliseconds(ours.p50) if ours else "", _percent(ours and ours.peak_share),
                *(_times(row) for row in (ours, *(rows.get(n) for n in rivals))),
            ]  # fmt: skip
            cells.append(line)
        lines += [document.table([*head, *(RIVALS[n] for n in rivals)], cells), ""]
    for row in found:
        if row.stages and row.status == OK and row.impl != "reference":
            parts = ", ".join(f"{n} {_milliseconds(t)} ms" for n, t in row.stages.items())
            lines.append(f"- {row.op} {row.case}, {row.dtype}: {parts}")
    return "\n".join(lines)


def _times(row: Row | None) -> str:
    return f"{row.speedup:.1f}x" if row and row.speedup else ""


def _where(first: Row) -> str:
    where = f"{first.device}, torch {first.versions['torch']}, commit {first.commit}"
    rates = [f"copy {first.copy_bytes_per_second / 1e9:.0f} GB/s"]
    if first.fma_gflops:
        rates.append(f"FMA peak {first.fma_gflops:.0f} GFLOP/s ({first.threads} threads)")
    return f"{where}: {', '.join(rates)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.{3 if seconds < 1e-3 else 2 if seconds < 1e-1 else 0}f}"


def _percent(share: float | None) -> str:
    return f"{share:.0%}" if share else ""


def show(found: list[Row]) -> None:
    """Print where it ran, the table, and what the rows that were not timed say."""
    if not found:
        print("nothing was measured")
        return
    print(_where(found[0]))
    Console(width=WIDTH).print(table(found))
    for row in found:
        if row.stages:
            parts = ", ".join(f"{n} {_milliseconds(t)} ms" for n, t in row.stages.items())
            print(f"{row.op} {row.case}, {row.impl}: {parts}")
    for note in dict.fromkeys(_note(row) for row in found if row.status != OK):
        print(note)


def _note(row: Row) -> str:
    what = "" if row.status == "skipped" else f"{row.op} {row.case}, {row.mode}, {row.dtype}: "
    return f"{what}{row.impl} {row.status}: {row.note}"


def chart(found: list[Row], path: Path, suffixes: Sequence[str] = (".png", ".svg")) -> None:
    """Bars: how much faster than eager each implementation is, a panel for each mode."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "flic"  # the same file for the same rows
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    found = [row for row in found if row.speedup and row.impl != "reference"]
    modes = [mode for mode in (FORWARD, BOTH) if any(row.mode == mode for row in found)]
    dtypes = {row.dtype for row in found}
    if not modes:
        return
    panels = {mode: _things(found, mode, len(dtypes) > 1) for mode in modes}
    bars = {mode: sum(len(rows) + 1 for rows in panels[mode].values()) for mode in modes}
    figure, axes = plt.subplots(
        1, len(modes), squeeze=False, layout="constrained",
        figsize=(6.2 * len(modes), 1.1 + 0.19 * max(bars.values())),
    )  # fmt: skip
    speeds = [row.speedup for row in found]
    limits = 0.5 * min(1, *speeds), 2 * max(1, *speeds)  # room for the bars' texts
    handles = {}
    for mode, ax in zip(modes, axes[0], strict=True):
        at, ticks = 0, {}
        for name, rows in panels[mode].items():
            ticks[at + (len(rows) - 1) / 2] = name
            for row in rows:
                faster, color = row.speedup - 1, COLORS.get(row.impl, "k")
                handles[row.impl] = ax.barh(at, faster, 0.9, left=1, color=color)
                text = f" {row.speedup:.2g}x, {_milliseconds(row.p50)} ms"
                ax.text(max(1, row.speedup), at, text, va="center", fontsize=6)
                at += 1
            at += 1
        ax.set_yticks(list(ticks), list(ticks.values()), fontsize=7)
        ax.set_ylim(max(bars.values()) - 0.5, -1)
        ax.set_xscale("log")
        ax.set_xlim(limits)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.axvline(1, color="0.4", linewidth=0.8)
        ax.set_title(mode, fontsize=9)
        ax.set_xlabel("times as fast as eager PyTorch", fontsize=8)
        ax.tick_params(axis="x", labelsize=7)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=6, fontsize=8)
    first = found[0]
    figure.suptitle(f"{first.device}, torch {first.versions['torch']}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(path.with_suffix(suffix), dpi=130, metadata=metadata)
    plt.close(figure)


def _things(found: list[Row], mode: str, with_dtype: bool) -> dict[str, list[Row]]:
    things: dict[str, list[Row]] = {}
    for row in found:
        if row.mode == mode:
            dtype = f", {row.dtype}" if with_dtype else ""
            things.setdefault(f"{row.op} {row.case}{dtype}", []).append(row)
    return things
