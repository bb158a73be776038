"""What a component may ask of the platform that it is elaborated for: the family, and so the cells it has."""


class Ecp5:
    """Lattice ECP5 without a board; Amaranth's own platform of that family has the same attribute."""

    family = "ecp5"


def is_ecp5(platform: object) -> bool:
    """Whether ECP5 cells may be instantiated."""
    return getattr(platform, "family", None) == "ecp5"
