"""The linear models that are fitted, of which rows that they have not seen choose one."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class LinearChoice(NamedTuple):
    """How a linear model is fitted."""

    strength: float
    """``C`` of the regularization: its inverse strength."""
    neighbor_weight: float = 0.0
    """Weight of each neighboring class in the target, see :mod:`soft_targets`."""

    @property
    def name(self) -> str:
        """The name of the model among files and columns.

        Example:
            >>> LinearChoice(4.0).name, LinearChoice(4.0, 0.15).name
            ('4', '4-0.15')
        """
        if not self.neighbor_weight:
            return f"{self.strength:g}"
        return f"{self.strength:g}-{self.neighbor_weight:g}"

    @classmethod
    def parse(cls, name: str) -> "LinearChoice":
        """Return the choice with a name."""
        return cls(*[float(number) for number in name.split("-")])

    @classmethod
    def of(cls, calibration: Mapping[str, Any]) -> "LinearChoice":
        """Return the choice of a calibration."""
        neighbor_weight = calibration.get("linear_neighbor_weight", 0.0)
        return cls(calibration["linear_strength"], neighbor_weight)

    def to_calibration(self) -> dict[str, float]:
        """Return the keys of a calibration; a weight of 0 has none."""
        chosen = {"linear_strength": self.strength}
        if self.neighbor_weight:
            chosen["linear_neighbor_weight"] = self.neighbor_weight
        return chosen
