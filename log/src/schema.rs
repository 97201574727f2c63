//! The log's table schema: our own columns around the claimed ones, as Arrow writes it and as Delta spells it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde_json::{Value, json};

use crate::claims::{Claim, Claims};
use crate::columns::ColumnType;
use crate::entry::PartitionBy;

/// The id that the sender gave the event.
pub const EVENT_ID: &str = "event_id";
/// What kind of event it is.
pub const EVENT_TYPE: &str = "event_type";
/// When it happened, by the sender's clock.
pub const EVENT_TIME: &str = "event_time";
/// The day of `event_time` in UTC; the partition, unless the log has none.
pub const EVENT_DATE: &str = "event_date";
/// Where it came from.
pub const SOURCE: &str = "source";
/// The event's original JSON text.
pub const DOC: &str = "_doc";
/// The batch that brought it.
pub const BATCH_ID: &str = "_batch_id";
/// Its place among its batch's accepted events.
pub const ROW: &str = "_row";
/// When the batch was staged.
pub const INGESTED_AT: &str = "_ingested_at";
/// Its position in the log: in no file until a compaction writes it there.
pub const OFFSET: &str = "_offset";
/// Its place among the events of its unit: in the files of units of several batches alone, and no column of the table. No claimed
/// column is called so, for their names have no dots.
pub const PLACE: &str = "lakebed.place";

/// The log's own columns before the claimed ones: name, field id, type, whether it may be null.
const HEAD: [(&str, i32, ColumnType, bool); 5] = [
    (EVENT_ID, 1, ColumnType::Varchar, false),
    (EVENT_TYPE, 2, ColumnType::Varchar, false),
    (EVENT_TIME, 3, ColumnType::Timestamp, false),
    (EVENT_DATE, 4, ColumnType::Date, false),
    (SOURCE, 5, ColumnType::Varchar, false),
];

/// The log's own columns after the claimed ones. `_offset` is null in a plain Delta client until a compaction.
const TAIL: [(&str, i32, ColumnType, bool); 5] = [
    (DOC, 6, ColumnType::Varchar, false),
    (BATCH_ID, 7, ColumnType::Varchar, false),
    (ROW, 8, ColumnType::BigInt, false),
    (INGESTED_AT, 9, ColumnType::Timestamp, false),
    (OFFSET, 10, ColumnType::BigInt, true),
];

/// The field id of [`PLACE`].
const PLACE_ID: i32 = 11;

/// Whether a column of this name is the log's own.
pub fn is_own(name: &str) -> bool {
    HEAD.iter().chain(&TAIL).any(|(own, ..)| *own == name)
}

/// Every column of the log in table order, `event_date` and `_offset` included.
pub fn table(claims: &Claims) -> SchemaRef {
    let own = |&(name, id, kind, nullable): &(&str, i32, ColumnType, bool)| field(name, id, &kind.arrow(), nullable);
    let claimed = claims.iter().map(claimed_field);
    let fields = HEAD.iter().map(own).chain(claimed).chain(TAIL.iter().map(own));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns that a data file holds: all but the partition, if it is of one, and the offset, and of the claimed ones those in use;
/// one of several batches has places, too.
pub fn data_file<'a>(used: impl Iterator<Item = &'a Claim>, by: PartitionBy, is_shared: bool) -> SchemaRef {
    let columns = in_file(used, &[by.columns(), &[OFFSET]].concat());
    let place = is_shared.then(|| field(PLACE, PLACE_ID, &DataType::Int64, false));
    let place = place.into_iter().map(Arc::new);
    Arc::new(Schema::new(columns.fields().iter().cloned().chain(place).collect::<Vec<_>>()))
}

/// The columns that a compacted file holds: the offset too.
pub fn compacted<'a>(used: impl Iterator<Item = &'a Claim>, by: PartitionBy) -> SchemaRef {
    in_file(used, by.columns())
}

fn in_file<'a>(used: impl Iterator<Item = &'a Claim>, without: &[&str]) -> SchemaRef {
    let own = |&(name, id, kind, nullable): &(&str, i32, ColumnType, bool)| field(name, id, &kind.arrow(), nullable);
    let kept = |column: &&(&str, i32, ColumnType, bool)| !without.contains(&column.0);
    let fields = HEAD.iter().filter(kept).map(own).chain(used.map(claimed_field));
    Arc::new(Schema::new(fields.chain(TAIL.iter().filter(kept).map(own)).collect::<Vec<_>>()))
}

/// The Arrow type of a time in the log.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn claimed_field(claim: &Claim) -> Field {
    field(&claim.name, claim.id, &claim.kind.arrow(), true)
}

fn field(name: &str, id: i32, kind: &DataType, nullable: bool) -> Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Field::new(name, kind.clone(), nullable).with_metadata(metadata)
}

/// The schema as a Delta `metaData` action spells it. The field ids stand in the fields' metadata, so that whoever
/// rewrites a file keeps them; a claimed field carries its path and type, so that the claims can be read back.
pub fn to_delta(claims: &Claims) -> Value {
    let own = |&(name, id, kind, nullable): &(&str, i32, ColumnType, bool)| json!({"name": name, "type": delta_type(kind), "nullable": nullable, "metadata": {"lakebed.field.id": id}});
    let claimed = claims.iter().map(|claim| {
        // As text: not every engine that carries a field's metadata along can carry a nested object.
        let metadata = json!({"lakebed.field.id": claim.id, CLAIM: json!(claim).to_string()});
        json!({"name": claim.name, "type": delta_type(claim.kind), "nullable": true, "metadata": metadata})
    });
    let fields = HEAD.iter().map(own).chain(claimed).chain(TAIL.iter().map(own));
    json!({"type": "struct", "fields": fields.collect::<Vec<_>>()})
}

/// The claims that a Delta schema of ours holds.
pub fn claims_of_delta(schema: &Value) -> Result<Claims, serde_json::Error> {
    let mut claims = Claims::default();
    for field in schema["fields"].as_array().into_iter().flatten() {
        if let Some(claim) = field["metadata"][CLAIM].as_str() {
            claims.insert(serde_json::from_str(claim)?);
        }
    }
    Ok(claims)
}

const CLAIM: &str = "lakebed.claim";

fn delta_type(kind: ColumnType) -> String {
    match kind {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Integer => "integer".to_owned(),
        ColumnType::BigInt => "long".to_owned(),
        ColumnType::Double => "double".to_owned(),
        ColumnType::Decimal(precision, scale) => format!("decimal({precision},{scale})"),
        ColumnType::Varchar | ColumnType::Json => "string".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Timestamp => "timestamp".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_survive_the_delta_schema() {
        let mut claims = Claims::default();
        let path: Arc<[String]> = ["user".to_owned(), "plan".to_owned()].into();
        claims.insert(Claim { id: 100, path, name: "user_plan".into(), kind: ColumnType::Decimal(18, 2) });
        assert_eq!(claims_of_delta(&to_delta(&claims)).unwrap(), claims);
    }
}
