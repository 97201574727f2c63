//! The cache against a real directory: what is added is there after reopening, and what is lost is lost whole.

use super::*;

fn open(directory: &Path) -> StateCache {
    StateCache::open(directory).unwrap().expect("nobody else has it")
}

/// Keys that are seen, as models that keep first rows have them.
trait Keys {
    fn seen(&self, keys: &[u128]) -> Result<Vec<bool>>;
    fn add(&self, keys: Vec<u128>, epoch: u64) -> Result<()>;
}

impl Keys for ModelCache {
    fn seen(&self, keys: &[u128]) -> Result<Vec<bool>> {
        self.has(SEEN, &keys.iter().map(|key| key.to_be_bytes()).collect::<Vec<_>>())
    }

    fn add(&self, keys: Vec<u128>, epoch: u64) -> Result<()> {
        self.put(keys.into_iter().map(crate::first_wins::seen).collect(), Some(epoch))
    }
}

fn stored_entries(cache: &StateCache) -> usize {
    cache.0.keys.len().unwrap()
}

#[test]
fn what_is_added_is_seen_also_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("cache/of/a/lake");
    let keys = open(&place).model("silver.orders", "a").unwrap();
    assert_eq!(keys.epoch().unwrap(), None);
    assert_eq!(keys.seen(&[0, 1]).unwrap(), [false, false]);
    keys.add(vec![9, 1, u128::MAX, 1, 0], 4).unwrap();
    drop(keys);
    let keys = open(&place).model("silver.orders", "a").unwrap();
    assert_eq!(keys.epoch().unwrap(), Some(4));
    assert_eq!(keys.seen(&[0, 1, 2, 9, u128::MAX]).unwrap(), [true, true, false, true, true]);
    keys.add(vec![2], 5).unwrap();
    keys.add(vec![], 6).unwrap();
    assert_eq!(keys.epoch().unwrap(), Some(6));
    assert_eq!(keys.seen(&[0, 1, 2, 3]).unwrap(), [true, true, true, false]);
    assert_eq!(keys.seen(&[]).unwrap(), [false; 0]);
}

#[test]
fn many_commits_over_reopenings_are_read_as_a_set_would_be() {
    let directory = tempfile::tempdir().unwrap();
    let mut set = std::collections::BTreeSet::new();
    for epoch in 0..60_u64 {
        let cache = open(directory.path());
        let keys = cache.model("gold.m", "f").unwrap();
        assert_eq!(keys.epoch().unwrap(), epoch.checked_sub(1));
        let drawn = (0..200_u64).map(|draw| u128::from((epoch * 7_919 + draw * 104_729) % 20_000) << 64);
        keys.add(drawn.clone().collect(), epoch).unwrap();
        set.extend(drawn);
    }
    let all: Vec<u128> = (0..20_000_u128).map(|key| key << 64).collect();
    let expected: Vec<bool> = all.iter().map(|key| set.contains(key)).collect();
    assert!(expected.contains(&true) && expected.contains(&false));
    assert_eq!(open(directory.path()).model("gold.m", "f").unwrap().seen(&all).unwrap(), expected);
}

#[test]
fn a_process_that_ends_without_an_add_leaves_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    cache.model("m", "f").unwrap().add(vec![1], 1).unwrap();
    {
        let mut ingestion = cache.0.keys.start_ingestion().unwrap();
        ingestion.write(2_u32.to_be_bytes(), 2_u64.to_be_bytes()).unwrap();
        ingestion.write(entry(2, SEEN, &2_u128.to_be_bytes()), []).unwrap();
    }
    drop(cache);
    let keys = open(directory.path()).model("m", "f").unwrap();
    assert_eq!(keys.epoch().unwrap(), Some(1));
    assert_eq!(keys.seen(&[1, 2]).unwrap(), [true, false]);
}

#[test]
fn a_second_opener_gets_none_until_the_last_handle_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let keys = cache.clone().model("m", "f").unwrap();
    assert!(StateCache::open(directory.path()).unwrap().is_none());
    drop(cache);
    assert!(StateCache::open(directory.path()).unwrap().is_none());
    keys.add(vec![1], 1).unwrap();
    drop(keys);
    assert!(StateCache::open(directory.path()).unwrap().is_some());
}

#[test]
fn another_fingerprint_is_empty_and_takes_the_models_place_at_its_first_add() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let (old, other) = (cache.model("m", "old").unwrap(), cache.model("n", "old").unwrap());
    old.add((0..1_000).collect(), 7).unwrap();
    other.add(vec![5], 7).unwrap();
    let new = cache.model("m", "new").unwrap();
    assert_eq!((new.epoch().unwrap(), new.seen(&[5]).unwrap()), (None, vec![false]));
    assert_eq!(old.epoch().unwrap(), Some(7), "asking takes nothing away");
    new.add(vec![6], 8).unwrap();
    assert_eq!((new.epoch().unwrap(), new.seen(&[5, 6]).unwrap()), (Some(8), vec![false, true]));
    assert_eq!((old.epoch().unwrap(), old.seen(&[5, 6]).unwrap()), (None, vec![false, false]));
    assert_eq!((other.epoch().unwrap(), other.seen(&[5, 6]).unwrap()), (Some(7), vec![true, false]));
    // The last number; each model's number, epoch and one key: the thousand keys are gone.
    assert_eq!(stored_entries(&cache), 1 + 2 * 3);
}

