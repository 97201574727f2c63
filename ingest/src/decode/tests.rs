//! Both decoders by themselves and against each other.

use arrow::array::Array;
use lakebed_log::ColumnType;
use lakebed_project::{EventsConfig, Places};
use proptest::prelude::*;

use super::*;
use crate::frame::RawBatches;

pub(super) fn raw(bytes: &[u8], settings: &Settings) -> Vec<RawBatch> {
    RawBatches::new(bytes, settings).collect::<Result<_, _>>().unwrap()
}

fn decoded(bytes: &[u8], settings: &Settings) -> Decoded {
    let batches = raw(bytes, settings);
    assert_eq!(batches.len(), 1);
    decode(&batches[0], BatchId::new("b"), "file", settings)
}

fn event(id: &str, rest: &str) -> String {
    format!(r#"{{"event_id":"{id}","event_type":"view","event_time":"2024-05-01T10:00:00Z"{rest}}}"#)
}

#[test]
fn good_and_bad_events_share_the_count_of_positions() {
    let text =
        [event("a", r#","x":1"#), "garbage".into(), String::new(), event("b", r#","source":"app""#), "{}".into()];
    let Decoded { batch, misfits, over_limit, no_json, cut_off } =
        decoded(text.join("\n").as_bytes(), &Settings::default());
    let [day] = batch.events.days.as_slice() else { panic!("all of them are of one day") };
    assert_eq!(day.date.to_string(), "2024-05-01");
    assert_eq!(day.rows.values(), &[0, 1]);
    assert_eq!(day.event_id.iter().flatten().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(day.source.iter().flatten().collect::<Vec<_>>(), ["file", "app"]);
    assert_eq!(day.event_time.value(0), 1_714_557_600_000_000);
    assert_eq!(day.event_time.data_type(), &ColumnType::Timestamp.arrow());
    assert_eq!(day.doc.value(1), text[3]);
    assert_eq!((batch.events.columns.len(), day.values[0].len()), (1, 2));
    let refused = |quarantined: &Quarantined| {
        (quarantined.position, quarantined.reason.clone(), String::from_utf8_lossy(&quarantined.bytes).into_owned())
    };
    assert_eq!(
        batch.quarantine.iter().map(refused).collect::<Vec<_>>(),
        [
            (1, "not JSON: expected value at byte 1".to_owned(), "garbage".to_owned()),
            (3, "no event_id".to_owned(), "{}".to_owned())
        ]
    );
    assert_eq!((batch.id.as_str(), batch.source.as_str(), batch.lane.is_none()), ("b", "file", true));
    assert!(misfits.is_empty() && over_limit == 0);
    assert_eq!((no_json, cut_off), (1, false));
}

#[test]
fn what_the_framing_refuses_is_in_quarantine_too() {
    let settings = Settings { max_event_bytes: 120, ..Settings::default() };
    let text =
        format!("[{}, {}, {}", event("a", ""), event("b", &format!(r#","x":"{}""#, "x".repeat(200))), event("c", ""));
    let Decoded { batch, no_json, cut_off, .. } = decoded(text.as_bytes(), &settings);
    assert_eq!((no_json, cut_off), (1, true));
    assert_eq!(batch.events.len(), 1);
    assert_eq!(batch.quarantine[0].reason, "279 bytes long, and the limit is 120");
    assert_eq!(batch.quarantine[0].bytes.len(), 120);
    assert_eq!(batch.quarantine[1].reason, "the array ends without ']' in or after this event");
    assert_eq!(batch.quarantine[1].bytes, event("c", "").into_bytes());
}

#[test]
fn the_same_events_decode_the_same_from_lines_and_from_an_array() {
    let events = [event("a", r#","n":{"x":[1, 2]}"#), event("b", "")];
    let lines = decoded(events.join("\r\n").as_bytes(), &Settings::default()).batch.events;
    let array = decoded(format!(" [\n{}\n]", events.join(" ,\n ")).as_bytes(), &Settings::default()).batch.events;
    let (lines, array) = (&lines.days[0], &array.days[0]);
    assert_eq!((&lines.event_id, &lines.doc), (&array.event_id, &array.doc));
    assert_eq!(&lines.values[0], &array.values[0]);
}

/// Any JSON value, as text with free blanks, repeated keys and every kind of number.
fn json() -> impl Strategy<Value = String> {
    let key = || prop_oneof![Just("\"a\"".to_owned()), Just("\"b\"".to_owned()), "\"[a-zA-Z_.\\\\n]{0,3}\""];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"(\\\\u[0-9a-f]{4}|\\\\ud8[0-9a-f]{2}|x){0,4}\"",
        Just("\"2024-05-01\"".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(" , "))),
            proptest::collection::vec((key(), inner), 0..4).prop_map(|all| {
                format!(
                    "{{{}}}",
                    all.iter().map(|(key, value)| format!("{key} :{value}")).collect::<Vec<_>>().join(",")
                )
            }),
        ]
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let types = ["BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "DECIMAL(9,2)", "VARCHAR", "JSON", "DATE", "TIMESTAMP"];
    let declared = proptest::collection::btree_map(
        prop_oneof![Just("a"), Just("b"), Just("a_b"), Just("x")].prop_map(str::to_owned),
        proptest::sample::select(types.to_vec()).prop_map(|text| text.parse().unwrap()),
        0..4,
    );
    (declared, 1usize..5, 0usize..8).prop_map(|(declared, max_depth, max_columns)| Settings {
        declared,
        max_depth,
        max_columns,
        ..Settings::default()
    })
}

/// Lines of good events, spoiled ones and garbage.
fn source() -> impl Strategy<Value = Vec<u8>> {
    let good = || json().prop_map(|value| event("a", &format!(r#","x":{value}"#)).into_bytes());
    let spoiled = (good(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, with)| {
        let at = at.index(bytes.len());
        bytes[at] = with;
        bytes
    });
    let garbage = proptest::collection::vec(any::<u8>(), 0..30);
    let line = prop_oneof![4 => good(), 2 => spoiled, 1 => json().prop_map(String::into_bytes), 1 => garbage];
    proptest::collection::vec(line, 0..6).prop_map(|lines| lines.join(&b'\n'))
}

/// Whether both decoders come to the same.
pub(super) fn same(fast: &Decoded, plain: &Decoded) -> Result<(), TestCaseError> {
    let (events, expected) = (&fast.batch.events, &plain.batch.events);
    prop_assert_eq!(&events.columns, &expected.columns);
    prop_assert_eq!(events.days.len(), expected.days.len());
    for (day, expected) in events.days.iter().zip(&expected.days) {
        prop_assert_eq!((day.date, &day.rows), (expected.date, &expected.rows));
        prop_assert_eq!(&day.event_id, &expected.event_id);
        prop_assert_eq!(&day.event_type, &expected.event_type);
        prop_assert_eq!(&day.event_time, &expected.event_time);
        prop_assert_eq!(&day.source, &expected.source);
        prop_assert_eq!(&day.doc, &expected.doc);
        for ((values, expected), column) in day.values.iter().zip(&expected.values).zip(&events.columns) {
            prop_assert_eq!(values.to_data(), expected.to_data(), "{:?}", column.path);
        }
    }
    prop_assert_eq!(&fast.batch.quarantine, &plain.batch.quarantine);
    prop_assert_eq!(&fast.misfits, &plain.misfits);
    prop_assert_eq!((fast.over_limit, fast.no_json), (plain.over_limit, plain.no_json));
    prop_assert_eq!(fast.cut_off, plain.cut_off);
    Ok(())
}

/// Events of the same few keys, in any order, once or twice, with whatever values; so that most of them are read along the
/// keys of others, and some are not.
fn kin() -> impl Strategy<Value = Vec<u8>> {
    let key =
        proptest::sample::select(vec!["x", "y", "z", "source", "event_type", "a", "\\u0061", "a\\\":1,\\\"b", ""]);
    let object = proptest::collection::vec((key, json()), 0..4).prop_map(|entries| {
        let entries = entries.iter().map(|(key, value)| format!("\"{key}\" : {value}"));
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    });
    let id = || prop_oneof![6 => Just("\"i\"".to_owned()), 1 => json()];
    let time = prop_oneof![
        6 => Just("\"2024-05-01T10:00:00Z\"".to_owned()),
        3 => (1..4, 0..24).prop_map(|(day, hour)| format!("\"1969-12-3{}T{hour:02}:00:00Z\"", day % 2)),
        1 => json()
    ];
    let event = (id(), time, object, any::<bool>()).prop_map(|(id, time, object, nested)| {
        let rest = if nested { format!("\"n\":{object}}}") } else { object[1..].to_owned() };
        let end = if rest == "}" { "" } else { "," };
        format!("{{\"event_id\":{id},\"event_type\":\"t\",\"event_time\":{time}{end}{rest}").into_bytes()
    });
    proptest::collection::vec(event, 0..12).prop_map(|lines| lines.join(&b'\n'))
}

/// Required fields in other places than the usual, and paths that make no column.
fn elsewhere() -> impl Strategy<Value = EventsConfig> {
    let id = proptest::sample::select(vec![
        "event_id",
        "x.a | event_id",
        "content-hash(x | n.x, y)",
        "content-hash",
        "source",
        "n.y",
    ]);
    let unflattened = proptest::sample::select(vec!["", "n.x", "x", "n, x.a", "source"]);
    (id, unflattened).prop_map(|(id, unflattened)| EventsConfig {
        id: vec![Places::parse(id).unwrap()],
        unflattened: unflattened
            .split(", ")
            .filter_map(|path| Places::parse(path).ok()?.only_path().cloned())
            .collect(),
        ..EventsConfig::default()
    })
}

proptest! {
    #[test]
    fn the_plain_decoder_says_the_same(
        bytes in prop_oneof![kin(), source()],
        settings in settings(),
        fields in elsewhere(),
    ) {
        let settings = Settings { fields, ..settings };
        for raw in raw(&bytes, &settings) {
            let [fast, plain] = [decode, decode_plainly].map(|decode| decode(&raw, BatchId::new("b"), "file", &settings));
            same(&fast, &plain)?;
        }
    }

    #[test]
    fn nothing_is_lost_and_documents_are_the_bytes_sent(bytes in source(), settings in settings()) {
        for raw in raw(&bytes, &settings) {
            let batch = decode(&raw, BatchId::of_content(raw.content()), "file", &settings).batch;
            prop_assert_eq!(batch.events.len() + batch.quarantine.len(), raw.events());
            let documents = batch.events.days.iter().flat_map(|day| day.rows.values().iter().zip(day.doc.iter().flatten()));
            let documents: BTreeMap<i64, &str> = documents.map(|(row, document)| (*row, document)).collect();
            let mut docs = documents.into_values();
            let mut refused = batch.quarantine.iter().peekable();
            for (position, (sent, _)) in (0u64..).zip(raw.iter()) {
                match refused.next_if(|refused| refused.position == position) {
                    Some(refused) => prop_assert_eq!(&refused.bytes[..], sent),
                    None => prop_assert_eq!(docs.next().map(str::as_bytes), Some(sent)),
                }
            }
            prop_assert!(batch.events.columns.len() <= settings.max_columns);
            for (at, column) in batch.events.columns.iter().enumerate() {
                let mut there = 0;
                for day in &batch.events.days {
                    prop_assert_eq!(day.values[at].len(), day.len());
                    prop_assert_eq!(day.values[at].data_type(), &column.kind.arrow());
                    there += day.len() - day.values[at].null_count();
                }
                prop_assert!(there > 0);
                prop_assert!(!column.path.is_empty() && column.path.len() <= settings.max_depth);
            }
        }
    }

    #[test]
    fn every_event_that_serde_json_reads_is_accepted(value in json(), settings in settings()) {
        let text = event("a", &format!(r#","x":{value}"#));
        let readable = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let batch = decoded(text.as_bytes(), &settings).batch;
        prop_assert!(!readable || batch.events.len() == 1, "{:?}", batch.quarantine);
    }
}
