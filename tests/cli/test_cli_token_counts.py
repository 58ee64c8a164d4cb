"""What counting returns can be priced as it is."""

from __future__ import annotations

from decimal import Decimal

import pytest

from costtrace import Usage, count_tokens, estimate_cost


def test_a_count_can_be_priced():
    """A `TokenCount` is an int; usage keeps it as a plain one."""
    count = count_tokens("tiktoken is great!", "gpt-4o")

    assert estimate_cost("gpt-4o", count, 10) == Decimal("0.000115")
    assert type(Usage(input_tokens=count).input_tokens) is int


@pytest.mark.parametrize("count", [True, 1.0, "1", None])
def test_what_is_no_count_is_refused(count: object):
    """A bool is none either."""
    with pytest.raises(TypeError, match="input_tokens must be an int"):
        Usage(input_tokens=count)  # type: ignore[arg-type]
