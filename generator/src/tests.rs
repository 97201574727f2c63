//! What a feed promises: the same bytes from anywhere, the agreed shape, sessions that make sense, faults as asked for.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::{BLOCK_EVENTS, Error, Generator, Settings, calendar, json};

/// Every path of a clean event and the JSON kinds it may have, with `[]` for the elements of an array.
/// SQL models rely on it; it is the shape of the events other engines are compared on.
const SHAPE: [(&str, &[&str]); 45] = [
    ("event_id", &["string"]),
    ("event_type", &["string"]),
    ("event_time", &["string"]),
    ("source", &["string"]),
    ("schema_version", &["integer"]),
    ("user", &["object"]),
    ("user.user_id", &["string"]),
    ("user.anonymous_id", &["string"]),
    ("user.is_new", &["boolean"]),
    ("user.plan", &["string"]),
    ("session", &["object"]),
    ("session.session_id", &["string"]),
    ("session.sequence", &["integer"]),
    ("session.started_at", &["string"]),
    ("user_agent", &["object"]),
    ("user_agent.browser", &["string"]),
    ("user_agent.browser_version", &["string"]),
    ("user_agent.os", &["string"]),
    ("user_agent.device", &["string"]),
    ("user_agent.raw", &["string"]),
    ("location", &["object"]),
    ("location.country", &["string"]),
    ("location.region", &["string"]),
    ("location.city", &["string"]),
    ("location.latitude", &["float"]),
    ("location.longitude", &["float"]),
    ("location.timezone", &["string"]),
    ("location.ip", &["string"]),
    ("page", &["object"]),
    ("page.url", &["string"]),
    ("page.referrer", &["null", "string"]),
    ("page.title", &["string"]),
    ("engagement", &["object"]),
    ("engagement.duration_ms", &["integer"]),
    ("engagement.scroll_depth", &["float"]),
    ("engagement.clicks", &["integer"]),
    ("engagement.interactions", &["array"]),
    ("engagement.interactions[]", &["object"]),
    ("engagement.interactions[].type", &["string"]),
    ("engagement.interactions[].at_ms", &["integer"]),
    ("properties", &["object"]),
    ("properties.experiment", &["string"]),
    ("properties.price", &["float", "null"]),
    ("properties.currency", &["string"]),
    ("properties.quantity", &["integer"]),
];

fn feed(settings: Settings) -> Generator {
    Generator::new(settings).unwrap()
}

fn bytes(settings: Settings, first: u64, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    feed(settings).write(first, count, &mut out);
    out
}

/// The lines of a stretch, without their ends.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    assert_eq!(bytes.last(), Some(&b'\n'));
    bytes[..bytes.len() - 1].split(|byte| *byte == b'\n').collect()
}

fn events(bytes: &[u8]) -> Vec<Value> {
    lines(bytes).into_iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn clean(first: u64, count: u64) -> Vec<Value> {
    events(&bytes(Settings::default(), first, count))
}

fn string<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap()
}

fn moment(text: &str) -> DateTime<Utc> {
    let time = DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    assert_eq!(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(), text);
    time
}

fn time(event: &Value) -> DateTime<Utc> {
    moment(string(event, "/event_time"))
}

fn everything_wrong() -> Settings {
    Settings { late: 0.05, duplicates: 0.1, malformed: 0.1, drift: true, ..Settings::default() }
}

/// Sessions by their id, each in the order of its sequence.
fn sessions(events: &[Value]) -> HashMap<&str, Vec<&Value>> {
    let mut sessions: HashMap<&str, Vec<&Value>> = HashMap::new();
    for event in events {
        sessions.entry(string(event, "/session/session_id")).or_default().push(event);
    }
    for session in sessions.values_mut() {
        session.sort_by_key(|event| event.pointer("/session/sequence").and_then(Value::as_u64));
    }
    sessions
}

