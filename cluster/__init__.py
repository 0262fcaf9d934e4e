"""Consensus: a hardened Raft engine over PySyncObj, its log, its disk and its transport.

The package knows the replicated machine only as the `Machine` protocol of
`cluster.interface`: it stores opaque records and never looks into an entry.
"""
