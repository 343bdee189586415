"""Ranks: processes of one training that share no memory, on one machine or on many, and the exchange between them."""

from cnnspec.ranks.exchange import ALONE, Alone, Exchange, Operation

__all__ = ["ALONE", "Alone", "Exchange", "Operation"]