#[test]
fn a_cleared_model_is_empty_and_can_be_filled_again() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let (keys, other) = (cache.model("m", "f").unwrap(), cache.model("mm", "f").unwrap());
    keys.clear().unwrap();
    keys.add((0..10).collect(), 1).unwrap();
    other.add(vec![1], 1).unwrap();
    keys.clear().unwrap();
    assert_eq!((keys.epoch().unwrap(), keys.seen(&[1]).unwrap()), (None, vec![false]));
    keys.add(vec![2], 2).unwrap();
    assert_eq!((keys.epoch().unwrap(), keys.seen(&[1, 2]).unwrap()), (Some(2), vec![false, true]));
    assert_eq!((other.epoch().unwrap(), other.seen(&[1, 2]).unwrap()), (Some(1), vec![true, false]));
    assert_eq!(stored_entries(&cache), 1 + 2 * 3);
}

#[test]
fn the_next_opener_deletes_what_was_forgotten_in_more_than_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let keys = cache.model("m", "f").unwrap();
    keys.add((0..DELETES as u128 + 10).collect(), 1).unwrap();
    // What `clear` does before it dies.
    let number = keys.number().unwrap().unwrap();
    cache.0.commit(&[(keys.model_key(), None), (forgotten_key(number), Some(vec![]))]).unwrap();
    drop((cache, keys));
    let cache = open(directory.path());
    assert_eq!(cache.model("m", "f").unwrap().epoch().unwrap(), None);
    assert_eq!(stored_entries(&cache), 1, "the last number alone");
}

#[test]
fn a_database_that_cannot_be_read_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join(DATABASE);
    let add = || open(directory.path()).model("m", "f").unwrap().add(vec![1], 1).unwrap();
    add();
    fs::write(database.join("version"), b"no such format").unwrap();
    assert_eq!(open(directory.path()).model("m", "f").unwrap().epoch().unwrap(), None);
    add();
    for keyspace in fs::read_dir(database.join("keyspaces")).unwrap() {
        fs::write(keyspace.unwrap().path().join("current"), b"x").unwrap();
    }
    assert_eq!(open(directory.path()).model("m", "f").unwrap().epoch().unwrap(), None);
    fs::create_dir_all(directory.path().join("format-0/tables")).unwrap();
    add();
    assert!(!directory.path().join("format-0").exists());
    assert_eq!(open(directory.path()).model("m", "f").unwrap().epoch().unwrap(), Some(1));
}

#[test]
fn a_place_that_is_no_directory_is_an_error_with_a_hint() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let Err(error) = StateCache::open(file.path()) else { panic!("opened a file") };
    assert!(matches!(&error, Error::Cache { path, .. } if path == file.path()), "{error}");
    assert!(error.hint().unwrap().contains("delete the directory"));
}

#[test]
fn entries_are_found_by_the_beginning_of_their_key_in_order_and_can_be_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path()).model("m", "f").unwrap();
    let entry = |shelf, key: &[u8], value: Option<&[u8]>| CacheEntry {
        shelf,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
    };
    let entries = [entry(2, b"ab2", Some(b"y")), entry(2, b"ab1", Some(b"x")), entry(2, b"ac", Some(b"z"))];
    cache.put([entries.to_vec(), vec![entry(3, b"ab0", Some(b"w"))]].concat(), Some(1)).unwrap();
    let under = |prefix: &[u8], most| cache.under(2, prefix, most).unwrap();
    assert_eq!(under(b"ab", 9), [(b"1".to_vec(), b"x".to_vec()), (b"2".to_vec(), b"y".to_vec())]);
    assert_eq!(under(b"", 1), [(b"ab1".to_vec(), b"x".to_vec())]);
    assert_eq!(cache.get(2, &[&b"ac"[..], b"ab", b"ab1"]).unwrap(), [Some(b"z".to_vec()), None, Some(b"x".to_vec())]);
    // Of two entries for one key the last one counts.
    cache.put(vec![entry(2, b"ab1", Some(b"q")), entry(2, b"ab1", None)], Some(2)).unwrap();
    assert_eq!(under(b"ab", 9).len(), 1);
    cache.empty(2).unwrap();
    assert_eq!((under(b"", 9).len(), cache.under(3, b"", 9).unwrap().len()), (0, 1));
}