#[test]
fn a_seed_is_its_bytes() {
    let whole = bytes(Settings::default(), 0, 5_000);
    assert_eq!(whole, bytes(Settings::default(), 0, 5_000));
    let other = bytes(Settings { seed: 8, ..Settings::default() }, 0, 5_000);
    let ids =
        |bytes: &[u8]| events(bytes).iter().map(|event| string(event, "/event_id").to_owned()).collect::<Vec<_>>();
    let (ids, others): (HashSet<_>, HashSet<_>) =
        (ids(&whole).into_iter().collect(), ids(&other).into_iter().collect());
    assert_eq!(ids.len(), 5_000);
    assert!(ids.is_disjoint(&others));
}

/// The same on every machine and with every version of what is used: whoever changes this line changes every feed.
#[test]
fn the_first_line_of_seed_7() {
    let expected = concat!(
        r#"{"event_id":"79f39030-a0b9-4f82-9898-2ab2d5b984c5","event_type":"page_view","event_time":"2026-11-01T00:00:18.526Z","source":"web","schema_version":1"#,
        r#","user":{"user_id":"u000312","anonymous_id":"63fcd2c06c5ff930","is_new":true,"plan":"free"}"#,
        r#","session":{"session_id":"3671884e36489431d2693c2edfe7270f","sequence":0,"started_at":"2026-11-01T00:00:18.526Z"}"#,
        r#","user_agent":{"browser":"Firefox","browser_version":"133.0","os":"Linux","device":"desktop","raw":"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"}"#,
        r#","location":{"country":"GB","region":"England","city":"London","latitude":51.512823,"longitude":-0.033954,"timezone":"Europe/London","ip":"19.231.184.148"}"#,
        r#","page":{"url":"https://shop.example.com/p/1239?ref=25","referrer":"","title":"Renault Universal Armchair"}"#,
        r#","engagement":{"duration_ms":41610,"scroll_depth":0.093,"clicks":5,"interactions":[{"type":"hover","at_ms":7654}]}"#,
        r#","properties":{"experiment":"exp_0","price":null,"currency":"USD","quantity":1}}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(bytes(Settings::default(), 0, 1)).unwrap(), expected);
}

#[test]
fn any_slice_is_the_same_slice() {
    for settings in [Settings::default(), everything_wrong()] {
        let generator = feed(settings);
        let count = 2 * BLOCK_EVENTS + 500;
        let mut whole = Vec::new();
        generator.write(0, count, &mut whole);
        let lines = lines(&whole);
        assert_eq!(lines.len() as u64, count);
        for (first, count) in [(0, 1), (1, 3), (3_990, 20), (4_000, 4_000), (4_001, 4_100), (8_499, 1), (17, 0)] {
            let mut slice = Vec::new();
            generator.write(first, count, &mut slice);
            let mut expected = lines[first as usize..(first + count) as usize].join(&b'\n');
            if count > 0 {
                expected.push(b'\n');
            }
            assert!(slice == expected, "{first} + {count}");
        }
    }
}

#[test]
fn chunks_and_threads_change_nothing() {
    let generator = feed(everything_wrong());
    let mut whole = Vec::new();
    generator.write(1_234, 9_000, &mut whole);
    let chunks: Vec<Vec<u8>> = generator.chunks(1_234, 9_000).collect();
    assert!(chunks.len() > 5);
    for chunk in &chunks {
        assert_eq!(chunk.last(), Some(&b'\n'));
        assert!(chunk.len() < (1 << 20) + 4_096, "{}", chunk.len());
    }
    assert!(chunks.concat() == whole);
    assert_eq!(generator.chunks(5, 0).count(), 0);

    let shared = &generator;
    let pieces: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads = (0..3)
            .map(|piece| scope.spawn(move || shared.chunks(1_234 + piece * 3_000, 3_000).collect::<Vec<_>>().concat()));
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(pieces.concat() == whole);
}

#[test]
fn no_position_is_too_far() {
    let generator = feed(everything_wrong());
    let mut out = Vec::new();
    generator.write(u64::MAX - 3, 100, &mut out);
    assert_eq!(lines(&out).len(), 3);
}

#[test]
fn every_event_has_the_agreed_shape() {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in clean(0, 6_000) {
        for name in event.as_object().unwrap().keys() {
            walk(name, &event[name], &mut seen);
        }
        for (path, _) in SHAPE.iter().filter(|(path, _)| !path.contains("[]")) {
            assert!(event.pointer(&format!("/{}", path.replace('.', "/"))).is_some(), "{path} is missing");
        }
    }
    let expected: BTreeMap<String, Vec<String>> = SHAPE
        .iter()
        .map(|(path, kinds)| ((*path).to_owned(), kinds.iter().map(|kind| (*kind).to_owned()).collect()))
        .collect();
    assert_eq!(seen, expected);
}

/// Notes the kind of `value` and of all that is in it.
fn walk(path: &str, value: &Value, seen: &mut BTreeMap<String, Vec<String>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = seen.entry(path.to_owned()).or_default();
    if !kinds.iter().any(|known| known == kind) {
        kinds.push(kind.to_owned());
        kinds.sort();
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(&format!("{path}[]"), item, seen)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| walk(&format!("{path}.{name}"), field, seen)),
        _ => {}
    }
}

