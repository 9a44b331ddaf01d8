"""What suites and studies share."""
