//! The one way out: rows go to stdout in the format asked for, every other word to stderr.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches_with_schema;
use futures::{Stream, StreamExt};
use lakebed_query::RowsWriter;

use crate::arguments::{Format, Global};
use crate::error::{Error, Result};

/// Whether the reader of stdout went away: no failure of ours.
static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Where a command's words and rows go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Option<Format>,
    quiet: bool,
    colour: bool,
}

impl Output {
    /// By the flags; `no_colour` is whether the environment forbids it.
    pub(crate) fn new(global: &Global, no_colour: bool) -> Self {
        let colour = !global.no_color && !no_colour && io::stderr().is_terminal();
        Self { format: global.output, quiet: global.quiet, colour }
    }

    /// Whether a format was asked for: then what a command says of itself is rows, too.
    pub(crate) fn wants_rows(&self) -> bool {
        self.format.is_some()
    }

    /// Whether rows are laid out to be read, and not to be read on.
    pub(crate) fn is_for_people(&self) -> bool {
        self.format() == Format::Table
    }

    /// Whether progress may be drawn.
    pub(crate) fn draws(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Whether colour may be used on stderr.
    pub(crate) fn colours(&self) -> bool {
        self.colour
    }

    /// A line for people, on stderr; nothing with `--quiet`.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            // Nobody is left to be told that stderr is closed.
            let _ = writeln!(io::stderr(), "{}", visible(line));
        }
    }

    /// A failure and what to do about it, on stderr.
    pub(crate) fn fail(&self, error: &Error) {
        let text = visible(&error.to_string());
        // Some rooms put the hint on a line of its own in the message.
        let (message, inner) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message, Some(hint.to_owned())),
            None => (text.as_str(), None),
        };
        let (red, cyan, plain) = if self.colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let _ = writeln!(io::stderr(), "{red}error:{plain} {message}");
        if let Some(hint) = error.hint().or(inner) {
            let _ = writeln!(io::stderr(), "{cyan}hint:{plain} {}", visible(&hint));
        }
    }

    /// Text on stdout, as it is.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        let mut stdout = Stdout(io::stdout());
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Stdout)
    }

    /// A few rows on stdout.
    pub(crate) fn rows(&self, batch: &RecordBatch) -> Result<()> {
        let mut rows = Rows::begin(self.format(), &batch.schema())?;
        rows.write(batch)?;
        rows.finish()
    }

    /// Rows on stdout as they come.
    pub(crate) async fn stream<S, E>(&self, schema: SchemaRef, mut batches: S) -> Result<()>
    where
        S: Stream<Item = std::result::Result<RecordBatch, E>> + Unpin,
        lakebed_query::Error: From<E>,
    {
        let mut rows = Rows::begin(self.format(), &schema)?;
        while let Some(batch) = batches.next().await {
            rows.write(&batch.map_err(lakebed_query::Error::from)?)?;
        }
        rows.finish()
    }

    fn format(&self) -> Format {
        self.format.unwrap_or(Format::Table)
    }
}

/// Whether a failed write is to be taken as success, because the reader of stdout has seen enough.
pub(crate) fn reader_is_gone() -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
}

/// Writes bytes to stdout: what `generate` makes, a megabyte at a time.
pub(crate) fn stdout() -> impl Write + Send {
    Stdout(io::stdout())
}

/// Stdout that remembers a broken pipe, whatever the writers above make of it.
struct Stdout(io::Stdout);

impl Stdout {
    fn noted<T>(outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                READER_IS_GONE.store(true, Ordering::Relaxed);
            }
        })
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::noted(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::noted(self.0.flush())
    }
}

type Sink = BufWriter<Stdout>;

/// Rows on their way to stdout. A table is laid out when all of it is there; the others go out batch by batch.
enum Rows {
    Table(SchemaRef, Vec<RecordBatch>),
    Written(Box<RowsWriter<Sink>>),
}

impl Rows {
    fn begin(format: Format, schema: &SchemaRef) -> Result<Self> {
        Ok(match format.of_rows() {
            None => Self::Table(schema.clone(), Vec::new()),
            Some(format) => {
                let sink = BufWriter::new(Stdout(io::stdout()));
                Self::Written(Box::new(RowsWriter::begin(format, schema, sink)?))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Table(_, batches) => batches.push(batch.clone()),
            Self::Written(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let mut sink = match self {
            Self::Table(schema, batches) => {
                let table = pretty_format_batches_with_schema(without_metadata(&schema), &batches)?;
                let mut sink = BufWriter::new(Stdout(io::stdout()));
                match io::stdout().is_terminal() {
                    true => writeln!(sink, "{}", visible(&table.to_string())),
                    false => writeln!(sink, "{table}"),
                }
                .map_err(Error::Stdout)?;
                sink
            }
            Self::Written(writer) => writer.finish()?,
        };
        sink.flush().map_err(Error::Stdout)
    }
}

/// Text for a terminal. What it has of other people may have bytes in it that a terminal obeys: they are shown as pictures.
fn visible(text: &str) -> String {
    let picture = |control: char| match u32::from(control) {
        code @ ..0x20 => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7F => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    };
    let shown = |letter: char| if letter.is_control() && letter != '\n' { picture(letter) } else { letter };
    text.chars().map(shown).collect()
}

fn without_metadata(schema: &Schema) -> SchemaRef {
    Schema::new(schema.fields().clone()).into()
}