#[test]
fn values_are_what_their_names_say() {
    for event in clean(3_500, 1_500) {
        let id = string(&event, "/event_id").as_bytes();
        assert_eq!((id.len(), id[14], id[8], id[13], id[18], id[23]), (36, b'4', b'-', b'-', b'-', b'-'));
        assert!(b"89ab".contains(&id[19]));
        assert_eq!(event["schema_version"], 1);
        assert!(["web", "ios", "android", "api"].contains(&string(&event, "/source")));
        assert_eq!(string(&event, "/user/anonymous_id").len(), 16);
        assert_eq!(string(&event, "/session/session_id").len(), 32);
        assert!(string(&event, "/location/ip").parse::<std::net::Ipv4Addr>().is_ok());
        assert!(event.pointer("/location/latitude").unwrap().as_f64().unwrap().abs() < 90.0);
        assert!(event.pointer("/location/longitude").unwrap().as_f64().unwrap().abs() < 180.0);
        let url = string(&event, "/page/url");
        assert!(url.starts_with("https://shop.example.com/") && url.contains("ref="), "{url}");
        let depth = event.pointer("/engagement/scroll_depth").unwrap().as_f64().unwrap();
        assert!((0.0..=1.0).contains(&depth));
        let duration = event.pointer("/engagement/duration_ms").unwrap().as_u64().unwrap();
        let at = |interaction: &Value| interaction["at_ms"].as_u64().unwrap();
        let interactions = event.pointer("/engagement/interactions").unwrap().as_array().unwrap();
        assert!(interactions.is_sorted_by_key(at) && interactions.iter().all(|interaction| at(interaction) < duration));
    }
}

#[test]
fn a_clean_feed_is_in_order_and_two_weeks_are_200_000_events() {
    let start = Settings::default().start;
    let times: Vec<_> = clean(0, 2 * BLOCK_EVENTS).iter().map(time).collect();
    assert!(times.is_sorted());
    assert!(times[0] >= start && times[0] < start + TimeDelta::minutes(30), "{}", times[0]);
    let last = time(&clean(199_999, 1)[0]);
    let next = time(&clean(200_000, 1)[0]);
    let end = start + TimeDelta::days(14);
    assert!(last < end && last > end - TimeDelta::hours(1) && next >= end, "{last} {next}");
    let moved = Settings { start: start + TimeDelta::days(3), ..Settings::default() };
    assert_eq!(time(&events(&bytes(moved, 77, 1))[0]), times[77] + TimeDelta::days(3));
}

#[test]
fn sessions_are_mixed_in_the_feed() {
    let events = clean(1_000, 1_000);
    let neighbours =
        events.windows(2).filter(|pair| pair[0]["session"]["session_id"] != pair[1]["session"]["session_id"]);
    assert!(neighbours.count() > 500);
}

