"""Seeded, nested web-shop events as NDJSON, about 1 KB each: the same bytes for the same count, seed and day.

    events.py COUNT OUT.ndjson [SEED]
"""

import datetime
import json
import random
import sys
import uuid

FIRST_DAY = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
DAYS = 7
TYPES = {"page_view": 40, "click": 20, "scroll": 12, "search": 8, "add_to_cart": 6, "purchase": 3, "signup": 2,
         "login": 4, "logout": 2, "video_play": 3}
PLACES = [
    ("US", "California", "San Francisco", 37.77, -122.41, "America/Los_Angeles"),
    ("GB", "England", "London", 51.5, -0.12, "Europe/London"),
    ("DE", "Berlin", "Berlin", 52.52, 13.4, "Europe/Berlin"),
    ("IN", "Karnataka", "Bengaluru", 12.97, 77.59, "Asia/Kolkata"),
    ("BR", "Sao Paulo", "Sao Paulo", -23.55, -46.63, "America/Sao_Paulo"),
    ("JP", "Tokyo", "Tokyo", 35.68, 139.69, "Asia/Tokyo"),
]
AGENTS = [("Chrome", "131.0", "Windows", "desktop"), ("Safari", "18.1", "macOS", "desktop"),
          ("Safari", "18.1", "iOS", "mobile"), ("Chrome", "131.0", "Android", "mobile"),
          ("Firefox", "133.0", "Linux", "desktop")]
USERS = 200_000
PAGES = 50_000


def event(draw):
    time = FIRST_DAY + datetime.timedelta(milliseconds=draw.randrange(DAYS * 86_400_000))
    kind = draw.choices(list(TYPES), list(TYPES.values()))[0]
    country, region, city, latitude, longitude, zone = draw.choice(PLACES)
    browser, version, system, device = draw.choice(AGENTS)
    session = f"{draw.getrandbits(128):032x}"
    return {
        "event_id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
        "event_type": kind,
        "event_time": f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z",
        "source": draw.choice(["web", "ios", "android", "api"]),
        "schema_version": 1,
        "user": {"user_id": f"u{draw.randrange(USERS):06d}", "anonymous_id": session[:16],
                 "is_new": draw.random() < 0.1, "plan": draw.choice(["free", "pro", "team"])},
        "session": {"session_id": session, "sequence": draw.randrange(60),
                    "started_at": f"{time:%Y-%m-%dT%H}:00:00.000Z"},
        "user_agent": {"browser": browser, "browser_version": version, "os": system, "device": device,
                       "raw": f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) {browser}/{version}"},
        "location": {"country": country, "region": region, "city": city,
                     "latitude": latitude + draw.random() / 10, "longitude": longitude + draw.random() / 10,
                     "timezone": zone, "ip": ".".join(str(draw.randrange(1, 223)) for _ in range(4))},
        "page": {"url": f"https://shop.example.com/p/{draw.randrange(PAGES)}?ref={draw.randrange(100)}",
                 "referrer": draw.choice(["https://search.example/", "https://social.example/", "", None]),
                 "title": f"Product {draw.randrange(PAGES)}"},
        "engagement": {"duration_ms": draw.randrange(120_000), "scroll_depth": round(draw.random(), 3),
                       "clicks": draw.randrange(20),
                       "interactions": [{"type": draw.choice(["hover", "tap", "focus"]),
                                         "at_ms": draw.randrange(100_000)} for _ in range(draw.randrange(4))]},
        "properties": {"experiment": f"exp_{draw.randrange(12)}",
                       "price": round(draw.random() * 300, 2) if kind in ("purchase", "add_to_cart") else None,
                       "currency": "USD", "quantity": draw.randrange(1, 5)},
    }


def write(count, path, seed):
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            file.write(json.dumps(event(draw), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 7)
