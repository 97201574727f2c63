//! Both decoders on bytes that nobody means well with: the cases of JSONTestSuite, a corpus of odd events, and what becomes of
//! them where they are cut, spliced and spoiled at random.

use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use lakebed_project::{EventsConfig, Places};
use proptest::test_runner::TestCaseError;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::tests::{raw, same};
use super::*;

/// github.com/nst/JSONTestSuite, whose licence (MIT) is in it: `y_` is JSON, `n_` is none, of `i_` a reader may say either.
const SUITE: &[u8] = include_bytes!("../../tests/json-test-suite.tar.gz");

/// The files of the suite, by name. Its archive is plain `ustar`: blocks of 512 bytes, a header and then the content.
fn suite() -> Vec<(String, Vec<u8>)> {
    let mut archive = Vec::new();
    GzDecoder::new(SUITE).read_to_end(&mut archive).unwrap();
    let (mut files, mut rest) = (Vec::new(), archive.as_slice());
    while let Some((header, after)) = rest.split_at_checked(512)
        && header[0] != 0
    {
        let text = |range: Range<usize>| {
            let field = &header[range];
            let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        let size = usize::from_str_radix(text(124..136).trim(), 8).unwrap();
        if let Some(name) = text(0..100).strip_prefix("test_parsing/").and_then(|name| name.strip_suffix(".json")) {
            files.push((name.to_owned(), after[..size].to_vec()));
        }
        rest = &after[size.next_multiple_of(512)..];
    }
    files
}

/// Where required fields are, and what is pinned, in a few ways.
fn settings() -> Vec<Settings> {
    let declared = [("x", "BIGINT"), ("v", "JSON"), ("a", "VARCHAR"), ("n_b", "DECIMAL(9,2)"), ("d", "TIMESTAMP")];
    let declared = declared.map(|(name, text)| (name.to_owned(), text.parse().unwrap()));
    let elsewhere = EventsConfig {
        id: vec![Places::parse("x | event_id").unwrap(), Places::parse("content-hash(v.w, n.b)").unwrap()],
        unflattened: vec![vec!["a".to_owned()], vec!["n".to_owned(), "b".to_owned()]],
        ..EventsConfig::default()
    };
    let by_source = EventsConfig { event_type: Places::parse("source").unwrap(), ..EventsConfig::default() };
    vec![
        Settings::default(),
        Settings { declared: declared.into(), max_depth: 2, ..Settings::default() },
        Settings { fields: elsewhere, max_columns: 3, ..Settings::default() },
        Settings { fields: by_source, ..Settings::default() },
        Settings { batch_bytes: 200, max_event_bytes: 300, ..Settings::default() },
    ]
}

/// Decodes the bytes in both ways: they come to the same, and every event is somewhere. Gives how many were accepted and how many
/// refused, with the reasons.
fn decoded(bytes: &[u8], settings: &Settings) -> Result<(usize, Vec<String>), TestCaseError> {
    let (mut accepted, mut reasons) = (0, Vec::new());
    for raw in raw(bytes, settings) {
        let [fast, plain] = [decode, decode_plainly].map(|decode| decode(&raw, BatchId::new("b"), "file", settings));
        same(&fast, &plain)?;
        assert_eq!(fast.batch.events.len() + fast.batch.quarantine.len(), raw.events());
        for document in fast.batch.events.days.iter().flat_map(|day| day.doc.iter().flatten()) {
            assert!(serde_json::from_str::<&serde_json::value::RawValue>(document).is_ok(), "{document}");
        }
        accepted += fast.batch.events.len();
        reasons.extend(fast.batch.quarantine.into_iter().map(|refused| refused.reason));
    }
    Ok((accepted, reasons))
}

#[test]
fn what_json_test_suite_takes_for_json_is_read_and_nothing_else() {
    let suite = suite();
    assert_eq!(suite.len(), 318);
    for (name, case) in suite {
        let field = [br#"[{"event_id":"a","event_type":"t","event_time":0,"x":"#, case.as_slice(), b"}]"].concat();
        // In an array, as a line need not be one; and after its like, as most events are.
        let like = [
            br#"{"event_id":"a","event_type":"t","event_time":0,"x":1}"#,
            b"\n".as_slice(),
            &field[1..field.len() - 1],
        ];
        let line = [br#"["#.as_slice(), &case, b"]"].concat();
        for settings in settings().iter().take(2) {
            let (accepted, reasons) = decoded(&field, settings).unwrap();
            match &name[..2] {
                "y_" => assert_eq!((accepted, reasons.len()), (1, 0), "{name}: {reasons:?}"),
                "n_" => assert!(accepted == 0 && !reasons.is_empty(), "{name}"),
                _ => assert!(accepted == 1 || !reasons.is_empty(), "{name}"),
            }
            decoded(&like.concat(), settings).unwrap();
            let (_, reasons) = decoded(&line, settings).unwrap();
            if name.starts_with("y_") {
                assert!(reasons.iter().all(|reason| !reason.starts_with("not JSON")), "{name}: {reasons:?}");
            }
        }
    }
}

#[test]
fn the_corpus_comes_to_the_same_in_both_ways() {
    for (name, bytes) in corpus() {
        for settings in settings() {
            let (accepted, reasons) = decoded(&bytes, &settings).unwrap();
            assert!(accepted + reasons.len() > 0, "{name}");
        }
    }
}

/// The files of `tests/corpus` and of `tests/payloads`.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/");
    let files = ["corpus", "payloads"].map(|of| std::fs::read_dir(format!("{directory}{of}")).unwrap());
    let mut files: Vec<_> = files.into_iter().flatten().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// Bytes of the corpus, cut, spliced, spoiled and repeated.
fn spoiled(seeds: &[Vec<u8>], random: &mut impl Rng) -> Vec<u8> {
    const TOKENS: [&[u8]; 18] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b":",
        b",",
        b"\\",
        b"\\u",
        b"\\ud83d",
        b"null",
        b"1e400",
        b"-0",
        b"\n",
        b"\r\n",
        b"\"event_id\":",
        b"\xff",
        b"\xef\xbb\xbf",
    ];
    let seed = |random: &mut dyn Rng| &seeds[random.random_range(0..seeds.len())];
    let mut bytes = seed(random).clone();
    for _ in 0..random.random_range(1..6) {
        let (from, to) = (random.random_range(0..=bytes.len()), random.random_range(0..=bytes.len().min(40)));
        let to = (from + to).min(bytes.len());
        match random.random_range(0..6) {
            0 if from < bytes.len() => bytes[from] = random.random(),
            1 => drop(bytes.drain(from..to)),
            2 => {
                let again = bytes[from..to].to_vec();
                drop(bytes.splice(from..from, again));
            }
            3 => {
                let other = seed(random);
                let start = random.random_range(0..=other.len());
                let end = (start + random.random_range(0..400)).min(other.len());
                drop(bytes.splice(from..to, other[start..end].iter().copied()));
            }
            _ => drop(bytes.splice(from..from, TOKENS[random.random_range(0..TOKENS.len())].iter().copied())),
        }
    }
    bytes
}

/// With `LAKEBED_TEST_LONG=1` for `LAKEBED_TEST_MINUTES`, an hour where that is not set.
#[test]
fn spoiled_bytes_come_to_the_same_in_both_ways() {
    let mut seeds: Vec<Vec<u8>> = corpus().into_iter().map(|(_, bytes)| bytes).collect();
    seeds.extend(suite().into_iter().map(|(_, case)| case).filter(|case| case.len() < 4096));
    let settings = settings();
    let minutes = std::env::var("LAKEBED_TEST_MINUTES").map_or(60, |minutes| minutes.parse().unwrap());
    let until = lakebed_tests::long().then(|| Instant::now() + Duration::from_secs(60 * minutes));
    let first: u64 = std::env::var("LAKEBED_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    for number in 0.. {
        if until.map_or(number >= 2_000, |until| Instant::now() >= until) {
            break;
        }
        let seed = first.wrapping_add(number);
        let bytes = spoiled(&seeds, &mut ChaCha8Rng::seed_from_u64(seed));
        for settings in &settings {
            if let Err(difference) = decoded(&bytes, settings) {
                panic!("LAKEBED_TEST_SEED={seed}: {difference}\n{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

/// How many times as fast as the plain decoder this one is, on events like one another. Both are timed by turns in one run, and
/// the best of each counts, so that it is a ratio of work and not of luck: 3.2 in a debug build, where this was written. On a machine
/// that has other work there are more turns, until each decoder had one to itself.
#[test]
fn it_has_not_become_slow() {
    let event = |n: u64| {
        format!(
            r#"{{"event_id":"81e74ef5-e8e2-4d94-8ed9-{n:012}","event_type":"click","event_time":"2026-11-05T00:35:12.782Z","user":{{"id":"u{}","plan":"pro","new":{}}},"page":{{"url":"https://shop.example.com/p/{n}?ref=80","title":"Product {n}"}},"duration_ms":{n},"depth":0.397,"at":{{"lat":51.506985542{n},"lon":-0.1109286986}},"tags":["a",{n}]}}"#,
            n % 977,
            n.is_multiple_of(2)
        )
    };
    let text = (0..4_000).map(event).collect::<Vec<_>>().join("\n");
    let settings = Settings::default();
    let raw = raw(text.as_bytes(), &settings);
    let time = |decode: fn(&RawBatch, BatchId, &str, &Settings) -> Decoded| {
        let began = Instant::now();
        let events: usize =
            raw.iter().map(|raw| decode(raw, BatchId::new("b"), "file", &settings).batch.events.len()).sum();
        assert_eq!(events, 4_000);
        began.elapsed()
    };
    let (began, mut fast, mut plain) = (Instant::now(), Duration::MAX, Duration::MAX);
    for turn in 1.. {
        (fast, plain) = (fast.min(time(decode)), plain.min(time(decode_plainly)));
        let ratio = plain.as_secs_f64() / fast.as_secs_f64();
        if turn >= 15 && ratio > LEAST {
            return;
        }
        let is_over = turn >= 15 && began.elapsed() > Duration::from_secs(120);
        assert!(!is_over, "{ratio:.1} times as fast as the plain decoder, and no longer {LEAST}");
    }
}

const LEAST: f64 = 2.0;
