//! A statement as people write it, before it is planned: its parameters counted, the versions that it asks for taken out.
//!
//! `gold.daily VERSION AS OF 42` and `gold.daily TIMESTAMP AS OF '2026-11-23'` are not in DataFusion's grammar. They are found
//! among the tokens, and the table is called `"gold@42".daily` from there on: a schema that [`crate::ReadSession::at_versions`]
//! puts into the catalog. `?` becomes `$1`, `$2`, … in the order of the text, for DataFusion takes all of them for one.

use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::catalog::{CATALOG, DEFAULT_SCHEMA};
use crate::error::{Error, Result};
use crate::lakehouse::AsOf;
use crate::sql::grammar::put_right;
use crate::sql::unsupported::{refuse_unsupported, writes};

/// Between a schema's name and a version.
const AT: char = '@';

/// The most parameters that a statement may have: PostgreSQL's own bound.
const MOST_PARAMETERS: usize = 65_535;

/// The stack of a thread that plans or runs statements. DataFusion goes down an expression by recursion: `a OR b OR c …` is as deep
/// as it is long, and takes some 10 kB a step in a build without optimizations.
pub const STACK: usize = 64 << 20;

/// The most operators of a statement. Twice as many fit that stack, but the time to plan them grows with their square.
const MOST_OPERATORS: usize = 2_000;

/// What an EXPLAIN explains, or the statement itself.
fn explained(parsed: &mut Parsed) -> &mut Parsed {
    match parsed {
        Parsed::Explain(explain) => explained(&mut explain.statement),
        other => other,
    }
}

/// One statement, parsed.
#[derive(Clone, Debug)]
pub struct Statement {
    parsed: Parsed,
    parameters: usize,
    versions: Vec<AsOf>,
    /// All tables are asked for as of one and the same.
    of_one: bool,
}

impl Statement {
    /// Parses one statement whose names without a schema are those of `gold`.
    ///
    /// # Errors
    /// As [`Self::parse_in`].
    pub fn parse(sql: &str) -> Result<Self> {
        Self::parse_in(sql, DEFAULT_SCHEMA)
    }

    /// Parses one statement whose names without a schema are those of `schema`.
    ///
    /// # Errors
    /// [`Error::Sql`] with line and column where it does not parse, is none or several, or asks for a version in words that are
    /// none.
    pub fn parse_in(sql: &str, schema: &str) -> Result<Self> {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
        let mut tokens = tokens.map_err(|error| unparsable(ParserError::from(error).into()))?;
        let operators = tokens.iter().filter(|token| is_operator(&token.token)).count();
        if operators > MOST_OPERATORS {
            let message = format!("the statement has {operators} operators, and {MOST_OPERATORS} are the most");
            return Err(Error::Sql { message });
        }
        let parameters = number_parameters(&mut tokens)?;
        let versions = take_versions(&mut tokens, schema)?;
        let mut statements = DFParserBuilder::new(tokens)
            .with_dialect(&GenericDialect {})
            .build()
            .and_then(|mut parser| parser.parse_statements())
            .map_err(unparsable)?;
        let Some(mut parsed) = statements.pop_front().filter(|_| statements.is_empty()) else {
            let message = "one statement is answered at a time; this is none, or more than one".to_owned();
            return Err(Error::Sql { message });
        };
        if let Parsed::Statement(statement) = explained(&mut parsed) {
            if writes(statement) {
                return Err(Error::ReadOnly);
            }
            put_right(statement);
            let answered = refuse_unsupported(statement);
            answered.map_err(|refused| Error::Unanswered { message: refused.message, hint: refused.hint })?;
        }
        let of_one = match versions.as_slice() {
            [_] => {
                let (tables, _) = resolve_table_references(&parsed, true).map_err(unparsable)?;
                tables.iter().all(|table| table.schema().is_some_and(|schema| schema.contains(AT)))
            }
            _ => false,
        };
        Ok(Self { parsed, parameters, versions, of_one })
    }

    /// How many parameters it has: the highest number among `$1`, `$2`, …
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The versions that it asks for by itself, each once.
    pub fn versions(&self) -> &[AsOf] {
        &self.versions
    }

    /// The version that all of its tables are asked for at, if there is one.
    pub(crate) fn version_of_all(&self) -> Option<AsOf> {
        self.versions.first().copied().filter(|_| self.of_one)
    }

