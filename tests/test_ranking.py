"""The order of estimates does not depend on the order in which they were added up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelmeter.ranking import largest_first


@given(st.dictionaries(st.text(max_size=4), st.integers(1, 6), max_size=8), st.randoms())
def test_the_noise_of_a_sum_does_not_decide(values: dict[str, int], random) -> None:  # type: ignore[no-untyped-def]
    noisy = {name: value * 0.140272 * (1 + random.uniform(-1e-13, 1e-13)) for name, value in values.items()}
    assert largest_first(noisy) == sorted(values, key=lambda name: (-values[name], name))
