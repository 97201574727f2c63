//! What the server says about itself. JDBC asks for everything at once and throws on a code that is missing or
//! has a value of another kind, so every code that drivers read is here, each with the kind that they read.

use std::collections::HashMap;

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction,
    SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};

use crate::error::Result;

/// The Arrow format's version, not this crate's: <https://arrow.apache.org/docs/format/Versioning.html>.
const ARROW_FORMAT: &str = "1.5";

/// Words that DataFusion reserves beyond SQL:2003; JDBC lists them as such.
const KEYWORDS: &[&str] = &["ANALYZE", "EXPLAIN", "ILIKE", "LIMIT", "OFFSET", "QUALIFY", "SHOW", "UNNEST"];
const NUMERIC: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "degrees", "exp", "floor", "ln", "log", "log10", "log2",
    "pi", "power", "radians", "round", "signum", "sin", "sqrt", "tan", "trunc",
];
const STRING: &[&str] = &[
    "ascii",
    "btrim",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "translate",
    "trim",
    "upper",
];
const SYSTEM: &[&str] = &["arrow_cast", "arrow_typeof", "coalesce", "md5", "nullif", "nvl", "sha256", "version"];
const DATETIME: &[&str] = &[
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "now",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_unixtime",
];

/// Limits that are not known or do not exist; JDBC reads 0 as that.
const NO_LIMIT: [SqlInfo; 20] = [
    SqlInfo::SqlMaxBinaryLiteralLength,
    SqlInfo::SqlMaxCharLiteralLength,
    SqlInfo::SqlMaxColumnNameLength,
    SqlInfo::SqlMaxColumnsInGroupBy,
    SqlInfo::SqlMaxColumnsInIndex,
    SqlInfo::SqlMaxColumnsInOrderBy,
    SqlInfo::SqlMaxColumnsInSelect,
    SqlInfo::SqlMaxColumnsInTable,
    SqlInfo::SqlMaxConnections,
    SqlInfo::SqlMaxCursorNameLength,
    SqlInfo::SqlMaxIndexLength,
    SqlInfo::SqlDbSchemaNameLength,
    SqlInfo::SqlMaxProcedureNameLength,
    SqlInfo::SqlMaxCatalogNameLength,
    SqlInfo::SqlMaxRowSize,
    SqlInfo::SqlMaxStatementLength,
    SqlInfo::SqlMaxStatements,
    SqlInfo::SqlMaxTableNameLength,
    SqlInfo::SqlMaxTablesInSelect,
    SqlInfo::SqlMaxUsernameLength,
];

/// Everything the server says about itself.
///
/// # Errors
/// Where arrow-flight cannot build its own table.
pub(crate) fn describe() -> Result<SqlInfoData> {
    let mut infos = SqlInfoDataBuilder::new();
    server(&mut infos);
    language(&mut infos);
    abilities(&mut infos);
    bitmasks(&mut infos);
    for limit in NO_LIMIT {
        infos.append(limit, 0_i64);
    }
    Ok(infos.build()?)
}

fn server(infos: &mut SqlInfoDataBuilder) {
    infos.append(SqlInfo::FlightSqlServerName, "lakebed");
    infos.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    infos.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_FORMAT);
    infos.append(SqlInfo::FlightSqlServerReadOnly, true);
    infos.append(SqlInfo::FlightSqlServerSql, true);
    infos.append(SqlInfo::FlightSqlServerSubstrait, false);
    infos.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    infos.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    infos.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::Transaction as i32);
    infos.append(SqlInfo::FlightSqlServerCancel, true);
    infos.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    infos.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    infos.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    infos.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
}

fn language(infos: &mut SqlInfoDataBuilder) {
    infos.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    infos.append(SqlInfo::SqlSearchStringEscape, "\\");
    infos.append(SqlInfo::SqlExtraNameCharacters, "");
    infos.append(SqlInfo::SqlSchemaTerm, "schema");
    infos.append(SqlInfo::SqlProcedureTerm, "procedure");
    infos.append(SqlInfo::SqlCatalogTerm, "catalog");
    infos.append(SqlInfo::SqlKeywords, KEYWORDS);
    infos.append(SqlInfo::SqlNumericFunctions, NUMERIC);
    infos.append(SqlInfo::SqlStringFunctions, STRING);
    infos.append(SqlInfo::SqlSystemFunctions, SYSTEM);
    infos.append(SqlInfo::SqlDatetimeFunctions, DATETIME);
    infos.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    // A quoted name is taken as it is written; the protocol has no word for that but "unknown".
    infos.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32);
    // ASC puts nulls last and DESC puts them first: a null counts as the highest value.
    infos.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
}

