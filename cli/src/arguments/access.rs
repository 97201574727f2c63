//! Who may send, and who may ask.

use clap::{Args, Subcommand};

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make one and print its secret, once: the lake keeps the hash alone
    Add(TokenAddArguments),
    /// List them, without their secrets
    List,
    /// Take one away; servers refuse it within ten seconds
    Remove(TokenRemoveArguments),
}

#[derive(Args, Debug)]
pub(crate) struct TokenAddArguments {
    /// What people call it
    pub(crate) name: String,
    /// The source of the events that come with it; by default its name
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TokenRemoveArguments {
    /// As it was called
    pub(crate) name: String,
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add one, or set another password; it is asked for, or read from stdin
    Add(UserAddArguments),
    /// Make a token that logs a user in, and print it, once
    Token(UserTokenArguments),
    /// List them, and what each logs in with
    List,
    /// Take a user away, or one of the tokens; servers refuse it at once
    Remove(UserRemoveArguments),
}

#[derive(Args, Debug)]
pub(crate) struct UserAddArguments {
    /// The name to log in with
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct UserTokenArguments {
    /// The user
    pub(crate) name: String,
    /// What people call the token, such as the program that has it
    #[arg(default_value = "default")]
    pub(crate) token: String,
    /// After so many days it is no longer good; by default it stays so
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=36_500))]
    pub(crate) days: Option<i64>,
}

#[derive(Args, Debug)]
pub(crate) struct UserRemoveArguments {
    /// The user
    pub(crate) name: String,
    /// Only this token of the user
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show what somebody sees of each table: how many rows, which columns, and what stands in the place of their values
    Test(PolicyTestArguments),
}

#[derive(Args, Debug)]
pub(crate) struct PolicyTestArguments {
    /// A user or a role; by default everybody, which is PUBLIC
    #[arg(long = "as", value_name = "ROLE")]
    pub(crate) reader: Option<String>,
}
