//! The Python that foreign clients run in: a virtual environment with `python/requirements.txt`, made once a machine.
//!
//! Tests that need it never skip: where it cannot be made they fail, with what to do about it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
const LAMBDA_REQUIREMENTS: &str = include_str!("../python/lambda-requirements.txt");
const DASHBOARD_REQUIREMENTS: &str = include_str!("../../dashboard/requirements.txt");
const CONSOLE_REQUIREMENTS: &str = include_str!("../python/console-requirements.txt");
const SPARK_REQUIREMENTS: &str = include_str!("../python/spark-requirements.txt");

/// The interpreter of the environment, which is made first if this machine does not have it yet (about 700 MB, a
/// minute or two; it says so on stderr).
///
/// It lives in the product's cache directory (`$XDG_CACHE_HOME` or `~/.cache`, then `lakebed/test-python-HASH`); the
/// hash is that of the requirements, so that a changed file gets another environment. Any number of tests and
/// processes may call this at once: one of them makes it, the others wait.
///
/// # Errors
/// One sentence on what failed and a `hint:` line: no Python, no `venv` module, no package index.
pub fn python() -> Result<PathBuf, String> {
    environment("python", REQUIREMENTS, &[]).map(|root| interpreter(&root))
}

/// The interpreter of an environment for the dashboard, with what it needs itself (500 MB).
///
/// # Errors
/// As [`python`].
pub fn dashboard() -> Result<PathBuf, String> {
    environment("dashboard", DASHBOARD_REQUIREMENTS, &[]).map(|root| interpreter(&root))
}

/// The interpreter of an environment with the driver of a browser (150 MB); the browser is the machine's own.
///
/// # Errors
/// As [`python`].
pub fn browser() -> Result<PathBuf, String> {
    environment("console", CONSOLE_REQUIREMENTS, &[]).map(|root| interpreter(&root))
}

/// cargo-lambda, from an environment with nothing else in it (50 MB).
///
/// # Errors
/// As [`python`].
pub fn lambda() -> Result<PathBuf, String> {
    environment("lambda", LAMBDA_REQUIREMENTS, &["--no-deps"]).map(|root| root.join("bin").join("cargo-lambda"))
}

/// The interpreter of an environment with PySpark (1 GB, some minutes), and the directory with Delta Lake's jars.
///
/// # Errors
/// As [`python`], and where the jars cannot be had.
pub fn spark() -> Result<(PathBuf, PathBuf), String> {
    let root = environment("spark", SPARK_REQUIREMENTS, &[])?;
    let (python, jars) = (interpreter(&root), root.join("jars"));
    fetch_jars(&python, &jars, "spark")?;
    Ok((python, jars))
}

/// The JDBC driver that DBeaver ships, a jar (45 MB).
///
/// # Errors
/// As [`python`], and where the jar cannot be had.
pub fn jdbc() -> Result<PathBuf, String> {
    let python = python()?;
    let jars = python.ancestors().nth(2).unwrap_or(Path::new("")).join("jars");
    fetch_jars(&python, &jars, "jdbc")?;
    let jar = fs::read_dir(&jars).ok().and_then(|mut jars| {
        jars.find_map(|jar| {
            jar.ok().map(|jar| jar.path()).filter(|path| path.extension().is_some_and(|end| end == "jar"))
        })
    });
    jar.ok_or_else(|| format!("there is no jar in {}", jars.display()))
}

fn fetch_jars(python: &Path, jars: &Path, of: &str) -> Result<(), String> {
    let mut fetch = Command::new(python);
    fetch.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/jars.py")).arg(jars).arg(of);
    run(&mut fetch, HINT_MAVEN).map_err(|failure| failure.to_string_at(jars))
}

fn environment(name: &str, requirements: &str, pip: &[&str]) -> Result<PathBuf, String> {
    let cache = cache_directory(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))?;
    let root = cache.join("lakebed").join(format!("test-{name}-{:016x}", fnv1a(requirements.as_bytes())));
    make(&root, requirements, pip).map_err(|failure| failure.to_string_at(&root))?;
    Ok(root)
}

fn interpreter(root: &Path) -> PathBuf {
    root.join("bin").join("python")
}

/// Why there is no environment, and what helps.
struct Failure {
    what: String,
    hint: &'static str,
}

impl Failure {
    fn to_string_at(&self, root: &Path) -> String {
        format!("no python environment for the tests at {}: {}\nhint: {}", root.display(), self.what, self.hint)
    }
}

const HINT_PYTHON: &str =
    "install Python 3.10 or newer with its venv module (Debian, Ubuntu: apt install python3 python3-venv)";
