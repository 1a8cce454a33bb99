"""The demo models: small models of the real architectures that draw a small world of coloured shapes.

This package trained them. Their weights ship in `weights/` and load like those of any model, without the code here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
SDXL_DEMO: Final = WEIGHTS / "sdxl-demo"
WAN_DEMO: Final = WEIGHTS / "wan-demo"

DEMO_MODELS: Final[Mapping[str, str]] = {"sdxl-demo": str(SDXL_DEMO), "wan-demo": str(WAN_DEMO)}
"""Their folders by their names in the catalog."""