    pub(crate) fn parsed(&self) -> Parsed {
        self.parsed.clone()
    }
}

/// What a schema is called as of a version.
pub(crate) fn schema_at(schema: &str, as_of: AsOf) -> String {
    format!("{schema}{AT}{as_of}")
}

/// A table's name as it was written, from one with a version in it: `gold.daily`, and when it is asked for.
pub(crate) fn without_version(name: &str) -> Option<(String, &str)> {
    let (schema, rest) = name.split_once(AT)?;
    let (version, table) = rest.rsplit_once('.')?;
    Some((format!("{}.{table}", schema.trim_start_matches('"')), version.trim_end_matches('"')))
}

fn unparsable(error: DataFusionError) -> Error {
    Error::planning(error, &[])
}

/// Gives every `?` its number.
fn number_parameters(tokens: &mut [TokenWithSpan]) -> Result<usize> {
    let (mut questions, mut highest) = (0, 0);
    for token in tokens {
        let Token::Placeholder(name) = &mut token.token else { continue };
        let wrong = |message: String| Err(Error::Sql { message: format!("{message}{}", token.span.start) });
        if name == "?" {
            questions += 1;
            *name = format!("${questions}");
        } else {
            match name.trim_start_matches(['$', '?']).parse::<usize>() {
                Ok(number @ 1..=MOST_PARAMETERS) => {
                    highest = highest.max(number);
                    *name = format!("${number}");
                }
                _ => return wrong(format!("'{name}' is no parameter: write ? or $1, $2, …")),
            }
        }
        if questions > 0 && highest > 0 {
            return wrong("parameters are written as ? or as $1, and not both in one statement".to_owned());
        }
    }
    match questions.max(highest) {
        many @ 65_536.. => Err(Error::Sql { message: format!("{many} parameters are more than {MOST_PARAMETERS}") }),
        few => Ok(few),
    }
}

/// Takes `VERSION AS OF …` and `TIMESTAMP AS OF …` out of the tokens, and calls the tables before them accordingly.
fn take_versions(tokens: &mut Vec<TokenWithSpan>, default_schema: &str) -> Result<Vec<AsOf>> {
    let mut versions = Vec::new();
    let mut at = 0;
    while let Some(clause) = next_clause(tokens, at)? {
        let name = table_name(tokens, clause.start)?;
        if !versions.contains(&clause.as_of) {
            versions.push(clause.as_of);
        }
        let mut parts: Vec<TokenWithSpan> = tokens[name.clone()].to_vec();
        let word = |text: &str| Token::make_word(text, Some('"'));
        let like = |token: Token, of: &TokenWithSpan| TokenWithSpan { token, span: of.span };
        let table = parts.pop().unwrap_or_else(|| TokenWithSpan::wrap(Token::EOF));
        // Before the table's own there is the schema, if it was written.
        let schema = match parts.len() {
            0 => default_schema.to_owned(),
            _ => parts.get(parts.len() - 2).map(identifier).unwrap_or_default(),
        };
        if schema == INFORMATION_SCHEMA {
            let message = format!("{INFORMATION_SCHEMA} has no versions{}", table.span.start);
            return Err(Error::Sql { message });
        }
        let dotted = [
            like(word(CATALOG), &table),
            like(Token::Period, &table),
            like(word(&schema_at(&schema, clause.as_of)), &table),
            like(Token::Period, &table),
            table,
        ];
        let (from, count) = (name.start, dotted.len());
        tokens.splice(from..clause.end, dotted);
        at = from + count;
    }
    Ok(versions)
}

/// `VERSION AS OF 42` among the tokens.
struct Clause {
    start: usize,
    end: usize,
    as_of: AsOf,
}

