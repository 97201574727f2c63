//! A real PostgreSQL on a Unix socket, one for each test process, and a database for each that asks; or a server of a test's
//! own, to be stopped in the middle.
//!
//! The binaries are those on the path, or Debian's. The server refuses to run as root: then it runs as `nobody`.

#![allow(clippy::expect_used, reason = "a test says what it expects by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use uuid::Uuid;

/// The user `nobody`, on every Linux.
const NOBODY: u32 = 65_534;

/// The cluster's superuser.
const USER: &str = "lakebed";

/// Ends the server and removes its files when its standard input ends, as it does with the process that started it.
const KEEPER: &str = r#"
program=$1 directory=$2 files=$3
shift 3
"$program" -D "$directory/data" -k "$directory" -c listen_addresses= -c fsync=off -c max_connections=64 "$@" >"$directory/log" 2>&1 &
server=$!
echo started
cat >/dev/null
kill -INT $server
wait $server
[ "$files" = keep ] || rm -rf "$directory"
"#;

/// A server.
#[derive(Debug)]
pub struct Server {
    directory: TempDir,
    /// What its keeper does with them at the end: that of a process is dropped by nobody.
    files: &'static str,
    /// What it is set to besides, as `-c` takes it.
    settings: &'static [&'static str],
    keeper: Option<Child>,
}

/// A database of a server, which lives as long as the server.
#[derive(Clone, Debug)]
pub struct Database {
    url: String,
}

impl Database {
    /// A new one on the server of this process.
    pub fn new() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::begin("remove", &[])).database()
    }

    /// How to get there.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a statement answers: lines of values with `|` between them.
    pub fn ask(&self, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(binary("psql"));
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set",
            "ON_ERROR_STOP=1",
            &self.url,
            "-c",
            sql,
        ]);
        let output = psql.output().expect("psql starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A new server, with nothing in it.
    pub fn start() -> Self {
        Self::begin("keep", &[])
    }

    /// A new server, with settings such as `wal_level=logical`.
    pub fn start_with(settings: &'static [&'static str]) -> Self {
        Self::begin("keep", settings)
    }

    fn begin(files: &'static str, settings: &'static [&'static str]) -> Self {
        let directory = TempDir::new().expect("a directory can be made");
        if is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("root may give a directory away");
        }
        let mut made = as_server(&binary("initdb"));
        made.arg("-D").arg(directory.path().join("data"));
        made.args(["-U", USER, "-A", "trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        let made = made.output().expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = Self { directory, files, settings, keeper: None };
        server.restart();
        server
    }

    /// Starts it, where it does not run.
    pub fn restart(&mut self) {
        self.begin_to_run();
        let (began, database) = (Instant::now(), Database { url: self.url("postgres") });
        while let Err(error) = database.ask("SELECT 1") {
            let log = self.log();
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not answer: {error}\n{log}");
            // After a kill, until those are gone whom the one before gave work to: it has ended, and has to be started again.
            if log.contains("pre-existing shared memory block") {
                self.end();
                self.begin_to_run();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn begin_to_run(&mut self) {
        // What the one before said, if there was one.
        let _ = std::fs::remove_file(self.directory.path().join("log"));
        let mut keeper = as_server(Path::new("sh"));
        keeper.args(["-c", KEEPER, "sh"]).arg(binary("postgres")).arg(self.directory.path()).arg(self.files);
        keeper.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        let mut keeper =
            keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh starts");
        let mut said = BufReader::new(keeper.stdout.take().expect("its output is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it says that it started");
        self.keeper = Some(keeper);
    }

    /// Kills the server and all that it does, in the middle of it.
    pub fn kill(&mut self) {
        let text = std::fs::read_to_string(self.directory.path().join("data/postmaster.pid")).expect("it runs");
        let pid = text.lines().next().expect("it has a number").to_owned();
        // What the server gave work to ends with it, as after a crash.
        let killed = Command::new("kill").args(["-KILL", &pid]).status().expect("kill starts");
        assert!(killed.success());
        self.end();
    }

    /// Ends the server as its operator does: whoever is connected is told.
    pub fn stop(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    /// A new database in it.
    pub fn database(&self) -> Database {
        let name = format!("t{}", Uuid::new_v4().simple());
        let made = Database { url: self.url("postgres") }.ask(&format!("CREATE DATABASE {name}"));
        made.expect("a database can be made");
        Database { url: self.url(&name) }
    }

    fn url(&self, database: &str) -> String {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@{socket}/{database}")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id starts");
    output.stdout.starts_with(b"0\n")
}

fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    command
}

/// A program of PostgreSQL's.
fn binary(name: &str) -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let mut places = std::env::split_paths(&on_path).chain(debian).map(|place| place.join(name));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        #[allow(clippy::panic, reason = "a test says what it expects by panicking")]
        {
            panic!("no {name} on this machine\nhint: the tests need a PostgreSQL server (Debian, Ubuntu: apt install postgresql)")
        }
    })
}
