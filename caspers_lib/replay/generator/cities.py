"""The four cities: where the kitchens stand and how their demand behaves.

Local time is a fixed offset from UTC, without daylight saving. Contract: docs/contracts.md,
Dataset.
"""

from dataclasses import dataclass

__all__ = ["CITIES", "WEEKDAY_LIFT", "City"]


@dataclass(frozen=True, slots=True)
class City:
    """A city with one kitchen.

    Args:
        location_id: the kitchen's location id.
        code: short name for machines.
        name: the market's name.
        place: city and state as written in addresses.
        address: the kitchen's address (invented).
        lat: the kitchen's latitude, degrees.
        lon: the kitchen's longitude, degrees.
        narrative: the location's story in one sentence.
        base_orders_day: orders of an average day at the dataset's start, at scale 1.
        growth_rate_daily: change a day; compounds to the city's growth over the first 90 days.
        utc_offset_hours: local time minus UTC.
        hourly_demand: relative demand at each full local hour, 0 to 23; in between it is linear.
        capacity_ratio: orders the kitchen can cook in its busiest slot, relative to the average
            day's expected peak; the lower, the more late orders.
        meters_per_lon: length of one degree of longitude at this latitude, meters.
        grid_cos: cosine of the street grid's turn against north.
        grid_sin: sine of the street grid's turn against north.
        speed_m_min: drivers' average speed including stops, meters per minute.
    """

    location_id: int
    code: str
    name: str
    place: str
    address: str
    lat: float
    lon: float
    narrative: str
    base_orders_day: int
    growth_rate_daily: float
    utc_offset_hours: int
    hourly_demand: tuple[int, ...]
    capacity_ratio: float
    meters_per_lon: float
    grid_cos: float
    grid_sin: float
    speed_m_min: float


# Monday to Sunday; their mean is 1.
WEEKDAY_LIFT = (0.86, 0.88, 0.92, 0.98, 1.14, 1.20, 1.02)

# fmt: off
_LUNCH_AND_DINNER = (
    4, 2, 1, 1, 1, 2, 5, 12, 18, 20, 30, 62,
    92, 70, 36, 28, 34, 66, 104, 110, 78, 44, 22, 10,
)
_EARLY_DINNER = (
    2, 1, 1, 1, 1, 3, 8, 16, 20, 20, 30, 66,
    90, 62, 34, 32, 52, 98, 108, 80, 46, 24, 10, 4,
)
_LATE_NIGHT = (
    92, 58, 24, 8, 3, 2, 3, 8, 12, 14, 24, 54,
    78, 58, 32, 26, 30, 52, 74, 72, 58, 66, 88, 104,
)
# fmt: on

CITIES = (
    City(
        location_id=1,
        code="san_francisco",
        name="San Francisco",
        place="San Francisco, CA",
        address="418 Gullwing Alley, San Francisco, CA",
        lat=37.76050,
        lon=-122.43300,
        narrative="A strong market that keeps growing; kitchens run full at dinner.",
        base_orders_day=225,
        growth_rate_daily=0.0061733,
        utc_offset_hours=-8,
        hourly_demand=_LUNCH_AND_DINNER,
        capacity_ratio=1.05,
        meters_per_lon=87_910.0,
        grid_cos=0.9877,
        grid_sin=0.1564,
        speed_m_min=430.0,
    ),
    City(
        location_id=2,
        code="silicon_valley",
        name="Silicon Valley",
        place="Sunnyvale, CA",
        address="77 Tessellate Court, Sunnyvale, CA",
        lat=37.36880,
        lon=-122.03630,
        narrative="The newest kitchen: demand nearly triples, much of it late at night.",
        base_orders_day=105,
        growth_rate_daily=0.0119004,
        utc_offset_hours=-8,
        hourly_demand=_LATE_NIGHT,
        capacity_ratio=1.05,
        meters_per_lon=88_380.0,
        grid_cos=0.9986,
        grid_sin=-0.0523,
        speed_m_min=475.0,
    ),
    City(
        location_id=3,
        code="bellevue",
        name="Bellevue",
        place="Bellevue, WA",
        address="2306 Wrenfield Loop, Bellevue, WA",
        lat=47.61500,
        lon=-122.15500,
        narrative="A settled suburb: the same families order week after week.",
        base_orders_day=135,
        growth_rate_daily=0.0,
        utc_offset_hours=-8,
        hourly_demand=_EARLY_DINNER,
        capacity_ratio=1.05,
        meters_per_lon=74_960.0,
        grid_cos=1.0,
        grid_sin=0.0,
        speed_m_min=465.0,
    ),
    City(
        location_id=4,
        code="chicago",
        name="Chicago",
        place="Chicago, IL",
        address="1509 Brakeman Row, Chicago, IL",
        lat=41.89600,
        lon=-87.67000,
        narrative="The oldest kitchen loses a quarter of its orders as rivals open nearby.",
        base_orders_day=210,
        growth_rate_daily=-0.0031914,
        utc_offset_hours=-6,
        hourly_demand=_LUNCH_AND_DINNER,
        capacity_ratio=1.05,
        meters_per_lon=82_780.0,
        grid_cos=1.0,
        grid_sin=0.0,
        speed_m_min=445.0,
    ),
)
