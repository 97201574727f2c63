//! `lakebed token`: who may send events over the network.

use arrow::array::RecordBatch;
use lakebed_project::Tokens;
use lakebed_query::time_text;

use crate::arguments::{TokenAddArguments, TokenCommand};
use crate::columns::texts;
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Makes, lists or removes tokens of the lake.
pub(crate) async fn token(invocation: &Invocation, command: &TokenCommand) -> Result<()> {
    let config = invocation.config()?;
    let log = match command {
        TokenCommand::Add(_) => invocation.log_or_new(&config).await?,
        // Whoever looks makes no lake.
        TokenCommand::List | TokenCommand::Remove(_) => invocation.log(&config).await?,
    };
    let tokens = Tokens::new(log.store().clone());
    match command {
        TokenCommand::Add(arguments) => add(invocation, &tokens, arguments).await,
        TokenCommand::List => list(invocation, &tokens).await,
        TokenCommand::Remove(arguments) => Ok(tokens.remove(&arguments.name).await?),
    }
}

async fn add(
    invocation: &Invocation,
    tokens: &Tokens,
    TokenAddArguments { name, source }: &TokenAddArguments,
) -> Result<()> {
    let source = source.as_ref().unwrap_or(name);
    if name.trim().is_empty() || source.trim().is_empty() {
        return Err(Error::Usage {
            message: "a token needs a name, and its events a source".to_owned(),
            hint: "such as `lakebed token add shop --source web`".to_owned(),
        });
    }
    let secret = tokens.add(name, source, invocation.now()).await?;
    invocation.output.say("this is shown once; send it as Authorization: Bearer TOKEN");
    match invocation.output.wants_rows() {
        true => invocation.output.rows(&RecordBatch::try_from_iter([
            ("name", texts([name.as_str()])),
            ("source", texts([source.as_str()])),
            ("secret", texts([secret.as_str()])),
        ])?),
        false => invocation.output.text(&format!("{secret}\n")),
    }
}

async fn list(invocation: &Invocation, tokens: &Tokens) -> Result<()> {
    let tokens = tokens.list().await?;
    let created: Vec<String> = tokens.iter().map(|token| time_text(token.created)).collect();
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("name", texts(tokens.iter().map(|token| token.name.as_str()))),
        ("source", texts(tokens.iter().map(|token| token.source.as_str()))),
        ("created", texts(created.iter().map(String::as_str))),
    ])?)
}
