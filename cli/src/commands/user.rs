//! `lakebed user`: who may ask the server.

use std::io::{self, BufRead, IsTerminal};

use arrow::array::RecordBatch;
use chrono::TimeDelta;
use lakebed_project::{USERS_FILE, Users};
use lakebed_query::time_text;

use crate::arguments::{UserCommand, UserTokenArguments};
use crate::columns::{optional_texts, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Adds, lists or removes users of the project, and their tokens.
pub(crate) fn user(invocation: &Invocation, command: &UserCommand) -> Result<()> {
    // That it is a project, and that its settings can be read.
    invocation.config()?;
    let users = Users::of(&invocation.directory);
    match command {
        UserCommand::Add(arguments) => {
            users.set_password(&arguments.name, &password(&arguments.name)?)?;
            invocation.output.say(&format!("'{}' can log in; {USERS_FILE} has a hash of the password", arguments.name));
            Ok(())
        }
        UserCommand::Token(arguments) => token(invocation, &users, arguments),
        UserCommand::List => list(invocation, &users),
        UserCommand::Remove(arguments) => Ok(users.remove(&arguments.name, arguments.token.as_deref())?),
    }
}

/// Asks for a password on a terminal, and reads a line of stdin anywhere else: on a command line others would see it.
fn password(name: &str) -> Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(format!("password of '{name}': ")).map_err(Error::Stdin);
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(Error::Stdin)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn token(invocation: &Invocation, users: &Users, arguments: &UserTokenArguments) -> Result<()> {
    let UserTokenArguments { name, token, days } = arguments;
    let now = invocation.now();
    let expires = days.map(|days| now + TimeDelta::days(days));
    let secret = users.add_token(name, token, expires, now)?;
    invocation
        .output
        .say("this is shown once; it takes the place of a password, or goes as Authorization: Bearer TOKEN");
    match invocation.output.wants_rows() {
        true => invocation.output.rows(&RecordBatch::try_from_iter([
            ("user", texts([name.as_str()])),
            ("token", texts([token.as_str()])),
            ("secret", texts([secret.as_str()])),
        ])?),
        false => invocation.output.text(&format!("{secret}\n")),
    }
}

/// A line for each secret that logs somebody in.
fn list(invocation: &Invocation, users: &Users) -> Result<()> {
    let (mut names, mut secrets, mut expire) = (Vec::new(), Vec::new(), Vec::new());
    for user in users.list()? {
        let password = user.has_password.then(|| ("password".to_owned(), None));
        let tokens =
            user.tokens.into_iter().map(|(token, expires)| (format!("token '{token}'"), expires.map(time_text)));
        for (secret, expires) in password.into_iter().chain(tokens) {
            names.push(user.name.clone());
            secrets.push(secret);
            expire.push(expires);
        }
    }
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("user", texts(names)),
        ("logs_in_with", texts(secrets)),
        ("expires", optional_texts(expire)),
    ])?)
}
