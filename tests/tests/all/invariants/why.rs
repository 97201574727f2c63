//! Which events a row comes from: a query over these alone gives the row again, and where each of them counts, over all but one of
//! them it does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::catalog::MemTable;
use datafusion::physical_plan::collect;
use futures::TryStreamExt;
use lakebed_query::{ColumnValue, Question, Why, catalog};
use rand::RngExt;
use rand::seq::IteratorRandom;

use super::asked;
use super::case::Case;
use super::catalogue::Query;
use super::findings::Findings;
use super::lake::{Lake, shown};

/// Models beside the catalogue's.
const MORE: &[(&str, &str)] = &[
    (
        "gold.why_latest",
        "-- key: id\n-- sequence: seq\n-- delete: op = 'd'\n
         SELECT id, kind, n, op, seq FROM bronze.events WHERE event_type = 'change'",
    ),
    (
        "gold.why_history",
        "-- key: id\n-- sequence: seq\n-- delete: op = 'd'\n-- history: 2\n
         SELECT id, kind, n, op, seq FROM bronze.events WHERE event_type = 'change'",
    ),
    ("gold.why_of_latest", "SELECT kind, count(*) AS ids, max(seq) AS seq FROM gold.why_latest GROUP BY kind"),
    (
        "gold.why_filters",
        "SELECT kind, count(*) FILTER (WHERE flag) AS flags, sum(n) FILTER (WHERE n > 8) AS n FROM silver.rows
         GROUP BY kind",
    ),
    (
        "gold.why_all_filters",
        "SELECT count(*) FILTER (WHERE flag) AS flags, max(n) FILTER (WHERE n < 8) AS n FROM silver.rows",
    ),
    (
        "gold.why_exists",
        "SELECT r.event_id, r.n FROM silver.rows r WHERE EXISTS (
             SELECT 1 FROM silver.changes c WHERE c.kind = r.kind AND c.seq BETWEEN r.n - 1 AND r.n + 1)",
    ),
    ("gold.why_semi", "SELECT count(*) AS rows FROM silver.rows r LEFT SEMI JOIN silver.people p ON p.who = r.who"),
    ("gold.why_right_semi", "SELECT who, city FROM silver.rows r RIGHT SEMI JOIN silver.people p ON p.who = r.who"),
    ("gold.why_right_anti", "SELECT who, city FROM silver.rows r RIGHT ANTI JOIN silver.people p ON p.who = r.who"),
    (
        "gold.why_marks",
        "SELECT r.event_id, r.n FROM silver.rows r WHERE n > 8
             OR EXISTS (SELECT 1 FROM silver.changes c WHERE c.kind = r.kind AND c.seq < r.n)
             OR who IN (SELECT who FROM silver.people WHERE city = 'oslo')",
    ),
    (
        "gold.why_copies",
        "SELECT part, count(*) AS rows FROM (
             SELECT unnest(string_to_array(path, '/')) AS part, kind FROM silver.rows
         ) p WHERE EXISTS (SELECT 1 FROM silver.changes c WHERE c.kind <= p.kind AND c.n > 3) GROUP BY part",
    ),
    (
        "gold.why_lateral",
        "SELECT p.who, l.n FROM silver.people p, LATERAL (SELECT max(n) AS n FROM silver.rows r WHERE r.who = p.who) l",
    ),
    ("gold.why_page", "SELECT kind, rows FROM gold.counts ORDER BY rows DESC, kind NULLS LAST LIMIT 2 OFFSET 1"),
    (
        "gold.why_division",
        "SELECT r.event_id, 60 / r.n AS part FROM silver.rows r
         JOIN (SELECT DISTINCT n FROM silver.rows WHERE n > 0) positive ON positive.n = r.n",
    ),
];

/// Of these each event counts.
const COUNTED: &[&str] = &[
    "gold.counts",
    "gold.sums_and_rows",
    "gold.by_day",
    "gold.joined_groups",
    "gold.whole_of_current",
    "gold.days",
    "gold.groups_of_latest",
    "gold.raw_sums",
    "gold.inner",
    "gold.three",
    "gold.live",
    "gold.why_of_latest",
    "gold.revenue",
    "silver.sessions",
];

/// A case with those of them as well that read nothing which was left out of it.
pub(super) fn with_more(mut case: Case) -> Case {
    for (name, sql) in MORE {
        let words = sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '.');
        let mut tables = words.filter(|word| word.starts_with("silver.") || word.starts_with("gold."));
        if tables.all(|table| case.queries.iter().any(|query| query.name == table)) {
            case.queries.push(Query::of_file((*name).to_owned(), (*sql).to_owned()));
        }
    }
    case
}

/// Asks about some rows of some models, or of all models where somebody asked for it.
pub(super) async fn check(case: &Case) {
    let lake = Lake::after(case, &case.at_once(case.batches.len())).await;
    let events = lake.query(None, "SELECT * FROM bronze.events").await.unwrap();
    let (mut dice, mut findings, mut rows) = (case.dice(), Findings::default(), 0);
    for query in case.queries.iter().filter(|query| !query.is_seed()) {
        let share = if query.name.contains("why") || case.queries.len() < 20 { 1.0 } else { 0.15 };
        if !asked() && !dice.random_bool(share) {
            continue;
        }
        let table = lake.query(None, &format!("SELECT * FROM {}", query.name)).await.unwrap();
        let Some(first) = table.first() else { continue };
        let table = concat_batches(&first.schema(), &table).unwrap();
        for row in (0..table.num_rows()).sample(&mut dice, 2) {
            let row = table.slice(row, 1);
            rows += 1;
            if let Err(found) = of_row(&lake, &events, query.name, &table, &row).await {
                findings.add("why", query.name, &format!("{found}\n   of {}", shown(&[row])[0]));
            }
        }
    }
    assert!(rows > 0, "nobody was asked about");
    findings.none();
}

