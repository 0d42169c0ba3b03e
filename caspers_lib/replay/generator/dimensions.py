"""The six dimension tables.

Contract: docs/contracts.md, Dataset. Money is decimal(12, 2) USD.
"""

from decimal import Decimal

import pyarrow as pa

from caspers_lib.replay.generator.cities import CITIES
from caspers_lib.replay.generator.menu import brands, listings

__all__ = ["DIMENSION_SCHEMAS", "dimension_tables"]

_ID = pa.int32()
_TEXT = pa.string()


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, of, nullable=name == "end_day") for name, of in types.items()])


DIMENSION_SCHEMAS = {
    "brands": _schema(brand_id=_ID, name=_TEXT, cuisine_type=_TEXT, avg_prep_time_min=_ID),
    "locations": _schema(
        location_id=_ID,
        location_code=_TEXT,
        name=_TEXT,
        address=_TEXT,
        lat=pa.float64(),
        lon=pa.float64(),
        narrative=_TEXT,
        base_orders_day=_ID,
        growth_rate_daily=pa.float64(),
    ),
    "menus": _schema(id=_ID, brand_id=_ID, name=_TEXT),
    "categories": _schema(id=_ID, menu_id=_ID, brand_id=_ID, name=_TEXT),
    "items": _schema(
        id=_ID,
        category_id=_ID,
        menu_id=_ID,
        brand_id=_ID,
        name=_TEXT,
        price=pa.decimal128(12, 2),
    ),
    "brand_locations": _schema(
        brand_location_id=_ID,
        brand_id=_ID,
        location_id=_ID,
        start_day=_ID,
        end_day=_ID,
        trajectory=_TEXT,
        growth_rate_monthly=pa.float64(),
    ),
}


def dimension_tables(first_day: int = 0) -> dict[str, pa.Table]:
    """Every dimension by its name, sorted by id.

    Args:
        first_day: the day of the story from which `start_day` and `end_day` count; what was before
            it is negative. `end_day` is null while a brand still sells.
    """
    categories = {d.category_id: (b.id, d.category) for b in brands() for d in b.dishes}
    rows: dict[str, list[tuple[object, ...]]] = {
        "brands": [(b.id, b.name, b.cuisine, b.prep_minutes) for b in brands()],
        "locations": [
            (
                c.location_id,
                c.code,
                c.name,
                c.address,
                c.lat,
                c.lon,
                c.narrative,
                c.base_orders_day,
                c.growth_rate_daily,
            )
            for c in CITIES
        ],
        "menus": [(b.id, b.id, f"{b.name} menu") for b in brands()],
        "categories": [(i, brand, brand, name) for i, (brand, name) in categories.items()],
        "items": [
            (d.id, d.category_id, b.id, b.id, d.name, Decimal(d.price_cents).scaleb(-2))
            for b in brands()
            for d in b.dishes
        ],
        "brand_locations": [
            (
                x.id,
                x.brand_id,
                x.location_id,
                x.start_day - first_day,
                None if x.end_day is None else x.end_day - first_day,
                x.trajectory,
                x.growth_monthly,
            )
            for x in listings()
        ],
    }
    return {name: _table(schema, rows[name]) for name, schema in DIMENSION_SCHEMAS.items()}


def _table(schema: pa.Schema, rows: list[tuple[object, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, type=f.type) for f, values in zip(schema, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