#[test]
fn a_session_is_one_visit_of_one_visitor() {
    let events = clean(0, 5 * BLOCK_EVENTS);
    let sessions = sessions(&events);
    let mut visitors: HashMap<&str, Vec<&Vec<&Value>>> = HashMap::new();
    for session in sessions.values() {
        let started = moment(string(session[0], "/session/started_at"));
        assert_eq!(time(session[0]), started);
        assert!(session.windows(2).all(|pair| time(pair[0]) < time(pair[1])));
        for (place, event) in session.iter().enumerate() {
            assert_eq!(event["session"]["sequence"], place);
            assert_eq!(event["session"]["started_at"], session[0]["session"]["started_at"]);
            assert_eq!(event["user"], session[0]["user"]);
        }
        visitors.entry(string(session[0], "/user/user_id")).or_default().push(session);
    }
    assert!(visitors.values().filter(|sessions| sessions.len() > 2).count() > 20);
    for sessions in visitors.values_mut() {
        sessions.sort_by_key(|session| time(session[0]));
        let home = sessions[0][0];
        for (place, session) in sessions.iter().enumerate() {
            assert_eq!(session[0]["user"]["is_new"], place == 0);
            assert_eq!(session[0]["user"]["anonymous_id"], home["user"]["anonymous_id"]);
            for event in session.iter() {
                for trait_ in ["source", "user_agent", "location"] {
                    assert_eq!(event[trait_], home[trait_]);
                }
            }
        }
        assert!(sessions.windows(2).all(|pair| time(pair[0][pair[0].len() - 1]) < time(pair[1][0])));
    }
}

#[test]
fn a_visit_follows_the_shop() {
    let events = clean(0, 5 * BLOCK_EVENTS);
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut prices: HashMap<String, f64> = HashMap::new();
    let mut signed_up: HashSet<&str> = HashSet::new();
    let product = |event: &Value| string(event, "/page/url").split(['/', '?']).nth(4).unwrap().to_owned();
    for event in &events {
        let kind = string(event, "/event_type");
        *counts.entry(kind).or_default() += 1;
        let trade = ["add_to_cart", "purchase"].contains(&kind);
        assert_eq!(event["properties"]["price"].is_f64(), trade, "{event}");
        let user = string(event, "/user/user_id");
        match kind {
            "signup" => assert!(event["user"]["is_new"] == true && signed_up.insert(user)),
            "login" => assert!(signed_up.contains(user)),
            _ if trade => {
                let price = event["properties"]["price"].as_f64().unwrap();
                assert!(price > 0.0 && event["properties"]["quantity"].as_u64().unwrap() > 0);
                assert_eq!(*prices.entry(product(event)).or_insert(price), price);
            }
            _ => {}
        }
    }
    for kind in ["page_view", "click", "scroll", "search", "add_to_cart", "purchase", "signup", "login", "logout"] {
        assert!(counts[kind] > 50, "{kind}: {}", counts[kind]);
    }
    assert!(counts["video_play"] > 50 && counts.len() == 10);

    for session in sessions(&events).values() {
        assert_eq!(session[0]["event_type"], "page_view");
        let mut cart = HashMap::new();
        let mut logged_in = false;
        for event in session {
            match string(event, "/event_type") {
                "add_to_cart" => assert!(cart.insert(product(event), event["properties"].clone()).is_none()),
                "purchase" => assert_eq!(cart.remove(&product(event)), Some(event["properties"].clone())),
                "login" => assert!(!std::mem::replace(&mut logged_in, true)),
                "logout" => assert!(logged_in),
                "search" => assert!(string(event, "/page/url").contains("/search?q=")),
                "video_play" => assert!(string(event, "/page/url").contains("/p/")),
                _ => {}
            }
        }
        for pair in session.windows(2) {
            let (before, after) = (string(pair[0], "/page/url"), string(pair[1], "/page/url"));
            assert!(before == after || string(pair[1], "/page/referrer").starts_with("https://shop.example.com/"));
        }
    }
}

