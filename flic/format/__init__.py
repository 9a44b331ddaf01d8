"""The .flic file (docs/format.md): container, streams, tiles, step. Needs no torch."""
