"""The demo models: small ones of the real architectures, trained here, that draw a small world of coloured shapes.

Their weights ship in `weights/` and load as any model does. Nothing here is needed to use them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
SDXL_DEMO: Final = WEIGHTS / "sdxl-demo"
WAN_DEMO: Final = WEIGHTS / "wan-demo"

DEMO_MODELS: Final[Mapping[str, str]] = {"sdxl-demo": str(SDXL_DEMO), "wan-demo": str(WAN_DEMO)}
"""By their names in the catalog."""
