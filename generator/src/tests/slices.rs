//! The same seed gives the same bytes, however they are cut.

use super::*;

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
