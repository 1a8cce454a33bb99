"""The shipped catalog, and any other."""

from importlib.resources import files

from domain.recipes.catalog import Catalog
from domain.recipes.catalog_file import CatalogFile, read_catalog
from domain.recipes.recipe import Kind

SHIPPED = files("domain.recipes").joinpath("catalog.toml").read_text()

TEN = [
    # Job type, pool, kind, steps, guidance, quantities, least and most seconds, whether the prompt is made richer.
    ("sdxl_image_fast", "sdxl", Kind.IMAGE, 15, 6.0, (1, 3, 6), (4, 4), False),
    ("sdxl_image_high", "sdxl", Kind.IMAGE, 25, 7.5, (1, 3, 6), (8, 8), False),
    ("image_fast", "wan", Kind.IMAGE, 25, 6.5, (1,), (25, 40), False),
    ("image_high", "wan", Kind.IMAGE, 50, 7.5, (1,), (40, 100), False),
    ("video_fast", "wan", Kind.VIDEO, 25, 6.5, (1,), (135, 135), False),
    ("video_high", "wan", Kind.VIDEO, 50, 7.5, (1,), (180, 240), False),
    ("image7b_fast_enhanced", "wan", Kind.IMAGE, 25, 6.5, (1,), (85, 240), True),
    ("image7b_high_enhanced", "wan", Kind.IMAGE, 50, 7.5, (1,), (85, 240), True),
    ("video7b_fast_enhanced", "wan", Kind.VIDEO, 25, 6.5, (1,), (195, 240), True),
    ("video7b_high_enhanced", "wan", Kind.VIDEO, 50, 7.5, (1,), (195, 240), True),
]


def catalog_of(text: str, own: str | None = None) -> Catalog:
    """The catalog of a text as if it were shipped, with the user's own on top."""
    own_file = [] if own is None else [CatalogFile("own.toml", own)]
    return read_catalog(CatalogFile("catalog.toml", text), *own_file)
