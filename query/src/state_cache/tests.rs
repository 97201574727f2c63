//! The cache against a real directory: what is added is there after reopening, and what is lost is lost whole.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::directory::FORMAT;
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
        self.read(SEEN)?.has(keys)
    }

    fn add(&self, keys: Vec<u128>, epoch: u64) -> Result<()> {
        self.put(crate::first_wins::seen(keys), Some(epoch))
    }
}

/// The first entries of a key.
fn under_key(shelf: &mut Reader, key: u128, most: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    shelf.under(key, most, |rest, value| found.push((rest.to_vec(), value.to_vec()))).unwrap();
    found
}

fn files(directory: &Path) -> usize {
    let files = fs::read_dir(directory.join(FORMAT)).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".layers")).count()
}

#[test]
fn what_is_added_is_seen_also_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("cache/of/a/lake");
    let keys = open(&place).model("silver.orders", "a");
    assert_eq!(keys.stand(), None);
    assert_eq!(keys.seen(&[0, 1]).unwrap(), [false, false]);
    keys.add(vec![9, 1, u128::MAX, 1, 0], 4).unwrap();
    drop(keys);
    let keys = open(&place).model("silver.orders", "a");
    assert_eq!(keys.stand(), Some(4));
    assert_eq!(keys.seen(&[0, 1, 2, 9, u128::MAX]).unwrap(), [true, true, false, true, true]);
    keys.add(vec![2], 5).unwrap();
    keys.add(vec![], 6).unwrap();
    assert_eq!(keys.stand(), Some(6));
    assert_eq!(keys.seen(&[0, 1, 2, 3]).unwrap(), [true, true, true, false]);
    assert_eq!(keys.seen(&[]).unwrap(), [false; 0]);
}

/// What a shelf is asked, or told.
#[derive(Clone, Debug)]
enum Step {
    /// Key, rest and value of each entry; without a value it is taken away.
    Put(Vec<(u128, Vec<u8>, Option<Vec<u8>>)>),
    Empty,
    Reopen,
}

/// Few keys with many rests, and rests and values that are longer than a block.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..3),
        2 => (0_u16..400).prop_map(|number| number.to_be_bytes().to_vec()),
        1 => (0_usize..9000).prop_map(|length| vec![7; length]),
    ];
    let key = prop_oneof![2 => 0_u128..6, 1 => any::<u128>(), 1 => Just(u128::MAX), 1 => (0_u128..50).prop_map(|key| key << 100)];
    let entry = (key, bytes.clone(), prop::option::weighted(0.7, bytes));
    let put = (prop::collection::vec(entry, 0..6), 0_u128..400).prop_map(|(mut entries, many)| {
        entries
            .extend((0..many).map(|at| (at % 3, at.to_be_bytes().to_vec(), (at % 5 > 0).then(|| vec![at as u8; 40]))));
        Step::Put(entries)
    });
    let step = prop_oneof![12 => put, 1 => Just(Step::Empty), 2 => Just(Step::Reopen)];
    prop::collection::vec(step, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_shelf_is_read_as_a_map_would_be(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = open(directory.path());
        let mut expected: BTreeMap<(u128, Vec<u8>), Vec<u8>> = BTreeMap::new();
        let (mut asked, mut epoch) = (BTreeMap::new(), None);
        for (number, step) in steps.into_iter().enumerate() {
            let model = cache.model("gold.m", "f");
            match step {
                Step::Put(said) => {
                    let mut entries = Entries::default();
                    for (key, rest, value) in said {
                        asked.insert((key, rest.clone()), ());
                        match value {
                            Some(value) => {
                                entries.on(OPERATORS).keep(key, &rest, &value);
                                expected.insert((key, rest), value);
                            }
                            None => {
                                entries.on(OPERATORS).take_away(key, &rest);
                                expected.remove(&(key, rest));
                            }
                        }
                    }
                    // Another shelf, and another model, in the same file.
                    entries.on(ADDRESSES).keep(1, b"here", b"");
                    let mut other = Entries::default();
                    other.on(OPERATORS).keep(1, b"", b"other");
                    epoch = Some(number as u64);
                    let second = cache.model("gold.n", "f");
                    ModelCache::put_together(vec![(&model, entries, epoch), (&second, other, epoch)]).unwrap();
                }
                Step::Empty => {
                    model.empty(OPERATORS).unwrap();
                    expected.clear();
                }
                Step::Reopen => {
                    drop((cache, model));
                    cache = open(directory.path());
                }
            }
            let model = cache.model("gold.m", "f");
            prop_assert_eq!(model.stand(), epoch);
            let mut shelf = model.read(OPERATORS).unwrap();
            for (key, rest) in asked.keys().rev().chain(asked.keys()) {
                let value = expected.get(&(*key, rest.clone()));
                prop_assert_eq!(shelf.get(*key, rest).unwrap(), value.map(Vec::as_slice));
            }
            for most in [1, 3, usize::MAX] {
                for key in [0, 1, 2, 5, 1 << 100, u128::MAX] {
                    let under = expected.range((key, Vec::new())..).take_while(|((found, _), _)| *found == key);
                    let under: Vec<_> = under.map(|((_, rest), value)| (rest.clone(), value.clone())).take(most).collect();
                    prop_assert_eq!(under_key(&mut shelf, key, most), under);
                }
            }
        }
        if epoch.is_some() {
            prop_assert_eq!(cache.model("gold.n", "f").read(OPERATORS).unwrap().values(&[1]).unwrap(), [Some(b"other".to_vec())]);
            prop_assert_eq!(under_key(&mut cache.model("gold.m", "f").read(ADDRESSES).unwrap(), 1, 9).len(), 1);
        }
    }
}

