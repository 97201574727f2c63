//! What an event looks like.

use super::*;

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