#[test]
fn visitors_come_back_for_weeks() {
    let generator = feed(Settings::default());
    let users = |week: u64| -> HashSet<String> {
        let mut out = Vec::new();
        // 25 blocks are a week, 8 of them more than two days.
        generator.write(week * 25 * BLOCK_EVENTS, 8 * BLOCK_EVENTS, &mut out);
        let lines = lines(&out);
        let user = |line: &&[u8]| {
            std::str::from_utf8(line)
                .unwrap()
                .split('"')
                .skip_while(|part| *part != "user_id")
                .nth(2)
                .map(str::to_owned)
        };
        lines.iter().map(|line| user(line).unwrap()).collect()
    };
    let first_days = users(0);
    for week in [1, 2, 4, 8] {
        assert!(users(week).intersection(&first_days).count() > 0, "nobody in week {week}");
    }
}

#[test]
fn late_events_are_as_many_as_asked_for() {
    for share in [0.02, 0.2, 1.0] {
        let start = Settings::default().start;
        let settings = Settings { late: share, ..Settings::default() };
        let events = events(&bytes(settings, 0, 5 * BLOCK_EVENTS));
        let mut latest = start;
        let mut late = 0;
        for event in &events {
            let gap = latest - time(event);
            if gap > TimeDelta::zero() || time(event) < start {
                assert!(share == 1.0 || gap >= TimeDelta::minutes(30) && gap < TimeDelta::days(8), "{gap}");
                late += 1;
            }
            latest = latest.max(time(event));
        }
        let measured = f64::from(late) / events.len() as f64;
        // With everything late there is no present to compare with; most still lies behind what came before.
        let tolerance = if share == 1.0 { 0.1 } else { 0.01 };
        assert!((measured - share).abs() < tolerance, "{measured} instead of {share}");
        for session in sessions(&events).values() {
            assert_eq!(string(session[0], "/event_time"), string(session[0], "/session/started_at"));
            assert!(session.windows(2).all(|pair| time(pair[0]) < time(pair[1])));
        }
    }
}

#[test]
fn repeated_lines_are_the_same_bytes_a_little_later() {
    let settings = Settings { duplicates: 0.1, drift: true, ..Settings::default() };
    let bytes = bytes(settings, 0, 5 * BLOCK_EVENTS);
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut ids: HashSet<String> = HashSet::new();
    let mut repeated = 0;
    for (place, line) in lines(&bytes).into_iter().enumerate() {
        match places.get(line) {
            Some(first) => {
                assert!(place - first < 500, "{first} again at {place}");
                repeated += 1;
            }
            None => {
                let event: Value = serde_json::from_slice(line).unwrap();
                assert!(ids.insert(string(&event, "/event_id").to_owned()), "an id with two contents");
                places.insert(line, place);
            }
        }
    }
    let measured = f64::from(repeated) / 20_000.0;
    assert!((measured - 0.1).abs() < 0.01, "{measured}");
}

/// What keeps a line from being an event.
fn fault(line: &[u8]) -> Option<&'static str> {
    if std::str::from_utf8(line).is_err() && line.last() == Some(&b'}') {
        return Some("no UTF-8");
    }
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return Some("no JSON") };
    let Some(event) = value.as_object() else { return Some("no object") };
    for (field, fault) in [("event_id", "no id"), ("event_type", "no type"), ("event_time", "no time")] {
        if !event.contains_key(field) {
            return Some(fault);
        }
    }
    DateTime::parse_from_rfc3339(string(&value, "/event_time")).is_err().then_some("bad time")
}

#[test]
fn malformed_lines_are_malformed_and_the_rest_is_whole() {
    let settings = Settings { malformed: 0.05, ..Settings::default() };
    let bytes = bytes(settings, 0, 5 * BLOCK_EVENTS);
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    let mut events = Vec::new();
    for line in lines(&bytes) {
        match fault(line) {
            Some(fault) => *faults.entry(fault).or_default() += 1,
            None => events.push(serde_json::from_slice(line).unwrap()),
        }
    }
    assert_eq!(
        faults.keys().copied().collect::<Vec<_>>(),
        ["bad time", "no JSON", "no UTF-8", "no id", "no object", "no time", "no type"]
    );
    let measured = f64::from(faults.values().sum::<u32>()) / 20_000.0;
    assert!((measured - 0.05).abs() < 0.006, "{measured}");
    for session in sessions(&events).values() {
        assert!(session.iter().enumerate().all(|(place, event)| event["session"]["sequence"] == place));
    }
}

