//! What a project is, where its lake is, and how events come in.

use lakebed_log::{Ack, PartitionBy};

use super::{Key, Set};
use crate::config::Config;
use crate::places::{self, Place, Places};
use crate::settings::{EventsConfig, PRESETS};

const MOST_BYTES: usize = 512 << 20;

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "project",
        "name",
        "by what a lake knows whose it is; the directory's name where it is not set",
        Set::Text(name),
    ),
    Key::new(
        "lake",
        "url",
        "where the lake is: a directory, relative to the project's, or `s3://bucket/prefix`",
        Set::Text(lake),
    )
    .by_default("./lake"),
    Key::new(
        "lake",
        "fsync",
        "whether a lake in a directory waits for the disk before it says that something is in it, so that it survives a power cut",
        Set::Switch(|config, on| config.fsync = on),
    )
    .by_default("off"),
    Key::new(
        "log",
        "partition_by",
        "what the files of a new lake's log are partitioned by: `event_date`, or `none` where batches have events of many days; a lake that is there stays as it was made",
        Set::Text(partition_by),
    )
    .by_default("event_date"),
    Key::new(
        "s3",
        "region",
        "the bucket's region; AWS's usual settings where it is not set, as for the others of this section",
        Set::Some(|config, text| config.s3.region = Some(text.to_owned())),
    ),
    Key::new(
        "s3",
        "endpoint",
        "the server, where it is not AWS's; one that begins with `http://` is spoken to without TLS",
        Set::Some(|config, text| config.s3.endpoint = Some(text.to_owned())),
    ),
    Key::new(
        "s3",
        "access_key_id",
        "who asks; the machine's role where nothing is set",
        Set::Some(|config, text| config.s3.access_key_id = Some(text.to_owned())),
    ),
    Key::new(
        "s3",
        "secret_access_key",
        "the secret to it; in the environment where the file is in a repository",
        Set::Some(|config, text| config.s3.secret_access_key = Some(text.to_owned())),
    ),
    Key::new(
        "events",
        "preset",
        "whose events they are, by one of the presets of docs/events.md, which say where the fields are; other keys of this section go before it",
        Set::Text(preset),
    )
    .by_default("lakebed"),
    Key::new(
        "events",
        "id",
        "where an event's id is: a path such as `meta.id`, `header:NAME`, `content-hash`, several with `|` for the first that is there, or with `+` for all of them, joined",
        Set::Text(id),
    )
    .by_default("event_id"),
    Key::new(
        "events",
        "type",
        "where its type is: a path, a header, or several with `|`",
        Set::Text(event_type),
    )
    .by_default("event_type"),
    Key::new(
        "events",
        "time",
        "where its time is, a text or a number of s, ms, µs or ns since 1970: a path, a header, `arrival`, or several with `|`",
        Set::Text(event_time),
    )
    .by_default("event_time"),
    Key::new(
        "events",
        "unflattened",
        "paths, with commas between them, whose values get no columns: they stay in `_doc`",
        Set::Text(unflattened),
    ),
    Key::new(
        "ingest",
        "ack",
        "when an append is answered: once the batch is `committed`, or once it is `durable` and will be",
        Set::Text(ack),
    )
    .by_default("committed"),
    Key::new(
        "ingest",
        "max_event_bytes",
        "a longer event goes to quarantine",
        Set::Number(1..=MOST_BYTES, |config, bytes| config.ingest.max_event_bytes = bytes),
    )
    .by_default("16777216"),
    Key::new(
        "ingest",
        "max_depth",
        "of how many keys a column's path is at most; what lies deeper stays in `_doc`",
        Set::Number(1..=128, |config, keys| config.ingest.max_depth = keys),
    )
    .by_default("8"),
    Key::new(
        "ingest",
        "max_columns",
        "how many columns the log gets at most by what events hold; pinned ones come all the same, and what is over it stays in `_doc`",
        Set::Number(0..=100_000, |config, columns| config.ingest.max_columns = columns),
    )
    .by_default("1000"),
    Key::new(
        "ingest",
        "batch_events",
        "a batch is cut after so many events",
        Set::Number(1..=1 << 20, |config, events| config.ingest.batch_events = events),
    )
    .by_default("65536"),
    Key::new(
        "ingest",
        "batch_bytes",
        "or after so many bytes of their text, whichever comes first",
        Set::Number(1..=MOST_BYTES, |config, bytes| config.ingest.batch_bytes = bytes),
    )
    .by_default("25165824"),
];

fn name(config: &mut Config, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("a project needs a name".to_owned());
    }
    text.clone_into(&mut config.project);
    Ok(())
}

fn lake(config: &mut Config, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a lake needs a place, such as ./lake".to_owned());
    }
    text.clone_into(&mut config.lake);
    Ok(())
}

fn preset(config: &mut Config, text: &str) -> Result<(), String> {
    let preset = EventsConfig::preset(text);
    config.events = preset.ok_or_else(|| format!("'{text}' is none of {}", PRESETS.join(", ")))?;
    Ok(())
}

fn id(config: &mut Config, text: &str) -> Result<(), String> {
    let parts = places::split(text, '+').into_iter().map(Places::parse).collect::<Result<Vec<_>, _>>()?;
    if parts.iter().any(|part| part.0.contains(&Place::Arrival)) {
        return Err("the time of arrival is another one each time, and no id".to_owned());
    }
    config.events.id = parts;
    Ok(())
}

fn event_type(config: &mut Config, text: &str) -> Result<(), String> {
    if text.split('|').any(|place| place.trim() == "arrival") {
        return Err("the time of arrival is no type".to_owned());
    }
    config.events.event_type = no_hash(Places::parse(text)?)?;
    Ok(())
}

fn event_time(config: &mut Config, text: &str) -> Result<(), String> {
    config.events.event_time = no_hash(Places::parse(text)?)?;
    Ok(())
}

/// Places of a type or a time.
fn no_hash(places: Places) -> Result<Places, String> {
    match places.0.iter().any(|place| matches!(place, Place::ContentHash(_))) {
        true => Err("a content-hash is an id, and neither a type nor a time".to_owned()),
        false => Ok(places),
    }
}

fn unflattened(config: &mut Config, text: &str) -> Result<(), String> {
    config.events.unflattened = places::split(text, ',').into_iter().map(places::path).collect::<Result<_, _>>()?;
    Ok(())
}

fn partition_by(config: &mut Config, text: &str) -> Result<(), String> {
    config.partition_by = match text {
        "event_date" => PartitionBy::EventDate,
        "none" => PartitionBy::Nothing,
        _ => return Err(format!("'{text}' is neither \"event_date\" nor \"none\"")),
    };
    Ok(())
}

fn ack(config: &mut Config, text: &str) -> Result<(), String> {
    config.ingest.ack = match text {
        "durable" => Ack::Durable,
        "committed" => Ack::Committed,
        _ => return Err(format!("'{text}' is neither \"durable\" nor \"committed\"")),
    };
    Ok(())
}
