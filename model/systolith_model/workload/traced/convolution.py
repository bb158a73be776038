"""A convolution as the product of its patches."""

from math import prod

from systolith_model.workload.traced.steps import Shape


def depthwise(x: Shape, weight: Shape, groups: int) -> bool:
    """Whether each channel has a filter of its own, which is no product of matrices."""
    return groups > 1 and groups == x[1] == weight[0]


def unfolded(x: Shape, weight: Shape, out: Shape, transposed: bool, groups: int) -> tuple[int, tuple[Shape, ...]]:
    """Positions of the filter, and shapes of patches, filters and result as a product, one a group.

    Shapes of input and result are (N, C, ...), of filters (Cout, Cin / groups, ...), of ``transposed`` ones
    (Cin, Cout / groups, ...).
    """
    at = x if transposed else out
    rows = at[0] * prod(at[2:])
    if transposed:
        k, n = weight[0] // groups, prod(weight[1:])
    else:
        k, n = prod(weight[1:]), weight[0] // groups
    lead = (groups,) if groups > 1 else ()
    return rows, ((*lead, rows, k), (*lead, k, n), (*lead, rows, n))
