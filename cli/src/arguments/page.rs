//! `docs/commands.md`, which is written from the command line's own help: a test fails where it is another text.

use std::fmt::Write;

use clap::{Command, CommandFactory};

use super::Arguments;

/// What comes before the commands.
const HEAD: &str = "\
# Every command

This page is written from the code: `LAKEBED_WRITE_PAGES=1 cargo test --workspace the_page_says` writes it anew. `lakebed COMMAND --help`
says the same. Rows go to stdout, all else to stderr. The exit code is 0 where all is well, 1 where something failed or does not hold, and
2 for a command line that is none.
";

/// Where the options are that every command takes.
const EVERYWHERE: &str = "\nEverywhere:\n";

fn page() -> String {
    let mut root = Arguments::command().term_width(100).mut_args(|argument| argument.hide_env_values(true));
    root.build();
    let mut page = HEAD.to_owned();
    write_command(&mut root, "lakebed", &mut page);
    page
}

fn write_command(command: &mut Command, path: &str, page: &mut String) {
    let help = command.render_help().to_string();
    // Said once, at the top.
    let own = if path == "lakebed" { help.as_str() } else { help.split(EVERYWHERE).next().unwrap_or_default() };
    let lines: Vec<_> = own.trim().lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## {path}\n```text\n{}\n```\n", lines.join("\n"));
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set()) {
        let path = format!("{path} {}", inner.get_name());
        write_command(inner, &path, page);
    }
}

#[test]
fn the_page_says_what_the_commands_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
    if std::env::var_os("LAKEBED_WRITE_PAGES").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap();
    assert!(there == page(), "docs/commands.md is stale: its first lines say how it is written");
}