/// The next one from a token on.
fn next_clause(tokens: &[TokenWithSpan], from: usize) -> Result<Option<Clause>> {
    for start in from..tokens.len() {
        let of_time = match &tokens[start].token {
            token if is_word(token, "VERSION") || is_word(token, "SYSTEM_VERSION") => false,
            token if is_word(token, "TIMESTAMP") || is_word(token, "SYSTEM_TIME") => true,
            _ => continue,
        };
        let mut rest = (start + 1..tokens.len()).filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_)));
        let mut next = || rest.next().map(|at| (at, &tokens[at].token));
        let is_clause = next().is_some_and(|(_, token)| is_word(token, "AS"))
            && next().is_some_and(|(_, token)| is_word(token, "OF"));
        if !is_clause {
            continue;
        }
        let mut value = next();
        if of_time && value.is_some_and(|(_, token)| is_word(token, "TIMESTAMP")) {
            value = next();
        }
        let Some((at, value)) = value else { continue };
        let text = match value {
            Token::Number(text, _) | Token::SingleQuotedString(text) => text,
            Token::Placeholder(_) => {
                let message = format!("a version is written out, and is no parameter{}", tokens[at].span.start);
                return Err(Error::Sql { message });
            }
            // A column that is called `version`, as something that is called `of`.
            _ => continue,
        };
        let wrong = |what: String| Error::Sql { message: format!("{what}{}", tokens[at].span.start) };
        let as_of = match text.parse() {
            Ok(as_of @ AsOf::Version(_)) if !of_time => as_of,
            Ok(as_of @ AsOf::Time(_)) if of_time => as_of,
            _ if of_time => {
                return Err(wrong(format!("'{text}' is no time: write TIMESTAMP AS OF '2026-11-23T18:30:00Z'")));
            }
            _ => return Err(wrong(format!("'{text}' is no version: write VERSION AS OF 42"))),
        };
        // `FOR VERSION AS OF` is the same.
        let before = previous(tokens, start).filter(|at| is_word(&tokens[*at].token, "FOR"));
        return Ok(Some(Clause { start: before.unwrap_or(start), end: at + 1, as_of }));
    }
    Ok(None)
}

/// The tokens of the name that ends before a clause.
fn table_name(tokens: &[TokenWithSpan], clause: usize) -> Result<std::ops::Range<usize>> {
    let last = previous(tokens, clause).filter(|at| matches!(tokens[*at].token, Token::Word(_)));
    let Some(last) = last else {
        let message = format!("a version is asked for behind a table's name{}", tokens[clause].span.start);
        return Err(Error::Sql { message });
    };
    let mut first = last;
    while first >= 2 && tokens[first - 1].token == Token::Period && matches!(tokens[first - 2].token, Token::Word(_)) {
        first -= 2;
    }
    Ok(first..last + 1)
}

/// The token before one, but for white space.
fn previous(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    (0..at).rev().find(|at| !matches!(tokens[*at].token, Token::Whitespace(_)))
}

/// Whether a token puts an expression into a larger one, on its left: what is longer by it is deeper by it.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            word.quote_style.is_none()
                && ["AND", "OR", "UNION"].iter().any(|name| word.value.eq_ignore_ascii_case(name))
        }
        Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::Eq
        | Token::Arrow => true,
        Token::LongArrow | Token::DoubleColon | Token::Caret | Token::Ampersand | Token::Pipe | Token::LBracket => true,
        _ => false,
    }
}

fn is_word(token: &Token, expected: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
}

