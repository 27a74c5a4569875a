"""A catalog revision on its topic: one record, so that a reader sees all of it or none.

Key `catalog`; the value is JSON: `version` (content hash) and `catalog` (the canonical content).
The revision is the record's offset plus one: it rises with each publication, on every worker alike.
"""

import json

from metering.catalog.models import CatalogFile
from metering.catalog.resolved import Catalog, canonical, resolve

KEY = b"catalog"


def to_record(catalog: Catalog) -> bytes:
    """The value of a catalog record."""
    body = {"version": catalog.version, "catalog": canonical(catalog.content)}
    return json.dumps(body, sort_keys=True, ensure_ascii=False).encode()


def from_record(value: bytes, offset: int) -> Catalog:
    """The catalog of a record; ValueError when it is not one, or not what its hash says."""
    body = json.loads(value)
    catalog = resolve(CatalogFile.model_validate(body["catalog"]), revision=offset + 1)
    if catalog.version != body["version"]:
        raise ValueError(f"content does not match its hash {body['version'][:12]}")
    return catalog
