//! The binary `lakebed`: reads the command line, runs one command, and says how it went.

mod alerts;
mod arguments;
mod columns;
mod commands;
mod error;
mod invocation;
mod output;
mod progress;
mod signals;
mod starter;
mod system;

use std::future::Future;
use std::time::Duration;

use chrono::Utc;
use clap::Parser;
use tokio::sync::oneshot;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::{Arguments, Command, Global};
use crate::commands::{
    capture, demo, diff, doctor, explain, generate, ingest, init, lineage, log, plan, policy, quarantine, query,
    replay, run, schema, serve, test, token, user, verify, why,
};
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::output::Output;

/// From being told to end to the end.
const TIME_TO_END: Duration = Duration::from_secs(2);

fn main() {
    system::share_freed_memory();
    // The first thread's stack is as large as the system makes it, and a statement may need more.
    match std::thread::Builder::new().stack_size(lakebed_query::statement::STACK).spawn(run) {
        // It ends the process itself, unless it panicked, which was said.
        Ok(running) => drop(running.join()),
        Err(_) => run(),
    }
    system::end(101);
}

fn run() {
    let Arguments { global, command } = Arguments::parse();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let output = Output::new(&global, no_colour);
    trace(&global, &output);
    let invocation = Invocation::new(&global, output, Utc::now);
    let outcome = run_to_end(&invocation, command);
    system::end(match outcome {
        Ok(()) => 0,
        Err(_) if output::reader_is_gone() => 0,
        Err(error) => {
            output.fail(&error);
            if error.is_usage() { 2 } else { 1 }
        }
    })
}

/// Runs the command on a runtime that does not outlive it: a read of stdin that never ends keeps nobody waiting.
fn run_to_end(invocation: &Invocation, command: Command) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.thread_stack_size(lakebed_query::statement::STACK);
    let runtime = runtime.enable_all().build().map_err(Error::Runtime)?;
    let outcome = runtime.block_on(async {
        match command {
            // These end in their own way when they are told to.
            Command::Capture(arguments) => capture::capture(invocation, &arguments).await,
            Command::Serve(arguments) => serve::serve(invocation, &arguments).await,
            Command::Run(arguments) if arguments.watch => run::run(invocation, &arguments).await,
            command => {
                let stopped = stopped(invocation.output)?;
                tokio::select! {
                    outcome = dispatch(invocation, command) => outcome,
                    () = stopped => Err(Error::Interrupted),
                }
            }
        }
    });
    runtime.shutdown_background();
    outcome
}

/// Resolves once the process is told to end. A command that does not hear of it ends a moment later all the same: nothing reaches a
/// statement while it is planned.
fn stopped(output: Output) -> Result<impl Future<Output = ()>> {
    let stop = signals::stop()?;
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        stop.await;
        if tell.send(()).is_ok() {
            tokio::time::sleep(TIME_TO_END).await;
            output.fail(&Error::Interrupted);
            system::end(1);
        }
    });
    Ok(async move {
        let _ = told.await;
    })
}

async fn dispatch(invocation: &Invocation, command: Command) -> Result<()> {
    match command {
        Command::Demo(arguments) => demo::demo(invocation, &arguments).await,
        Command::Init(arguments) => init::init(&arguments, &invocation.output),
        Command::Generate(arguments) => generate::generate(arguments, &invocation.output).await,
        Command::Ingest(arguments) => ingest::ingest(invocation, &arguments).await,
        Command::Capture(arguments) => capture::capture(invocation, &arguments).await,
        Command::Run(arguments) => run::run(invocation, &arguments).await,
        Command::Plan => plan::plan(invocation).await,
        Command::Replay(arguments) => replay::replay(invocation, &arguments).await,
        Command::Explain(arguments) => explain::explain(invocation, &arguments).await,
        Command::Lineage(arguments) => lineage::lineage(invocation, &arguments).await,
        Command::Diff(arguments) => diff::diff(invocation, arguments).await,
        Command::Query(arguments) => query::query(invocation, arguments).await,
        Command::Why(arguments) => why::why(invocation, arguments).await,
        Command::Verify(arguments) => verify::verify(invocation, &arguments).await,
        Command::Test(arguments) => test::test(invocation, &arguments).await,
        Command::Log(command) => log::log(invocation, &command).await,
        Command::Schema(command) => schema::schema(invocation, &command).await,
        Command::Doctor => doctor::doctor(invocation).await,
        Command::Quarantine(command) => quarantine::quarantine(invocation, &command).await,
        Command::Token(command) => token::token(invocation, &command).await,
        Command::Policy(command) => policy::policy(invocation, &command).await,
        Command::User(command) => user::user(invocation, &command),
        Command::Serve(arguments) => serve::serve(invocation, &arguments).await,
    }
}

/// What the rooms below say of themselves goes to stderr: warnings, and more with `-v`.
fn trace(global: &Global, output: &Output) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let said = std::env::var("LAKEBED_LOG").ok();
    let set = said.as_deref().and_then(|set| set.parse::<Targets>().ok());
    let is_wrong = set.is_none();
    // What a library says of a failure that is told in our words, or of none: one looks for tables that are not there yet.
    let ours = Targets::new()
        .with_default(level)
        .with_target("buoyant_kernel", LevelFilter::OFF)
        .with_target("pgwire_replication", LevelFilter::OFF);
    let usual = if global.verbose > 1 { Targets::new().with_default(level) } else { ours };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(output.colours())
        .with_target(false)
        .with_filter(set.unwrap_or(usual));
    tracing_subscriber::registry().with(lines).init();
    if let Some(said) = said.filter(|_| is_wrong) {
        tracing::warn!("LAKEBED_LOG is '{said}', and neither a level, such as debug, nor targets with theirs");
    }
}
