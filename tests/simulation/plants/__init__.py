"""Planted bugs: each one rule of the product taken out, in the simulation's process alone."""

from __future__ import annotations

from tests.simulation.plants.consensus import (
    AmnesiacVotes,
    BelievesCommitIndex,
    ChunkMovesCommit,
    CommitsOlderTerms,
    CountsItselfEarly,
    CountsReplies,
    ForgetsCallers,
    ForgetsItsVote,
    IgnoresReplyTerm,
    KeepsWrongSuffix,
    NeverRewinds,
    ReadsAtOnce,
    SpeaksEarly,
    StockTruncation,
    VotesForAnyLog,
)

__all__ = [
    "AmnesiacVotes",
    "BelievesCommitIndex",
    "ChunkMovesCommit",
    "CommitsOlderTerms",
    "CountsItselfEarly",
    "CountsReplies",
    "ForgetsCallers",
    "ForgetsItsVote",
    "IgnoresReplyTerm",
    "KeepsWrongSuffix",
    "NeverRewinds",
    "ReadsAtOnce",
    "SpeaksEarly",
    "StockTruncation",
    "VotesForAnyLog",
]
