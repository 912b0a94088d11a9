"""The assets: one file per asset of the graph, bodies of a few lines.

What they share (declaring an asset from its node, materializing it) is in `defs/materialize.py`.
"""
