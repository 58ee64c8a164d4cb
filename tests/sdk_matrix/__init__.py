"""The tests of `tests/instrumentation` on four generations of the two SDKs."""
