"""Processes that share a training without sharing memory, on one machine or on many: ranks, and how they exchange."""

from cnnspec.ranks.exchange import ALONE, Alone, Exchange, Operation

__all__ = ["ALONE", "Alone", "Exchange", "Operation"]
