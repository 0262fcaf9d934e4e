"""The load generator: a process of its own that speaks frames, many in flight, and counts.

`python -m benchmarks.generator '{"kind": "submits", ...}'` prints one JSON object. It is driven
by callbacks, without a task or a future per request, so that what is measured is the cluster.
"""
