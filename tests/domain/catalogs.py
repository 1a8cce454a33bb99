"""The shipped catalog, and any other."""

from importlib.resources import files

from domain.catalog import Catalog
from domain.catalog_file import CatalogFile, read_catalog

SHIPPED = files("domain").joinpath("catalog.toml").read_text()


def catalog_of(text: str, own: str | None = None) -> Catalog:
    """The catalog of a text as if it were shipped, with the user's own on top."""
    own_file = [] if own is None else [CatalogFile("own.toml", own)]
    return read_catalog(CatalogFile("catalog.toml", text), *own_file)
