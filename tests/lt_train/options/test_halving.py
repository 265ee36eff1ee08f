"""Where values part into halves."""

from hypothesis import given
from hypothesis import strategies as st

from lt_train.options.halving import halves

SHARES = st.floats(1e-9, 1, exclude_min=True)


@given(values=st.lists(SHARES | st.sampled_from([0.25, 0.5, 1.0]), max_size=30))
def test_some_values_lie_below_and_some_do_not(values):
    found = halves(values)
    if len(set(values)) < 2:
        assert found is None
        return
    assert sum(value < found.threshold for value in values) == found.lower
    assert 0 < found.lower < found.values == len(values)
    assert found.last < found.threshold <= found.first <= max(values)
    # no border between different values is nearer to the middle
    others = [sum(other < value for other in values) for value in set(values)]
    assert abs(2 * found.lower - len(values)) == min(abs(2 * n - len(values)) for n in others if n)


def test_the_number_is_as_short_as_it_can_be():
    assert halves([0.0123, 0.0456, 0.0789, 0.1]).threshold == 0.07
    assert halves([0.3012, 0.3014]).threshold == 0.3014
    assert halves([3, 100, 100, 100]).lower == 1
