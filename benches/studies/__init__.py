"""Measurements that are commands of their own; `python -m benches STUDY` runs one."""
