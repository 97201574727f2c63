//! From the text of a file to its statements.

use std::path::Path;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::{At, Grant, Mask, Membership, On, Role, RowPolicy, Rules};
use crate::catalog::CATALOG;
use crate::error::{Error, Result};
use crate::models::TableName;
use crate::sql::grammar::put_right;

/// What a file may say, for who wrote something else.
const FORMS: &str = "write GRANT SELECT ON gold.x TO role, GRANT role TO user, CREATE POLICY name ON gold.x TO role USING (…), \
                     or CREATE MASK ON gold.x (column) TO role USING (…)";

/// Reads a file's statements into `rules`.
///
/// # Errors
/// [`Error::Policy`] with the line of the first that cannot be read.
pub(super) fn parse(file: &Path, text: &str, rules: &mut Rules) -> Result<()> {
    let wrong = |error: ParserError| {
        let message = Error::planning(error.into(), &[]).to_string();
        let line = message.split_once("Line: ").and_then(|(_, rest)| rest.split(',').next()?.trim().parse().ok());
        Error::Policy { path: file.to_owned(), line: line.unwrap_or(1), message, hint: Some(FORMS.to_owned()) }
    };
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| wrong(error.into()))?;
    let parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens);
    let mut reading = Reading { parser, file };
    reading.statements(rules).map_err(wrong)
}

struct Reading<'f> {
    parser: Parser<'static>,
    file: &'f Path,
}

type Parsed<T> = std::result::Result<T, ParserError>;

impl Reading<'_> {
    fn statements(&mut self, rules: &mut Rules) -> Parsed<()> {
        loop {
            while self.parser.consume_token(&Token::SemiColon) {}
            let first = self.parser.peek_token();
            if first.token == Token::EOF {
                return Ok(());
            }
            let at = At { file: self.file.to_owned(), line: usize::try_from(first.span.start.line).unwrap_or(1) };
            if self.word("GRANT") {
                self.grant(at, rules)?;
            } else if self.word("CREATE") {
                if self.word("POLICY") {
                    rules.rows.push(self.row_policy(at)?);
                } else if self.word("MASK") {
                    self.mask(&at, rules)?;
                } else {
                    return self.expected("POLICY or MASK");
                }
            } else {
                return self.expected("GRANT, CREATE POLICY or CREATE MASK");
            }
            if self.parser.peek_token().token != Token::EOF {
                self.parser.expect_token(&Token::SemiColon)?;
            }
        }
    }

    fn grant(&mut self, at: At, rules: &mut Rules) -> Parsed<()> {
        if ["INSERT", "UPDATE", "DELETE", "ALL", "USAGE", "CREATE"].iter().any(|word| self.peeks(word)) {
            return self.expected("SELECT, which is all that can be granted, or a role");
        }
        if !self.word("SELECT") {
            let roles = self.list(Self::name)?;
            self.expect("TO")?;
            if self.peeks("PUBLIC") {
                return self.expected("a user or a role; what everybody may read is granted to PUBLIC itself");
            }
            let members = self.list(Self::name)?;
            for (role, member) in roles.iter().flat_map(|role| members.iter().map(move |member| (role, member))) {
                rules.members.push(Membership { role: role.clone(), member: member.clone(), at: at.clone() });
            }
            return Ok(());
        }
        let columns = if self.parser.peek_token().token == Token::LParen { self.columns()? } else { Vec::new() };
        self.expect("ON")?;
        let on = if self.word("ALL") {
            for word in ["TABLES", "IN", "SCHEMA"] {
                self.expect(word)?;
            }
            self.list(|reading| reading.name().map(On::Schema))?
        } else {
            // PostgreSQL's optional word.
            self.word("TABLE");
            self.list(|reading| reading.table().map(On::Table))?
        };
        let Some(to) = self.to()? else { return self.expected("TO") };
        let grant = |on| Grant { on, columns: columns.clone(), to: to.clone(), at: at.clone() };
        rules.grants.extend(on.into_iter().map(grant));
        Ok(())
    }

    fn row_policy(&mut self, at: At) -> Parsed<RowPolicy> {
        let name = self.name()?;
        self.expect("ON")?;
        let table = self.table()?;
        let mut restrictive = false;
        if self.word("AS") {
            restrictive = self.word("RESTRICTIVE");
            if !restrictive {
                self.expect("PERMISSIVE")?;
            }
        }
        if self.word("FOR") && !self.word("ALL") {
            self.expect("SELECT")?;
        }
        let to = self.to()?.unwrap_or_else(|| vec![Role::Public]);
        let using = self.using()?;
        Ok(RowPolicy { name, table, restrictive, to, using, at })
    }

    fn mask(&mut self, at: &At, rules: &mut Rules) -> Parsed<()> {
        // Its name, if it has one, is for people.
        if !self.peeks("ON") {
            self.name()?;
        }
        self.expect("ON")?;
        let table = self.table()?;
        let columns = self.columns()?;
        let to = self.to()?.unwrap_or_else(|| vec![Role::Public]);
        let using = self.using()?;
        rules.masks.extend(columns.into_iter().map(|column| Mask {
            table: table.clone(),
            column,
            to: to.clone(),
            using: using.clone(),
            at: at.clone(),
        }));
        Ok(())
    }

    fn to(&mut self) -> Parsed<Option<Vec<Role>>> {
        if !self.word("TO") {
            return Ok(None);
        }
        let role = |reading: &mut Self| match reading.word("PUBLIC") {
            true => Ok(Role::Public),
            false => reading.name().map(Role::Named),
        };
        self.list(role).map(Some)
    }

    fn using(&mut self) -> Parsed<String> {
        self.expect("USING")?;
        self.parser.expect_token(&Token::LParen)?;
        let mut expression = self.parser.parse_expr()?;
        self.parser.expect_token(&Token::RParen)?;
        put_right(&mut expression);
        Ok(expression.to_string())
    }

    fn columns(&mut self) -> Parsed<Vec<String>> {
        self.parser.expect_token(&Token::LParen)?;
        let columns = self.list(Self::name)?;
        self.parser.expect_token(&Token::RParen)?;
        Ok(columns)
    }

    fn table(&mut self) -> Parsed<TableName> {
        let begins = self.parser.peek_token();
        let ObjectName(parts) = self.parser.parse_object_name(false)?;
        let names: Vec<String> = parts.iter().filter_map(ObjectNamePart::as_ident).map(folded).collect();
        match names.as_slice() {
            [schema, name] => Ok(TableName { schema: schema.clone(), name: name.clone() }),
            [catalog, schema, name] if catalog == CATALOG => {
                Ok(TableName { schema: schema.clone(), name: name.clone() })
            }
            _ => self.parser.expected("a table with its schema, such as gold.revenue", begins),
        }
    }

    fn name(&mut self) -> Parsed<String> {
        self.parser.parse_identifier().map(|name| folded(&name))
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.parser.consume_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn peeks(&self, expected: &str) -> bool {
        matches!(&self.parser.peek_token().token,
            Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
    }

    /// Takes a word if it comes next.
    fn word(&mut self, expected: &str) -> bool {
        let comes = self.peeks(expected);
        if comes {
            self.parser.next_token();
        }
        comes
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.word(word) { Ok(()) } else { self.expected(word) }
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        self.parser.expected(what, self.parser.peek_token())
    }
}

/// A name as SQL reads it: in small letters, unless it is in quotes.
fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}
