//! A real Lambda runtime API on loopback, cargo-lambda's, and functions that it invokes.

#![allow(clippy::expect_used, reason = "a test says what it expects by panicking")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::python::lambda;

/// The name that the function has.
pub const FUNCTION: &str = "bootstrap";

/// A project whose only binary is called as the function is: the runtime API takes no other name.
const MANIFEST: &str = "[package]\nname = \"bootstrap\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n";

/// The runtime API, until it is dropped.
#[derive(Debug)]
pub struct RuntimeApi {
    port: u16,
    server: Child,
    _project: TempDir,
}

/// A function's process, until it is dropped.
#[derive(Debug)]
pub struct Function(Child);

impl RuntimeApi {
    /// Starts one on a port of its own.
    pub fn start() -> Self {
        let project = TempDir::new().expect("a directory can be made");
        fs::create_dir(project.path().join("src")).expect("a directory can be made in it");
        fs::write(project.path().join("Cargo.toml"), MANIFEST).expect("a file can be written");
        fs::write(project.path().join("src/main.rs"), "fn main() {}\n").expect("a file can be written");
        let cargo_lambda = lambda().expect("cargo-lambda can be had");
        // It takes no port 0: another process may be quicker to take the one that was free.
        for _ in 0..5 {
            let port = free_port();
            let mut command = Command::new(&cargo_lambda);
            command.args(["lambda", "watch", "--only-lambda-apis", "-A", "127.0.0.1", "-P", &port.to_string()]);
            command.arg("--manifest-path").arg(project.path().join("Cargo.toml")).env_remove("CARGO_TARGET_DIR");
            let mut server =
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
            let began = Instant::now();
            while server.try_wait().expect("it can be asked").is_none() && began.elapsed() < Duration::from_secs(120) {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { port, server, _project: project };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = server.kill();
            let _ = server.wait();
        }
        unreachable!("five ports were free and then taken")
    }

    /// The server, as AWS's tools take it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the function is invoked.
    pub fn invocations(&self) -> String {
        format!("{}/2015-03-31/functions/{FUNCTION}/invocations", self.endpoint())
    }

    /// Where the function answers HTTP.
    pub fn function_url(&self) -> String {
        format!("{}/lambda-url/{FUNCTION}", self.endpoint())
    }

    /// Starts a function with this binary, these variables of its own, and none of ours but the path.
    pub fn function(&self, binary: &Path, environment: &[(&str, &str)]) -> Function {
        let mut command = Command::new(binary);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("AWS_LAMBDA_RUNTIME_API", format!("{}/.rt/{FUNCTION}", self.endpoint()));
        command.env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION).env("AWS_LAMBDA_FUNCTION_VERSION", "1");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128").envs(environment.iter().copied());
        Function(command.stdin(Stdio::null()).spawn().expect("the function starts"))
    }
}

/// A port that nobody listens on, below those that the system gives to whoever asks for any: of the many tests that do, none is
/// given it before it is taken.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let next = || 20_000 + (std::process::id() * 100 + TRIED.fetch_add(1, Ordering::Relaxed)) % 10_000;
    let mut ports = std::iter::repeat_with(next).take(10_000).filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
