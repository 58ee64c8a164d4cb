"""Prices: what a model costs at a time, and what usage costs at a price.

`prices.json` is dated data with sources: a price change is a change of data. `PriceTable` answers
by model and time, `cost` multiplies, `Bound` says the most a call can cost before it is made.
"""

from __future__ import annotations

from costtrace.pricing.bound import UNLIMITED, Bound, tiers_that_may_serve
from costtrace.pricing.catalogue import Limits, Model
from costtrace.pricing.cost import cost, estimate_cost
from costtrace.pricing.names import Resolution, place_of
from costtrace.pricing.price import Line, Price, PriceId
from costtrace.pricing.table import PriceTable
from costtrace.pricing.tariff import Tariff, tariff_of

__all__ = [
    "UNLIMITED",
    "Bound",
    "Limits",
    "Line",
    "Model",
    "Price",
    "PriceId",
    "PriceTable",
    "Resolution",
    "Tariff",
    "cost",
    "estimate_cost",
    "place_of",
    "tariff_of",
    "tiers_that_may_serve",
]