#[test]
fn all_wrong_is_still_as_many_lines() {
    for (duplicates, malformed) in [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)] {
        let settings = Settings { duplicates, malformed, ..Settings::default() };
        let bytes = bytes(settings, 3_000, 2_000);
        let faults = lines(&bytes).into_iter().filter(|line| fault(line).is_some()).count();
        assert_eq!(lines(&bytes).len(), 2_000);
        assert!((faults as f64 / 2_000.0 - malformed).abs() < 0.05);
    }
}

#[test]
fn drift_begins_after_a_while() {
    let settings = Settings { drift: true, ..Settings::default() };
    let before = bytes(Settings::default(), 0, 4_000);
    let after = bytes(settings, 0, 4_000);
    let (clean, drifted) = (lines(&before), lines(&after));
    assert!(clean[..500] == drifted[..500]);
    let mut shape: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (place, line) in drifted.iter().enumerate().skip(500) {
        let event: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(event["schema_version"], 2);
        assert!(event["engagement"]["rage_clicks"].is_u64() && event["consent"]["analytics"].is_boolean());
        assert_eq!(event["properties"]["attribution"].is_object(), place >= 2_500);
        if place < 1_500 {
            assert!(event["properties"]["experiment"].is_string() && !event["properties"]["price"].is_string());
        }
        walk("", &event, &mut shape);
    }
    assert_eq!(shape[".properties.price"], ["float", "null", "string"]);
    assert_eq!(shape[".properties.experiment"], ["object", "string"]);
    assert_eq!(shape[".properties.attribution.touch.campaign.terms[].weights[]"], ["float"]);
}

#[test]
fn settings_out_of_range_are_refused() {
    assert!(Settings::default().validate().is_ok());
    assert_eq!(Settings::default().start.to_rfc3339(), "2026-11-01T00:00:00+00:00");
    for value in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let settings = Settings { duplicates: value, ..Settings::default() };
        let error = Generator::new(settings).err().unwrap();
        assert!(matches!(error, Error::Fraction { setting: "duplicates", .. }));
        assert!(error.to_string().contains("hint: "));
    }
    for start in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        assert_eq!(Settings { start, ..Settings::default() }.validate(), Err(Error::Start { start }));
    }
}

#[test]
fn scalars_are_written_as_chrono_and_display_write_them() {
    for seconds in (0..9_000).map(|step| step * 28_000_001) {
        let mut out = Vec::new();
        json::time(&mut out, seconds * 1_000 + 7);
        let expected = DateTime::from_timestamp(seconds, 7_000_000).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    }
    for (value, places, text) in [(0, 2, "0.00"), (1_990, 2, "19.90"), (-130_000, 6, "-0.130000"), (1_000, 3, "1.000")]
    {
        let mut out = Vec::new();
        json::decimal(&mut out, value, places);
        assert_eq!(out, text.as_bytes());
    }
    for value in [0, 9, 10, u64::MAX] {
        let mut out = Vec::new();
        json::integer(&mut out, value);
        assert_eq!(out, value.to_string().as_bytes());
    }
}

#[test]
fn traffic_has_days_and_never_turns_back() {
    let day = 86_400_000;
    let moments: Vec<i64> = (0..3_000).map(|step| calendar::moment(step * day / 1_000)).collect();
    assert!(moments.is_sorted());
    assert_eq!((moments[0], moments[1_000], moments[2_000]), (0, day as i64, 2 * day as i64));
    assert_eq!(calendar::block_load(50), 14 * day);
    // By noon less than half of a day's traffic has come, because most of it comes in the evening.
    assert!(calendar::moment(day / 2) > 12 * 3_600_000);
}
