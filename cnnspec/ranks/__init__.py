"""Ranks: processes of one training that share no memory, on one machine or on many, and the exchange between them."""

from cnnspec.ranks.exchange import SINGLE_RANK, Exchange, Operation, SingleRank

__all__ = ["SINGLE_RANK", "Exchange", "Operation", "SingleRank"]
