"""Chaos on real processes: what was done to a cluster, what its clients saw, and the verdicts.

A black box: of the product this package imports the SDK alone. `python -m chaos.check DIR`
judges what a run has left in its folder, as often as one likes.
"""