#[test]
fn many_commits_over_reopenings_are_read_as_a_set_would_be_and_lie_in_few_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut set = std::collections::BTreeSet::new();
    for epoch in 0..60_u64 {
        let keys = open(directory.path()).model("gold.m", "f");
        assert_eq!(keys.stand(), epoch.checked_sub(1));
        let drawn = (0..200_u64).map(|draw| u128::from((epoch * 7_919 + draw * 104_729) % 20_000) << 64);
        keys.add(drawn.clone().collect(), epoch).unwrap();
        set.extend(drawn);
    }
    let all: Vec<u128> = (0..20_000_u128).map(|key| key << 64).collect();
    let expected: Vec<bool> = all.iter().map(|key| set.contains(key)).collect();
    assert!(expected.contains(&true) && expected.contains(&false));
    assert_eq!(open(directory.path()).model("gold.m", "f").seen(&all).unwrap(), expected);
    assert!((1..=4).contains(&files(directory.path())), "{} files", files(directory.path()));
}

#[test]
fn a_process_that_ends_before_its_commit_leaves_what_was_there_and_its_files_go() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    cache.model("m", "f").add(vec![1], 1).unwrap();
    let mut writer = cache.0.directory.create().unwrap();
    writer.layer(&mut [crate::first_wins::seen(vec![2]).sorted().remove(0).1], true).unwrap();
    // As a kill leaves it: the file is there, and nobody deletes it.
    std::mem::forget(writer);
    fs::write(directory.path().join(FORMAT).join("layers.json.new"), "{").unwrap();
    drop(cache);
    assert_eq!(files(directory.path()), 2);
    let keys = open(directory.path()).model("m", "f");
    assert_eq!(keys.stand(), Some(1));
    assert_eq!(keys.seen(&[1, 2]).unwrap(), [true, false]);
    assert_eq!(files(directory.path()), 1);
}

#[test]
fn a_second_opener_gets_none_until_the_last_handle_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let keys = cache.clone().model("m", "f");
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
    let (old, other) = (cache.model("m", "old"), cache.model("n", "old"));
    old.add((0..1_000).collect(), 7).unwrap();
    other.add(vec![5], 7).unwrap();
    let new = cache.model("m", "new");
    assert_eq!((new.stand(), new.seen(&[5]).unwrap()), (None, vec![false]));
    assert_eq!(old.stand(), Some(7), "asking takes nothing away");
    new.add(vec![6], 8).unwrap();
    assert_eq!((new.stand(), new.seen(&[5, 6]).unwrap()), (Some(8), vec![false, true]));
    assert_eq!((old.stand(), old.seen(&[5, 6]).unwrap()), (None, vec![false, false]));
    assert_eq!((other.stand(), other.seen(&[5, 6]).unwrap()), (Some(7), vec![true, false]));
    assert_eq!(files(directory.path()), 2, "the file with the thousand keys is gone");
}

