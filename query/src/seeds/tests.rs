//! What is read of seeds: types, values, what makes two files the same seed, and what is said of files that are none.

use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use lakebed_project::Flags;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn project(toml: &str, files: &[(&str, &[u8])]) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join(CONFIG_FILE), toml).unwrap();
    for (name, bytes) in files {
        let path = folder(directory.path()).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    directory
}

fn of(toml: &str, files: &[(&str, &[u8])]) -> (Vec<Model>, Vec<Error>) {
    let directory = project(toml, files);
    let config = Config::load(directory.path(), &|_| None, &Flags::default()).unwrap();
    read(directory.path(), &config).unwrap()
}

fn one(toml: &str, text: &[u8]) -> Model {
    let (mut seeds, wrong) = of(toml, &[("s.csv", text)]);
    assert!(wrong.is_empty(), "{wrong:?}");
    seeds.pop().unwrap()
}

fn rows(seed: &Model) -> &RecordBatch {
    &seed.seed.as_ref().unwrap().rows
}

#[test]
fn a_type_is_that_of_all_values_of_a_column() {
    let is = |values: &[&str], kind: ColumnType| {
        let cells: Vec<_> = values.iter().map(|value| Some(*value).filter(|value| *value != "NULL")).collect();
        assert_eq!(values::kind_of(&cells), kind, "{values:?}");
        // What was recognized can be read.
        assert!(values::array(kind, &cells).is_ok(), "{values:?}");
    };
    use ColumnType::{BigInt, Boolean, Date, Double, Timestamp, Varchar};
    is(&["1", "-20", "NULL", "0", "9223372036854775807"], BigInt);
    is(&["1", "2.50", "-0.5"], Double);
    is(&["true", "FALSE", "NULL"], Boolean);
    is(&["2026-11-23", "2024-02-29"], Date);
    is(&["2026-11-23T10:00:00Z", "2026-11-23 10:00", "2026-11-23 10:00:00.25+02:00"], Timestamp);
    for texts in [
        &["00123", "7"][..],
        &["007.5"],
        &["+49"],
        &["1e5"],
        &["1,5"],
        &[".5"],
        &["5."],
        &["NaN"],
        &["12345678901234567890"],
        &["12345678901234567890", "0.5"],
        &["yes", "no"],
        &["1", "x"],
        &["1", "true"],
        &["1", ""],
        &["2026-11-31"],
        &["2026-1-2"],
        &["2026-11-23", "2026-11-23 10:00"],
        &["2026-11-23 10"],
        &["NULL", "NULL"],
        &[],
    ] {
        is(texts, Varchar);
    }
}

#[test]
fn a_pin_takes_whatever_is_a_value_of_its_type() {
    let toml = "[seeds.s]\nzip = \"VARCHAR\"\nprice = \"DECIMAL(5,2)\"\nn = \"INTEGER\"\nd = \"DOUBLE\"\nat = \"TIMESTAMP\"\nj = \"JSON\"\n";
    let seed = one(
        toml,
        b"zip,price,n,d,at,j\n1,1.5,007,1e5,2026-11-23,[1]\n2,-999.990,+3,7,2026-11-23T01:00+01:00,\n,,,,,{}\n",
    );
    let kinds: Vec<_> = rows(&seed).schema().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(kinds[..3], [DataType::Utf8, DataType::Decimal128(5, 2), DataType::Int32]);
    let shown = pretty_format_batches(std::slice::from_ref(rows(&seed))).unwrap().to_string();
    let lines: Vec<String> = shown.lines().skip(3).map(|line| line.replace(' ', "")).collect();
    assert_eq!(
        lines[..3],
        ["|1|1.50|7|100000.0|2026-11-23T00:00:00Z|[1]|", "|2|-999.99|3|7.0|2026-11-23T00:00:00Z||", "||||||{}|"]
    );
}

