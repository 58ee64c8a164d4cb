"""How costtrace takes part in SDK calls while a scope is open."""

from costtrace.instrumentation.faults import faults
from costtrace.instrumentation.opened import flush
from costtrace.instrumentation.presence import instrument, is_active, is_disabled, uninstrument

__all__ = ["faults", "flush", "instrument", "is_active", "is_disabled", "uninstrument"]