async fn of_row(
    lake: &Lake<'_>,
    events: &[RecordBatch],
    name: &str,
    table: &RecordBatch,
    row: &RecordBatch,
) -> Result<(), String> {
    let values = values_of(row);
    if values.is_empty() {
        return Ok(());
    }
    let alike = (0..table.num_rows()).filter(|at| values_of(&table.slice(*at, 1)) == values).count() as u64;
    let question = Question { model: name.to_owned(), values, as_of: None };
    let why = lake.house().why(&question).await.map_err(|error| error.to_string())?;
    if why.rows != alike {
        return Err(format!("{} rows are found, and there are {alike}", why.rows));
    }
    let offsets = offsets_of(&why).await?;
    let wanted = &shown(std::slice::from_ref(row))[0];
    let again = again(lake, events, &offsets, name).await?;
    if !again.contains(wanted) {
        return Err(format!("of {} events comes {}", offsets.len(), again.join("  ")));
    }
    if COUNTED.contains(&name) && alike == 1 {
        for left_out in offsets.iter().take(3) {
            let others: BTreeSet<i64> = offsets.iter().filter(|offset| *offset != left_out).copied().collect();
            if self::again(lake, events, &others, name).await?.contains(wanted) {
                return Err(format!("the event {left_out} of {} changes nothing", offsets.len()));
            }
        }
    }
    Ok(())
}

/// A row's values, but for those that have others in them.
fn values_of(row: &RecordBatch) -> Vec<ColumnValue> {
    let fields = row.schema();
    let columns = fields.fields().iter().zip(row.columns()).filter(|(field, _)| !field.data_type().is_nested());
    let value = |array: &dyn Array| (!array.is_null(0)).then(|| array_value_to_string(array, 0).unwrap());
    let value = |(field, array): (&Arc<_>, &Arc<dyn Array>)| {
        let field: &Arc<arrow::datatypes::Field> = field;
        ColumnValue { column: field.name().clone(), value: value(array) }
    };
    columns.map(value).collect()
}

/// What is answered, whole: in the order of the log, each event once.
async fn offsets_of(why: &Why) -> Result<BTreeSet<i64>, String> {
    let failed = |error: datafusion::error::DataFusionError| error.to_string();
    let stream = why.read(None, true).await.map_err(|error| error.to_string())?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(failed)?;
    let offsets = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    let offsets: Vec<i64> = offsets.collect();
    if offsets.len() as u64 != why.events() || !offsets.is_sorted_by(|one, next| one < next) {
        return Err(format!("{} events are told and answered are {offsets:?}", why.events()));
    }
    Ok(offsets.into_iter().collect())
}

/// The rows of a model over some events alone.
async fn again(
    lake: &Lake<'_>,
    events: &[RecordBatch],
    offsets: &BTreeSet<i64>,
    name: &str,
) -> Result<Vec<String>, String> {
    let house = lake.house();
    let now = house.log().snapshot().await.unwrap().filled;
    let context = catalog::session(house.log().store(), house.log().store()).unwrap();
    let kept = |batch: &RecordBatch| {
        let of = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>();
        let is_kept: BooleanArray = of.iter().map(|offset| offset.map(|offset| offsets.contains(&offset))).collect();
        filter_record_batch(batch, &is_kept).unwrap()
    };
    let log = MemTable::try_new(events[0].schema(), vec![events.iter().map(kept).collect()]).unwrap();
    catalog::register(&context, "bronze", "events", Arc::new(log)).unwrap();
    let tables = house.read(None).await.unwrap();
    let mut wanted = BTreeSet::from([name.to_owned()]);
    let models = &house.project().models;
    for model in models.iter().rev() {
        if wanted.contains(&model.name.to_string()) {
            wanted.extend(model.references.iter().map(ToString::to_string));
        }
    }
    let mut rows = Vec::new();
    for model in models.iter().filter(|model| wanted.contains(&model.name.to_string())) {
        if let Some(seed) = &model.seed {
            let table = MemTable::try_new(seed.rows.schema(), vec![vec![seed.rows.clone()]]).unwrap();
            catalog::register(&context, &model.name.schema, &model.name.name, Arc::new(table)).unwrap();
            continue;
        }
        let state = catalog::at(&context, now);
        let failed = |error: datafusion::error::DataFusionError| format!("{} again: {error}", model.name);
        let plan = state.create_logical_plan(&model.query).await.map_err(failed)?;
        let physical = state.create_physical_plan(&plan).await.map_err(failed)?;
        let batches = collect(physical, state.task_ctx()).await.map_err(failed)?;
        let named =
            |table: &&lakebed_query::TableInfo| format!("{}.{}", table.schema, table.name) == model.name.to_string();
        let stored = &tables.tables().iter().find(named).unwrap().columns;
        let batches: Vec<_> = batches.iter().map(|batch| as_stored(batch, stored)).collect();
        rows = shown(&batches);
        let table = MemTable::try_new(Arc::clone(stored), vec![batches]).map_err(failed)?;
        catalog::register(&context, &model.name.schema, &model.name.name, Arc::new(table)).unwrap();
    }
    Ok(rows)
}

fn as_stored(batch: &RecordBatch, stored: &SchemaRef) -> RecordBatch {
    let columns = batch.columns().iter().zip(stored.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
    RecordBatch::try_new(Arc::clone(stored), columns).unwrap()
}
