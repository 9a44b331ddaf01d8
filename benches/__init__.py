"""Benchmarks and ahead-of-time compilation reports."""