/// A name as the planner reads it: in small letters, unless it is in quotes.
fn identifier(token: &TokenWithSpan) -> String {
    match &token.token {
        Token::Word(word) if word.quote_style.is_some() => word.value.clone(),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> (String, usize, Vec<String>) {
        let statement = Statement::parse(sql).unwrap();
        let versions = statement.versions.iter().map(AsOf::to_string).collect();
        (statement.parsed.to_string(), statement.parameters, versions)
    }

    #[test]
    fn what_is_refused_is_not_explained_either() {
        for wrong in ["SELECT 1 EXCEPT ALL SELECT 1", "EXPLAIN ANALYZE SELECT 1 EXCEPT ALL SELECT 1", "EXPLAIN FROM t"]
        {
            assert!(matches!(Statement::parse(wrong), Err(Error::Unanswered { .. })), "{wrong}");
        }
        Statement::parse("EXPLAIN SELECT 1 EXCEPT SELECT 1").unwrap();
    }

    #[test]
    fn questions_are_numbered_as_they_are_read() {
        let (sql, parameters, _) = parsed("SELECT ?, '?', a FROM t WHERE b = ? -- ?\n AND c IN (?, ?) LIMIT ?");
        assert_eq!(sql, "SELECT $1, '?', a FROM t WHERE b = $2 AND c IN ($3, $4) LIMIT $5");
        assert_eq!(parameters, 5);
        assert_eq!(parsed("SELECT $2, $11, $1").1, 11);
        for wrong in ["SELECT ?, $1", "SELECT $0", "SELECT $name", "SELECT $70000"] {
            assert!(matches!(Statement::parse(wrong), Err(Error::Sql { .. })), "{wrong}");
        }
    }

    #[test]
    fn versions_are_taken_from_behind_tables() {
        let at = |sql: &str| parsed(sql).0;
        assert_eq!(
            at("SELECT * FROM daily VERSION AS OF 42 d JOIN Gold.\"Daily\"\nversion as of 7 AS e ON d.a = e.a"),
            "SELECT * FROM \"lakebed\".\"gold@42\".daily d JOIN \"lakebed\".\"gold@7\".\"Daily\" AS e ON d.a = e.a"
        );
        let time = "\"lakebed\".\"silver@2026-11-23T00:00:00.000Z\".x";
        for sql in [
            "SELECT * FROM lakebed.silver.x TIMESTAMP AS OF '2026-11-23' WHERE a > 1",
            "SELECT * FROM silver.x FOR TIMESTAMP AS OF TIMESTAMP '2026-11-23 00:00:00' WHERE a > 1",
            "SELECT * FROM silver.x FOR SYSTEM_TIME AS OF '2026-11-23T01:00:00+01:00' WHERE a > 1",
        ] {
            assert_eq!(at(sql), format!("SELECT * FROM {time} WHERE a > 1"));
        }
        // Columns that are called so are left alone.
        for sql in ["SELECT version AS of FROM t", "SELECT timestamp AS of, version FROM t"] {
            assert_eq!(at(sql), sql);
        }
        let (_, _, versions) = parsed("SELECT 1 FROM a VERSION AS OF 3, b VERSION AS OF 3, c VERSION AS OF 12");
        assert_eq!(versions, ["3", "12"]);
    }

    #[test]
    fn versions_that_are_none_are_told_with_their_place() {
        for (sql, what) in [
            ("SELECT 1 FROM t VERSION AS OF '2026-11-23'", "'2026-11-23' is no version"),
            ("SELECT 1 FROM t TIMESTAMP AS OF 42", "'42' is no time"),
            ("SELECT 1 FROM (SELECT 1) VERSION AS OF 42", "behind a table's name"),
            ("SELECT 1 FROM t VERSION AS OF ?", "is no parameter"),
            ("SELECT 1 FROM information_schema.tables VERSION AS OF 1", "has no versions"),
            ("SELECT 1; SELECT 2", "one statement"),
            ("", "one statement"),
        ] {
            let said = Statement::parse(sql).unwrap_err().to_string();
            assert!(said.contains(what), "{sql}: {said}");
            assert!(said.contains("Line: 1") || said.contains("one statement"), "{said}");
        }
    }

    #[test]
    fn a_version_is_of_the_sessions_schema() {
        let statement =
            Statement::parse_in("SELECT 1 FROM a VERSION AS OF 3, gold.b VERSION AS OF 3", "silver").unwrap();
        let sql = statement.parsed.to_string();
        assert_eq!(sql, "SELECT 1 FROM \"lakebed\".\"silver@3\".a, \"lakebed\".\"gold@3\".b");
    }

    #[test]
    fn a_version_is_of_all_where_every_table_has_it() {
        let of_all = |sql: &str| Statement::parse(sql).unwrap().version_of_all();
        assert_eq!(of_all("SELECT 1 FROM a VERSION AS OF 3 x, b VERSION AS OF 3 y"), Some(AsOf::Version(3)));
        assert_eq!(of_all("SELECT 1 FROM a VERSION AS OF 3, b"), None);
        assert_eq!(of_all("SELECT 1 FROM a VERSION AS OF 3, b VERSION AS OF 4"), None);
        assert_eq!(of_all("WITH c AS (SELECT 1 FROM a VERSION AS OF 3) SELECT * FROM c"), Some(AsOf::Version(3)));
    }

    #[test]
    fn a_name_with_a_version_is_read_back() {
        let (name, version) = without_version("gold@42.daily").unwrap();
        assert_eq!((name.as_str(), version), ("gold.daily", "42"));
        let (name, version) = without_version("gold@2026-11-23T00:00:00.000Z.daily").unwrap();
        assert_eq!((name.as_str(), version), ("gold.daily", "2026-11-23T00:00:00.000Z"));
        assert_eq!(without_version("gold.daily"), None);
    }
}
