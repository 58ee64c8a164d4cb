"""The ways in: what a user types around functions, request handlers and other providers' calls."""

from costtrace.api.budgeting import Budget, budget
from costtrace.api.by_hand import Hold
from costtrace.api.tracking import tracked

__all__ = ["Budget", "Hold", "budget", "tracked"]
