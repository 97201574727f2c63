//! What goes wrong on request: late, repeated, malformed and drifting events; and the small parts.

use super::*;

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
