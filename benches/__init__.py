"""Benchmarks; `python -m benches` runs them all, each in a process of its own."""