#[test]
fn a_cleared_model_is_empty_and_can_be_filled_again() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let (keys, other) = (cache.model("m", "f"), cache.model("mm", "f"));
    keys.clear().unwrap();
    keys.add((0..10).collect(), 1).unwrap();
    other.add(vec![1], 1).unwrap();
    let mut reader = keys.read(SEEN).unwrap();
    keys.clear().unwrap();
    assert_eq!((keys.stand(), keys.seen(&[1]).unwrap()), (None, vec![false]));
    assert_eq!(reader.get(1, &[]).unwrap(), Some(&[][..]), "who reads a shelf reads on");
    keys.add(vec![2], 2).unwrap();
    assert_eq!((keys.stand(), keys.seen(&[1, 2]).unwrap()), (Some(2), vec![false, true]));
    assert_eq!((other.stand(), other.seen(&[1, 2]).unwrap()), (Some(1), vec![true, false]));
    drop(reader);
    assert_eq!(files(directory.path()), 2);
}

#[test]
fn a_cache_that_cannot_be_read_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join(FORMAT).join("layers.json");
    let add = || open(directory.path()).model("m", "f").add(vec![1], 1).unwrap();
    let epoch = || open(directory.path()).model("m", "f").stand();
    let layers = || {
        let mut files = fs::read_dir(directory.path().join(FORMAT)).unwrap().map(|file| file.unwrap().path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "layers")).unwrap()
    };
    add();
    for bytes in ["", "{", r#"{"m":{"fingerprint":7}}"#] {
        fs::write(&list, bytes).unwrap();
        assert_eq!((epoch(), files(directory.path())), (None, 0));
        add();
    }
    fs::remove_file(layers()).unwrap();
    assert_eq!(epoch(), None);
    add();
    let whole = fs::read(layers()).unwrap();
    fs::write(layers(), &whole[..whole.len() - 1]).unwrap();
    assert_eq!(epoch(), None);
    fs::create_dir_all(directory.path().join("format-0/tables")).unwrap();
    add();
    assert!(!directory.path().join("format-0").exists());
    assert_eq!(epoch(), Some(1));
}

#[test]
fn a_directory_that_was_deleted_under_it_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let keys = open(directory.path()).model("m", "f");
    keys.add(vec![1], 1).unwrap();
    fs::remove_dir_all(directory.path().join(FORMAT)).unwrap();
    assert!(matches!(keys.seen(&[1]), Err(Error::CacheBroken)));
    keys.clear().unwrap();
    keys.add(vec![2], 2).unwrap();
    assert_eq!(keys.seen(&[1, 2]).unwrap(), [false, true]);
    drop(keys);
    assert_eq!(open(directory.path()).model("m", "f").stand(), Some(2));
}

#[test]
fn each_byte_of_a_layer_that_is_another_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut entries = Entries::default();
    (0..300_u64).for_each(|at| entries.on(SEEN).keep(u128::from(at), &at.to_be_bytes(), b"value"));
    open(directory.path()).model("m", "f").put(entries, Some(1)).unwrap();
    let path = directory.path().join(FORMAT).join("0.layers");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let model = open(directory.path()).model("m", "f");
        let read = model.read(SEEN).and_then(|mut shelf| {
            (0..300_u64).try_for_each(|at| {
                shelf.get(u128::from(at), &at.to_be_bytes()).map(|value| assert_eq!(value, Some(&b"value"[..])))
            })
        });
        assert!(matches!(read, Err(Error::CacheBroken)), "byte {at} of {}", whole.len());
    }
}

#[test]
fn a_place_that_is_no_directory_is_an_error_with_a_hint() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let Err(error) = StateCache::open(file.path()) else { panic!("opened a file") };
    assert!(matches!(&error, Error::Cache { path, .. } if path == file.path()), "{error}");
    assert!(error.hint().unwrap().contains("delete the directory"));
}

#[test]
fn of_two_entries_for_one_key_the_last_one_counts() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path()).model("m", "f");
    let mut entries = Entries::default();
    entries.on(2).keep(1, b"a", b"x");
    entries.on(2).keep(1, b"b", b"y");
    entries.on(2).take_away(1, b"a");
    let mut later = Entries::default();
    later.on(2).take_away(1, b"b");
    later.on(2).keep(1, b"b", b"z");
    entries.extend(later);
    assert_eq!(entries.len(), 5);
    cache.put(entries, Some(1)).unwrap();
    assert_eq!(under_key(&mut cache.read(2).unwrap(), 1, 9), [(b"b".to_vec(), b"z".to_vec())]);
}
