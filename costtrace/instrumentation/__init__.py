"""How costtrace takes part in SDK calls while a scope is open."""

from costtrace.instrumentation.faults import faults
from costtrace.instrumentation.seams import instrument, is_active, is_disabled, uninstrument
from costtrace.instrumentation.watch import flush

__all__ = ["faults", "flush", "instrument", "is_active", "is_disabled", "uninstrument"]
