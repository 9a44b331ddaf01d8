"""Benchmarks; `python -m benches` runs them, `python -m benches --list` names them.

suites/ are timed by pytest-benchmark, studies/ are commands with options of their own, harness/ is
what they share.
"""