fn abilities(infos: &mut SqlInfoDataBuilder) {
    let yes = [
        SqlInfo::SqlAllTablesAreSelectable,
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlCatalogAtStart,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
        // A transaction reads one version of the log.
        SqlInfo::SqlTransactionsSupported,
    ];
    let no = [
        SqlInfo::SqlDdlCatalog,
        SqlInfo::SqlDdlSchema,
        SqlInfo::SqlDdlTable,
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ];
    yes.into_iter().for_each(|info| infos.append(info, true));
    no.into_iter().for_each(|info| infos.append(info, false));
}

fn bitmasks(infos: &mut SqlInfoDataBuilder) {
    infos.append(
        SqlInfo::SqlSupportedGroupBy,
        bits(&[SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32]),
    );
    infos.append(
        SqlInfo::SqlSupportedGrammar,
        bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32]),
    );
    // Bit 0 is entry level; arrow-flight does not export this enum.
    infos.append(SqlInfo::SqlAnsi92SupportedLevel, 1_i32);
    // JDBC reads this one as a bitmask, too.
    infos.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        bits(&[
            SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
            SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
        ]),
    );
    infos.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    infos.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
    infos.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    infos.append(
        SqlInfo::SqlSupportedSubqueries,
        bits(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
    );
    infos.append(
        SqlInfo::SqlSupportedUnions,
        bits(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
    // JDBC reads this one as a 64-bit number, the next one as a bitmask.
    infos.append(
        SqlInfo::SqlDefaultTransactionIsolation,
        i64::from(SqlTransactionIsolationLevel::SqlTransactionSerializable as i32),
    );
    infos.append(
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        bits(&[SqlTransactionIsolationLevel::SqlTransactionSerializable as i32]),
    );
    infos.append(
        SqlInfo::SqlSupportedResultSetTypes,
        bits(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
    );
    let read_only = bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, read_only);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, read_only);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0_i32);
    infos.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0_i32);
    infos.append(SqlInfo::SqlSupportsConvert, conversions());
}

fn bits(ordinals: &[i32]) -> i32 {
    ordinals.iter().fold(0, |mask, ordinal| mask | 1 << ordinal)
}

/// Every type converts to text, numbers among themselves, text to all of them.
fn conversions() -> HashMap<i32, Vec<i32>> {
    use SqlSupportsConvert as Type;
    let text = Type::SqlConvertVarchar as i32;
    let numbers = [
        Type::SqlConvertTinyint,
        Type::SqlConvertSmallint,
        Type::SqlConvertInteger,
        Type::SqlConvertBigint,
        Type::SqlConvertReal,
        Type::SqlConvertFloat,
        Type::SqlConvertDecimal,
    ]
    .map(|number| number as i32);
    let others = [Type::SqlConvertBit, Type::SqlConvertDate, Type::SqlConvertTime, Type::SqlConvertTimestamp]
        .map(|other| other as i32);
    let mut conversions: HashMap<i32, Vec<i32>> = HashMap::new();
    for number in numbers {
        conversions.insert(number, numbers.into_iter().chain([text]).collect());
    }
    for other in others {
        conversions.insert(other, vec![other, text]);
    }
    conversions.insert(text, numbers.into_iter().chain(others).chain([text]).collect());
    conversions
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::UInt32Type;

    use super::*;

    /// Code ranges that the JDBC driver reads, with the union child it reads them from.
    const READ_BY_JDBC: &[(i8, &[u32])] = &[
        (0, &[0, 1, 2, 504, 513, 514, 529, 530, 531]),
        (1, &[3, 515, 516, 518, 519, 520, 521, 523, 524, 527, 532, 536, 537, 539, 556, 563, 565, 566, 572]),
        (1, &[573, 574, 575, 576, 4, 5, 9, 10, 11, 506]),
        (2, &[541, 542, 543, 544, 545, 546, 547, 548, 549, 550, 551, 552, 553, 554, 555, 557, 558, 559, 560, 561, 562]),
        (3, &[522, 525, 526, 528, 533, 534, 535, 538, 540, 564, 567, 8, 100, 101, 503, 505, 507]),
        (4, &[508, 509, 510, 511, 512]),
        (5, &[517]),
    ];

    #[test]
    fn every_code_that_drivers_read_is_there_with_its_kind() {
        let batch = describe().unwrap().record_batch(None).unwrap();
        let codes = batch.column(0).as_primitive::<UInt32Type>();
        let values = batch.column(1).as_union();
        for (child, read) in READ_BY_JDBC {
            for code in *read {
                let row = codes.values().iter().position(|have| have == code);
                let row = row.unwrap_or_else(|| panic!("code {code} is missing"));
                assert_eq!(values.type_id(row), *child, "code {code}");
            }
        }
        assert!(codes.values().iter().all(|code| *code < 10_000));
        assert_eq!(codes.null_count(), 0);
    }
}