const HINT_INDEX: &str = "pip must reach a package index or a directory of wheels: see pip's settings PIP_INDEX_URL, \
                          PIP_FIND_LINKS and PIP_CERT";
const HINT_MAVEN: &str = "the jars come from Maven Central, or from where MAVEN_REPO says";
const HINT_DISK: &str = "the cache directory must be writable, with 1 GB of space; XDG_CACHE_HOME moves it";

fn cache_directory(xdg: Option<std::ffi::OsString>, home: Option<std::ffi::OsString>) -> Result<PathBuf, String> {
    let absolute = |value: Option<std::ffi::OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg).or_else(|| absolute(home).map(|home| home.join(".cache"))).ok_or_else(|| {
        "no place for the tests' python environment\nhint: set HOME or XDG_CACHE_HOME to an absolute path".to_owned()
    })
}

fn make(root: &Path, needed: &str, options: &[&str]) -> Result<(), Failure> {
    let interpreter = interpreter(root);
    let parent = root.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(|error| on_disk("create the cache directory", &error))?;
    let lock = File::create(root.with_extension("lock")).map_err(|error| on_disk("create the lock file", &error))?;
    // Held until this function returns; the kernel gives it up if the process dies.
    lock.lock().map_err(|error| on_disk("take the lock", &error))?;

    // Written last: a directory without it is what an interrupted call left behind.
    let marker = root.join("complete");
    if marker.exists() && runs(&interpreter) {
        return Ok(());
    }
    say(&format!("making the tests' python environment in {} (once; a minute or two)", root.display()));
    if root.exists() {
        fs::remove_dir_all(root).map_err(|error| on_disk("remove an unfinished environment", &error))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(root), HINT_PYTHON)?;
    let requirements = root.join("requirements.txt");
    fs::write(&requirements, needed).map_err(|error| on_disk("write the requirements", &error))?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(options);
    pip.arg("--requirement").arg(&requirements);
    let mut tries = 1;
    while let Err(failure) = run(&mut pip, HINT_INDEX) {
        // An index may be away for a moment.
        if tries == 3 {
            return Err(failure);
        }
        tries += 1;
        std::thread::sleep(Duration::from_secs(5));
    }
    let unfinished = root.join("complete.unfinished");
    File::create(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, &marker))
        .map_err(|error| on_disk("mark the environment as complete", &error))?;
    say("the tests' python environment is ready");
    Ok(())
}

/// Whether the interpreter still starts: an upgrade of the system's Python can take it away.
fn runs(interpreter: &Path) -> bool {
    Command::new(interpreter).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command, hint: &'static str) -> Result<(), Failure> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| Failure { what: format!("{shown} did not start: {error}"), hint: HINT_PYTHON })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    Err(Failure { what: format!("{shown} ended with {}:\n{said}", output.status), hint })
}

fn on_disk(what: &str, error: &io::Error) -> Failure {
    Failure { what: format!("could not {what}: {error}"), hint: HINT_DISK }
}

/// To the process's own stderr: the test harness does not hold it back, so that a long wait explains itself.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// FNV-1a, 64 bits: the same on every toolchain, which the standard hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let at = |xdg: Option<&str>, home: Option<&str>| cache_directory(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(at(Some("/cache"), Some("/home/me")), Ok(PathBuf::from("/cache")));
        assert_eq!(at(Some("relative"), Some("/home/me")), Ok(PathBuf::from("/home/me/.cache")));
        assert_eq!(at(None, Some("/home/me")), Ok(PathBuf::from("/home/me/.cache")));
        assert!(at(None, None).is_err_and(|message| message.contains("hint:")));
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_finished_environment_is_kept() {
        let interpreter = python().unwrap();
        let marker = interpreter.ancestors().nth(2).unwrap().join("complete");
        let made = fs::metadata(&marker).unwrap().modified().unwrap();
        assert_eq!(python().unwrap(), interpreter);
        assert_eq!(fs::metadata(&marker).unwrap().modified().unwrap(), made);
    }

    #[test]
    fn what_failed_comes_with_a_hint() {
        let failure = run(&mut Command::new("/nonexistent/python3"), HINT_INDEX).unwrap_err();
        let text = failure.to_string_at(Path::new("/somewhere"));
        assert!(text.contains("/nonexistent/python3") && text.contains("\nhint: install Python"), "{text}");
        let failure = run(Command::new("sh").args(["-c", "echo no index >&2; exit 3"]), HINT_INDEX).unwrap_err();
        let text = failure.to_string_at(Path::new("/somewhere"));
        assert!(text.contains("no index") && text.contains("\nhint: pip must reach"), "{text}");
    }
}