#[test]
fn what_is_no_seed_is_told_with_its_place_and_what_to_do() {
    let big = [b"a\n".to_vec(), b"1\n".repeat(MOST_ROWS + 1)].concat();
    let huge = [b"a\n".to_vec(), vec![b'x'; MOST_BYTES as usize]].concat();
    let pins = "[seeds.s]\nprice = \"DECIMAL(5,2)\"\nat = \"TIMESTAMP\"";
    for (toml, file, text, says, hint) in [
        ("", "s.csv", &b"a,b,A\n"[..], "s.csv:1: two columns are called 'A'", "another name"),
        ("", "s.csv", b"a,b,a\n", "s.csv:1: two columns are called 'a'", "names"),
        ("", "s.csv", b"a,,b\n", "s.csv:1: column 2 has no name", "names"),
        ("", "s.csv", b"", "s.csv:1: there is no line with the names of the columns", "names"),
        ("", "s.csv", b"a,b\n\"1\n\",2\n3\n", "s.csv:4: this row has 1 of 2 values", "a value for each"),
        ("", "s.csv", b"a\n\"1\n", "s.csv:2: a quote is opened here and not closed", "quoted"),
        ("", "s.csv", b"a\nb\xff\n", "s.csv:2: this is no text in UTF-8", "as CSV in UTF-8"),
        ("", "s.csv", b"a\0\n\0", "s.csv:1: this is no text in UTF-8", "as CSV in UTF-8"),
        ("", "s.csv", &big, "s.csv:100002: a seed has 100000 rows at most", "lakebed ingest"),
        ("", "s.csv", &huge, "s.csv:1: a seed has 10485760 bytes at most, and this one has 10485762", "lakebed ingest"),
        ("", "s.tsv", b"a\n", "s.tsv:1: a seed is a file whose name ends in .csv", "write it as CSV"),
        ("", "s.sql", b"SELECT 1", "s.sql:1: a seed is a file whose name ends in .csv", "sql/silver or sql/gold"),
        ("", "deep/s.csv", b"a\n", "deep:1: a seed is a file whose name ends in .csv", "move it out"),
        ("", "gold.csv", b"a\n", "gold.csv:1: 'gold' is the name of a schema", "rename the file"),
        (
            pins,
            "s.csv",
            b"price,at\n1,\n1.234,\n",
            "s.csv:3: column 'price': '1.234' is no DECIMAL(5,2), which [seeds.s] in lakebed.toml pins",
            "NULL is nothing at all between two commas",
        ),
        (pins, "s.csv", b"price,at\n1000,\n", "s.csv:2: column 'price': '1000' is no DECIMAL(5,2)", "pin another type"),
        (pins, "s.csv", b"price,at\n\"\",\n", "s.csv:2: column 'price': '' is no DECIMAL(5,2)", "NULL is nothing"),
        (pins, "s.csv", b"price,at\n,soon\n", "s.csv:2: column 'at': 'soon' is no TIMESTAMP", "pin another type"),
        (pins, "s.csv", b"prize,at\n", "s.csv:1: there is no column 'price', which [seeds.s]", "did you mean 'prize'?"),
        (
            "\n[seeds.t]\na = \"DATE\"",
            "s.csv",
            b"a\n",
            "lakebed.toml:2: [seeds.t] pins types, and there is no sql/seeds/t.csv",
            "there are s",
        ),
    ] {
        let (seeds, wrong) = of(toml, &[(file, text)]);
        let error = wrong.first().unwrap_or_else(|| panic!("{file} is taken: {seeds:?}"));
        let (said, told) = (error.to_string(), error.hint().unwrap_or_default());
        assert!(said.contains(&format!("/{says}")), "{said}");
        assert!(told.contains(hint), "{told}");
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}

#[test]
fn what_editors_keep_beside_it_is_no_seed() {
    let files: [(&str, &[u8]); 4] =
        [("s.csv", b"a\n1\n"), (".s.csv.swp", b"\0"), ("s.csv~", b"a\n"), (".~lock.s.csv#", b"x")];
    let (seeds, wrong) = of("", &files);
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(seeds.iter().map(|seed| seed.name.to_string()).collect::<Vec<_>>(), ["seeds.s"]);
}

#[test]
fn another_value_type_or_name_is_another_seed() {
    let identities: Vec<_> = [
        ("", "a,b\n1,x\n"),
        ("", "a,b\n2,x\n"),
        ("", "a,b\n1,x\n1,x\n"),
        ("", "a,c\n1,x\n"),
        ("", "a,b\n1,\n"),
        ("", "a,b\n1,\"\"\n"),
        ("[seeds.s]\na = \"VARCHAR\"", "a,b\n1,x\n"),
    ]
    .iter()
    .map(|(toml, text)| one(toml, text.as_bytes()).query)
    .collect();
    let distinct: BTreeSet<_> = identities.iter().collect();
    assert_eq!(distinct.len(), identities.len(), "{identities:?}");
}

/// The rows as a file, in quotes wherever `quotes` says so, with lines that end so.
fn written(rows: &[Vec<Option<String>>], quotes: &mut dyn Iterator<Item = bool>, end: &str) -> String {
    let mut text = format!("a,b{end}");
    for row in rows {
        let cells = row.iter().map(|cell| match cell {
            None => String::new(),
            Some(text) => {
                let has_to = text.is_empty() || text.contains([',', '"', '\n']) || text.trim() != text;
                match has_to || quotes.next().unwrap_or(false) {
                    true => format!("\"{}\"", text.replace('"', "\"\"")),
                    false => text.clone(),
                }
            }
        });
        text += &(cells.collect::<Vec<_>>().join(",") + end);
    }
    text
}

proptest! {
    /// Quotes, line ends, a byte order mark and the order of rows are nothing that a table depends on.
    #[test]
    fn a_seed_is_its_rows_however_they_are_written(
        rows in prop::collection::vec(
            prop::collection::vec(prop::option::of("[a-c0-3,\" .-]{0,4}"), 2..=2), 0..8,
        ),
        quotes in prop::collection::vec(any::<bool>(), 16),
        at in any::<prop::sample::Index>(),
    ) {
        let plain = written(&rows, &mut std::iter::empty(), "\n");
        let mut others = rows.clone();
        if !others.is_empty() {
            others.rotate_left(at.index(rows.len()));
        }
        let other = format!("\u{feff}{}", written(&others, &mut quotes.into_iter(), "\r\n"));
        let (plain, other) = (one("", plain.as_bytes()), one("", other.as_bytes()));
        prop_assert_eq!(&plain.query, &other.query);
        // What was written is what is read, as text.
        let pinned = "[seeds.s]\na = \"VARCHAR\"\nb = \"VARCHAR\"";
        let read = one(pinned, written(&rows, &mut std::iter::empty(), "\n").as_bytes());
        let batch = super::tests::rows(&read);
        prop_assert_eq!(batch.num_rows(), rows.len());
        for column in 0..2 {
            let texts = arrow::array::AsArray::as_string::<i32>(batch.column(column).as_ref());
            let found: Vec<_> = texts.iter().map(|text| text.map(str::to_owned)).collect();
            prop_assert_eq!(found, rows.iter().map(|row| row[column].clone()).collect::<Vec<_>>());
        }
    }
}
