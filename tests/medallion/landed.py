"""Events as they land, a dictionary each."""

import json

ITEM = {
    "id": 7, "category_id": 6, "menu_id": 5, "brand_id": 4, "name": "Soup", "price": 9.5, "qty": 1,
}  # fmt: skip


def event(event_id: str, **fields: object) -> dict[str, object]:
    whole: dict[str, object] = {
        "event_id": event_id,
        "event_type": "gk_started",
        "ts": "2024-03-11 00:00:00.000",
        "location_id": 1,
        "order_id": "O1",
        "sequence": 1,
        "body": "{}",
    }
    return whole | fields


def created(event_id: str, *items: object, **fields: object) -> dict[str, object]:
    body = json.dumps({"customer_lat": 37.5, "items": list(items)})
    return event(event_id, event_type="order_created", body=body, **fields)
