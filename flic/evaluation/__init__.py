"""How much models compress and how well: rate, quality, time and memory on a set of pictures.

`run.evaluate` measures; `bd` compares curves; `report` and `chart` write what came of it.
Conventions are in docs/evaluation.md.
"""
