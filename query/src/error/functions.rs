//! Functions that are not there: what to write instead of those that other databases have.

use super::Error;

/// What is written here for a function of DuckDB, PostgreSQL or others, of which a name alone would lead astray. `time` stands for a
/// time, `text` for a text, `json` for a document, `x` and `y` for any value.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["strftime"], "to_char(time, '%Y-%m-%d')"),
    (&["strptime", "parse_timestamp"], "to_timestamp(text, '%Y-%m-%d')"),
    (
        &["date_diff", "datediff", "date_sub", "datesub", "timestampdiff"],
        "CAST(time AS DATE) - CAST(time AS DATE), or extract(epoch FROM time) - extract(epoch FROM time)",
    ),
    (&["date_add", "dateadd"], "time + INTERVAL '1 day'"),
    (&["time_bucket", "time_slice"], "date_bin(INTERVAL '5 minutes', time)"),
    (&["year", "years"], "extract(year FROM time)"),
    (&["quarter"], "extract(quarter FROM time)"),
    (&["month"], "extract(month FROM time)"),
    (&["week", "weekofyear"], "extract(week FROM time)"),
    (&["day", "dayofmonth"], "extract(day FROM time)"),
    (&["dayofweek", "weekday"], "extract(dow FROM time)"),
    (&["dayofyear"], "extract(doy FROM time)"),
    (&["hour"], "extract(hour FROM time)"),
    (&["minute"], "extract(minute FROM time)"),
    (&["second"], "extract(second FROM time)"),
    (&["epoch", "unix_timestamp"], "extract(epoch FROM time)"),
    (&["epoch_ms"], "extract(epoch FROM time) * 1000"),
    (&["arg_max", "argmax", "max_by"], "first_value(x ORDER BY y DESC NULLS LAST)"),
    (&["arg_min", "argmin", "min_by"], "first_value(x ORDER BY y)"),
    (&["first", "arbitrary"], "first_value(x ORDER BY y)"),
    (&["last"], "last_value(x ORDER BY y)"),
    (&["count_if", "countif"], "count(*) FILTER (WHERE x > 0)"),
    (&["list", "group_concat", "collect_list"], "array_agg(x ORDER BY y), or string_agg(text, ',' ORDER BY y)"),
    (&["list_value"], "[x, y]"),
    (&["quantile"], "percentile_cont(0.5) WITHIN GROUP (ORDER BY x)"),
    (&["len"], "length(text)"),
    (&["if", "iff", "iif"], "CASE WHEN x > 0 THEN x ELSE y END"),
    (&["mod"], "x % y"),
    (&["regexp_matches"], "regexp_like(text, '[a-z]+')"),
    (&["regexp_extract", "regexp_substr"], "(regexp_match(text, '[a-z]+'))[1]"),
    (&["string_split", "str_split", "split"], "string_to_array(text, ',')"),
    (&["json_extract", "json_extract_path"], "json -> 'key'"),
    (&["json_extract_string", "json_extract_path_text", "json_extract_scalar", "json_value"], "json ->> 'key'"),
];

/// What DataFusion says of a function that is not there.
const UNKNOWN: &str = "Invalid function '";

/// The error of a function that is not there, if a planning error is one.
pub(super) fn unknown(message: &str) -> Option<Error> {
    let (_, rest) = message.split_once(UNKNOWN)?;
    let (name, rest) = rest.split_once('\'')?;
    let known = INSTEAD.iter().find(|(names, _)| names.contains(&name.to_lowercase().as_str()));
    let hint = match known {
        Some((_, instead)) => format!("write {instead}"),
        // DataFusion knows the names of all that are there.
        None => match rest.split_once("Did you mean ") {
            Some((_, similar)) => format!("did you mean {similar}"),
            None => "functions are those of DataFusion".to_owned(),
        },
    };
    Some(Error::Unanswered { message: format!("there is no function '{name}'"), hint })
}

#[cfg(test)]
mod tests {
    use lakebed_log::Store;

    use super::*;
    use crate::catalog;

    const ROW: &str =
        "SELECT CAST('2026-01-02' AS TIMESTAMP) AS time, '2026-01-02' AS text, '{\"key\": 1}' AS json, 1 AS x, 2 AS y";

    #[tokio::test]
    async fn what_is_written_instead_is_there_and_the_others_are_not() {
        let store = Store::memory();
        let context = catalog::session(&store, &store).unwrap();
        for (names, instead) in INSTEAD {
            for expression in instead.split(", or ") {
                let sql = format!("SELECT {expression} FROM ({ROW})");
                let rows = context.sql(&sql).await.unwrap().collect().await;
                assert!(rows.is_ok(), "{sql}: {rows:?}");
            }
            for name in *names {
                let error = context.sql(&format!("SELECT {name}(x, y) FROM ({ROW})")).await.unwrap_err();
                let error = Error::planning(error, &[]);
                assert_eq!(error.to_string(), format!("there is no function '{name}'"));
                assert_eq!(error.hint(), Some(format!("write {instead}")));
            }
        }
        let error = Error::planning(context.sql("SELECT conut(x) FROM (SELECT 1 AS x)").await.unwrap_err(), &[]);
        assert!(error.hint().unwrap().starts_with("did you mean 'co"), "{:?}", error.hint());
    }
}
