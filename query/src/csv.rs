//! Rows as people write them, into a test or a seed: CSV with a line of names, where nothing is NULL and `""` the empty text.

use std::iter::Peekable;
use std::str::Chars;

/// Rows of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// The names, in the order of the cells.
    pub(crate) columns: Vec<String>,
    /// The rows, each as long as the names.
    pub(crate) rows: Vec<Row>,
}

/// A row of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its line in the file, from 1.
    pub(crate) line: usize,
    /// NULL where nothing is written.
    pub(crate) cells: Vec<Option<String>>,
}

/// Reads rows whose first line is this one of a file. Blanks around a value count only within quotes, and lines of blanks not at all.
///
/// # Errors
/// One sentence, and the line that it is about.
pub(crate) fn parse(text: &str, first_line: usize) -> Result<Table, (usize, String)> {
    let mut reader = Reader { rest: text.chars().peekable(), line: first_line };
    let Some(names) = reader.row()? else {
        return Err((first_line, "there is no line with the names of the columns".to_owned()));
    };
    let mut columns = Vec::new();
    for name in names.cells {
        let name = name.unwrap_or_default();
        let wrong = match () {
            () if name.is_empty() => format!("column {} has no name", columns.len() + 1),
            () if columns.contains(&name) => format!("two columns are called '{name}'"),
            () => {
                columns.push(name);
                continue;
            }
        };
        return Err((names.line, wrong));
    }
    let mut rows = Vec::new();
    while let Some(row) = reader.row()? {
        let (values, names) = (row.cells.len(), columns.len());
        if values != names {
            return Err((row.line, format!("this row has {values} of {names} values")));
        }
        rows.push(row);
    }
    Ok(Table { columns, rows })
}

struct Reader<'t> {
    rest: Peekable<Chars<'t>>,
    /// That of the next letter.
    line: usize,
}

impl Reader<'_> {
    /// The next row that has something in it; `None` at the end.
    fn row(&mut self) -> Result<Option<Row>, (usize, String)> {
        while self.rest.peek().is_some() {
            let line = self.line;
            let mut cells = vec![self.cell()?];
            while self.rest.next_if_eq(&',').is_some() {
                cells.push(self.cell()?);
            }
            self.line += usize::from(self.rest.next_if_eq(&'\n').is_some());
            if cells != [None] {
                return Ok(Some(Row { line, cells }));
            }
        }
        Ok(None)
    }

    /// A value, up to the comma or the end of the line behind it.
    fn cell(&mut self) -> Result<Option<String>, (usize, String)> {
        self.skip_blanks();
        if self.rest.next_if_eq(&'"').is_none() {
            let mut text = String::new();
            while let Some(letter) = self.rest.next_if(|letter| !matches!(letter, ',' | '\n')) {
                text.push(letter);
            }
            return Ok(Some(text.trim_end().to_owned()).filter(|text| !text.is_empty()));
        }
        let (opened, mut text) = (self.line, String::new());
        loop {
            match self.rest.next() {
                None => return Err((opened, "a quote is opened here and not closed".to_owned())),
                Some('"') if self.rest.next_if_eq(&'"').is_none() => break,
                Some(letter) => {
                    self.line += usize::from(letter == '\n');
                    text.push(letter);
                }
            }
        }
        self.skip_blanks();
        match self.rest.peek() {
            None | Some(',' | '\n') => Ok(Some(text)),
            Some(_) => Err((self.line, "a comma or the end of the line is missing behind a closing quote".to_owned())),
        }
    }

    fn skip_blanks(&mut self) {
        while self.rest.next_if(|letter| matches!(letter, ' ' | '\t' | '\r')).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_null_and_quotes_keep_what_is_in_them() {
        let table = parse("\n id , \"the name\"\n1,\n , \"\"\r\n\n\"a, \"\"b\"\"\n c\" ,  x y \n,", 3).unwrap();
        assert_eq!(table.columns, ["id", "the name"]);
        let rows: Vec<_> = table
            .rows
            .iter()
            .map(|row| (row.line, row.cells.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            rows,
            [
                (5, vec!["1", "NULL"]),
                (6, vec!["NULL", ""]),
                (8, vec!["a, \"b\"\n c", "x y"]),
                (10, vec!["NULL", "NULL"])
            ]
        );
    }

    #[test]
    fn what_is_no_table_is_told_with_its_line() {
        for (text, line, says) in [
            ("", 3, "no line with the names"),
            ("\n \n", 3, "no line with the names"),
            ("\na,,b\n", 4, "has no name"),
            ("a,b,a", 3, "two columns are called 'a'"),
            ("a,b\n1,2\n3\n", 5, "this row has 1 of 2 values"),
            ("a\n1,2\n", 4, "this row has 2 of 1 values"),
            ("a\n\"1\n2", 4, "not closed"),
            ("a\n\"1\"2", 4, "behind a closing quote"),
        ] {
            let (at, message) = parse(text, 3).unwrap_err();
            assert!(message.contains(says), "{message}");
            assert_eq!(at, line, "{text:?}: {message}");
        }
    }
}
