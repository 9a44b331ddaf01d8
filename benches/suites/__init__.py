"""What pytest-benchmark times; `python -m benches SUITE ...` runs them."""
