//! Users and TLS, as an operator sets them up and as clients meet them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::served::Served;
use crate::serving::{client, jdbc_client};
use crate::shop::{Shop, says, stderr};

/// A certificate for this machine, with its key and the one that signed it.
struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    signer: PathBuf,
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output();
    let output = output.expect("openssl starts; install it (Debian, Ubuntu: apt install openssl)");
    assert!(output.status.success(), "{}", stderr(&output));
}

fn certificate(directory: &Path, name: &str) -> Certificate {
    let file = |end: &str| directory.join(format!("{name}.{end}"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (signer, signer_key) = (file("ca.pem"), file("ca.key"));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let signing = ["req", "-x509", "-subj", "/CN=signer", "-keyout", &text(&signer_key), "-out", &text(&signer)];
    openssl(&[&signing[..], &curve[..]].concat());
    let (key, request, certificate, names) = (file("key"), file("csr"), file("pem"), file("ext"));
    fs::write(&names, "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    let asking = ["req", "-subj", "/CN=127.0.0.1", "-keyout", &text(&key), "-out", &text(&request)];
    openssl(&[&asking[..], &curve[..5]].concat());
    openssl(&[
        "x509",
        "-req",
        "-in",
        &text(&request),
        "-CA",
        &text(&signer),
        "-CAkey",
        &text(&signer_key),
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &text(&names),
        "-out",
        &text(&certificate),
    ]);
    Certificate { certificate, key, signer }
}

/// Runs a command with a line on its stdin.
pub(crate) fn told(shop: &Shop, arguments: &[&str], line: &str) -> (bool, String) {
    let mut child =
        shop.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), stderr(&output))
}

#[test]
fn users_log_in_over_tls() {
    let shop = Shop::with_tables();
    let (server, client_side) = (certificate(shop.root(), "server"), certificate(shop.root(), "client"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    assert!(told(&shop, &["user", "add", "ana"], "correct horse\n").0);
    let token = shop.done(&["user", "token", "ana", "notebook"]);
    let token = token.trim();
    let variables = [
        ("LAKEBED_SERVE_TLS_CERT", text(&server.certificate)),
        ("LAKEBED_SERVE_TLS_KEY", text(&server.key)),
        ("LAKEBED_SERVE_TLS_CLIENT_CA", text(&client_side.signer)),
    ];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for mutual in [false, true] {
        let served = Served::with_environment(&shop, "127.0.0.1", &[], &variables[..if mutual { 3 } else { 2 }]);
        let (host, port) = served.flight.rsplit_once(':').unwrap();
        let signer = text(&server.signer);
        let mut arguments = vec![host, port, &signer, "ana", "correct horse", token];
        let own = [text(&client_side.certificate), text(&client_side.key)];
        arguments.extend(own.iter().map(String::as_str).filter(|_| mutual));
        let said = client("logins.py", &arguments);
        assert!(said.lines().filter(|line| line.starts_with("ok")).count() >= 9, "{said}");
        let said = jdbc_client("JdbcLogin.java", &arguments);
        assert_eq!(said.lines().filter(|line| line.starts_with("ok")).count(), 6, "{said}");
        // Over HTTP it is the same login.
        let sql = |header: &str| {
            let headers: Vec<&str> = [header].into_iter().filter(|header| !header.is_empty()).collect();
            served.post("/v1/sql", &headers, b"SELECT 1 AS a").0
        };
        assert_eq!(sql(&format!("Authorization: Bearer {token}")), 200);
        assert_eq!(sql(""), 401);
        assert_eq!(sql("Authorization: Bearer x"), 401);
        // A user that is removed, or added, is so at once.
        if mutual {
            shop.done(&["user", "remove", "ana", "--token", "notebook"]);
            assert_eq!(sql(&format!("Authorization: Bearer {token}")), 401);
        }
        served.stop();
    }
}

#[test]
fn users_are_a_file_of_hashes() {
    let shop = Shop::with_tables();
    let everywhere = ["serve", "--flight", "0.0.0.0:0", "--http", "127.0.0.1:0"];
    says(&shop.fails(&everywhere, 1), &["there are no users yet", "lakebed user add"]);
    let (short, said) = told(&shop, &["user", "add", "ana"], "short\n");
    assert!(!short);
    says(&said, &["8 characters or more", "hint: "]);
    let (added, said) = told(&shop, &["user", "add", "ana"], "correct horse\n");
    assert!(added && said.contains("'ana' can log in"), "{said}");
    let secret = shop.done(&["user", "token", "ana", "grafana", "--days", "30"]);
    let file = fs::read_to_string(shop.path().join("users.toml")).unwrap();
    assert!(file.contains("$argon2id$") && !file.contains("horse") && !file.contains(secret.trim()), "{file}");
    let listed = shop.done(&["user", "list", "-o", "csv"]);
    says(&listed, &["ana,password,", "ana,token 'grafana',2"]);
    says(&shop.fails(&["user", "token", "ana", "grafana"], 1), &["'grafana'", "hint: "]);
    says(&shop.fails(&["user", "token", "bob"], 1), &["there is no user 'bob'", "lakebed user list"]);
    says(&shop.fails(&["user", "add", "a:b"], 1), &["'a:b'", "colon"]);
    // With users, and without TLS.
    says(&shop.fails(&everywhere, 1), &["without TLS", "tls_cert", "behind_tls_proxy"]);
    says(&shop.done(&["doctor", "-o", "csv"]), &["users,ok,1 may ask"]);
    fs::write(shop.path().join("users.toml"), "[[user]]\nnmae = \"ana\"\n").unwrap();
    says(&shop.fails(&["user", "list"], 1), &["users.toml", "line 2", "hint: "]);
    shop.done(&["query", "SELECT 1"]);
}
