//! Who visits the shop: traits that follow from the visitor's number and stay for all of their sessions.

use std::net::Ipv4Addr;

use crate::catalogue::Catalogue;
use crate::draw::{Draw, Purpose};
use crate::json::{decimal, hexadecimal, integer, padded, text};

struct Town {
    country: &'static str,
    region: &'static str,
    city: &'static str,
    /// Degrees times a million.
    latitude: i64,
    /// Degrees times a million.
    longitude: i64,
    timezone: &'static str,
}

const fn town(names: [&'static str; 4], latitude: i64, longitude: i64) -> Town {
    let [country, region, city, timezone] = names;
    Town { country, region, city, latitude, longitude, timezone }
}

const TOWNS: [Town; 12] = [
    town(["US", "California", "San Francisco", "America/Los_Angeles"], 37_770_000, -122_410_000),
    town(["US", "New York", "New York", "America/New_York"], 40_710_000, -74_010_000),
    town(["GB", "England", "London", "Europe/London"], 51_500_000, -130_000),
    town(["DE", "Berlin", "Berlin", "Europe/Berlin"], 52_520_000, 13_400_000),
    town(["DE", "Bayern", "München", "Europe/Berlin"], 48_140_000, 11_580_000),
    town(["FR", "Île-de-France", "Paris", "Europe/Paris"], 48_860_000, 2_350_000),
    town(["IN", "Karnataka", "Bengaluru", "Asia/Kolkata"], 12_970_000, 77_590_000),
    town(["IN", "Maharashtra", "Mumbai", "Asia/Kolkata"], 19_080_000, 72_880_000),
    town(["BR", "São Paulo", "São Paulo", "America/Sao_Paulo"], -23_550_000, -46_630_000),
    town(["JP", "Tokyo", "Tokyo", "Asia/Tokyo"], 35_680_000, 139_690_000),
    town(["AU", "New South Wales", "Sydney", "Australia/Sydney"], -33_870_000, 151_210_000),
    town(["ZA", "Western Cape", "Cape Town", "Africa/Johannesburg"], -33_920_000, 18_420_000),
];

struct Device {
    browser: &'static str,
    version: &'static str,
    os: &'static str,
    kind: &'static str,
    /// What such a device sends through: its browser, or the shop's app where there is one.
    sources: &'static [&'static str],
    raw: &'static str,
}

const fn device(names: [&'static str; 4], sources: &'static [&'static str], raw: &'static str) -> Device {
    let [browser, version, os, kind] = names;
    Device { browser, version, os, kind, sources, raw }
}

const DEVICES: [Device; 7] = [
    device(
        ["Chrome", "131.0", "Windows", "desktop"],
        &["web"],
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    ),
    device(
        ["Safari", "18.1", "macOS", "desktop"],
        &["web"],
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    ),
    device(
        ["Firefox", "133.0", "Linux", "desktop"],
        &["web", "api"],
        "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    ),
    device(
        ["Edge", "131.0", "Windows", "desktop"],
        &["web"],
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
    ),
    device(
        ["Safari", "18.1", "iOS", "mobile"],
        &["web", "ios", "ios"],
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    ),
    device(
        ["Chrome", "131.0", "Android", "mobile"],
        &["web", "android", "android"],
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
    ),
    device(
        ["Safari", "18.1", "iPadOS", "tablet"],
        &["web", "ios"],
        "Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    ),
];

/// One visitor, the same in every session.
pub(crate) struct Visitor {
    number: u64,
    anonymous_id: u64,
    plan: &'static str,
    device: &'static Device,
    town: &'static Town,
    latitude: i64,
    longitude: i64,
    address: Ipv4Addr,
    /// Whether they sign up in their first session; only then do they ever log in.
    pub(crate) registers: bool,
    /// What they send through: `web`, `ios`, `android` or `api`.
    pub(crate) source: &'static str,
    /// The experiment they are in, 0 to 11.
    pub(crate) experiment: u8,
}

impl Visitor {
    /// Visitor `number` under `seed`.
    pub(crate) fn new(seed: u64, number: u64, catalogue: &Catalogue) -> Self {
        let mut draw = Draw::new(seed, Purpose::Visitor, number);
        let registers = draw.percent(45);
        let device = draw.pick(&DEVICES);
        let town = draw.pick(&TOWNS);
        Self {
            number,
            anonymous_id: draw.long(),
            plan: if registers { *draw.pick(&["free", "free", "pro", "team"]) } else { "free" },
            device,
            town,
            // Within a tenth of a degree, about ten kilometres, of the town.
            latitude: town.latitude + i64::from(draw.below(100_000)),
            longitude: town.longitude + i64::from(draw.below(100_000)),
            address: catalogue.draw_address(&mut draw),
            registers,
            source: *draw.pick(device.sources),
            experiment: draw.below(12) as u8,
        }
    }

    /// Appends the event's `user` object.
    pub(crate) fn write_user(&self, is_new: bool, out: &mut Vec<u8>) {
        text(out, "{\"user_id\":\"u");
        if self.number < 1_000_000 {
            padded(out, self.number, 6);
        } else {
            integer(out, self.number);
        }
        text(out, "\",\"anonymous_id\":\"");
        hexadecimal(out, u128::from(self.anonymous_id), 16);
        text(out, if is_new { "\",\"is_new\":true,\"plan\":\"" } else { "\",\"is_new\":false,\"plan\":\"" });
        text(out, self.plan);
        text(out, "\"}");
    }

    /// Appends the event's `user_agent` object.
    pub(crate) fn write_user_agent(&self, out: &mut Vec<u8>) {
        let device = self.device;
        let fields = [
            ("{\"browser\":\"", device.browser),
            ("\",\"browser_version\":\"", device.version),
            ("\",\"os\":\"", device.os),
            ("\",\"device\":\"", device.kind),
            ("\",\"raw\":\"", device.raw),
        ];
        for (name, value) in fields {
            text(out, name);
            text(out, value);
        }
        text(out, "\"}");
    }

    /// Appends the event's `location` object.
    pub(crate) fn write_location(&self, out: &mut Vec<u8>) {
        let town = self.town;
        for (name, value) in
            [("{\"country\":\"", town.country), ("\",\"region\":\"", town.region), ("\",\"city\":\"", town.city)]
        {
            text(out, name);
            text(out, value);
        }
        text(out, "\",\"latitude\":");
        decimal(out, self.latitude, 6);
        text(out, ",\"longitude\":");
        decimal(out, self.longitude, 6);
        text(out, ",\"timezone\":\"");
        text(out, town.timezone);
        text(out, "\",\"ip\":\"");
        for (place, octet) in self.address.octets().into_iter().enumerate() {
            if place > 0 {
                out.push(b'.');
            }
            integer(out, u64::from(octet));
        }
        text(out, "\"}");
    }
}
