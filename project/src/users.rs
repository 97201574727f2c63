//! Who may read a lake over the network: the users of a project, in the file users.toml beside its lakebed.toml, which has hashes of
//! their secrets alone. It is read again when it has changed: who is added, removed or given another password needs no restart.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::CONFIG_FILE;
use crate::error::{Error, Result};

/// The file, beside lakebed.toml.
pub const USERS_FILE: &str = "users.toml";

/// What every secret of a token begins with.
const PREFIX: &str = "lakebed_";

/// The fewest characters of a password.
const SHORTEST: usize = 8;

/// What is hashed where there is no such user, so that the time to an answer tells nothing.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

/// The users of a project. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Users {
    file: PathBuf,
    read: Arc<Mutex<Option<Read>>>,
}

/// The file as it was read last.
#[derive(Clone, Debug)]
struct Read {
    stamp: Option<(SystemTime, u64)>,
    entries: Arc<Entries>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    #[serde(default, rename = "user", skip_serializing_if = "Vec::is_empty")]
    users: Vec<UserEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    name: String,
    /// In the form of PHC strings, with argon2id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<TokenEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    /// BLAKE3 of the secret.
    hash: String,
    created: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<DateTime<Utc>>,
}

/// A user whose secret was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The user.
    pub name: String,
    /// Another one for each secret of the user: what was given out for a secret that is there no more is no longer good.
    pub stamp: String,
}

/// A user as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Whether there is a password.
    pub has_password: bool,
    /// The names of the tokens, each with the time after which it is no longer good.
    pub tokens: Vec<(String, Option<DateTime<Utc>>)>,
}

impl Users {
    /// Those of the project in a directory.
    pub fn of(directory: &Path) -> Self {
        Self { file: directory.join(USERS_FILE), read: Arc::default() }
    }

    /// All of them, by name. Where there is none, whoever reaches the server may ask it.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Users`] for a file that cannot be read.
    pub fn list(&self) -> Result<Vec<User>> {
        let entries = self.entries()?;
        let user = |user: &UserEntry| User {
            name: user.name.clone(),
            has_password: user.password.is_some(),
            tokens: user.tokens.iter().map(|token| (token.name.clone(), token.expires)).collect(),
        };
        let mut users: Vec<User> = entries.users.iter().map(user).collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
    }

    /// Whether there is anybody: then nobody else may ask.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn are_there(&self) -> Result<bool> {
        Ok(!self.entries()?.users.is_empty())
    }

    /// The user with this name and password. It takes some tens of milliseconds, by design.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn of_password(&self, name: &str, password: &str) -> Result<Option<LoggedIn>> {
        let entries = self.entries()?;
        let user = entries.users.iter().find(|user| user.name == name);
        let hash = user.and_then(|user| user.password.as_deref());
        let parsed = PasswordHash::new(hash.unwrap_or(NOBODY));
        let right = parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        Ok(hash.filter(|_| right).map(|hash| LoggedIn { name: name.to_owned(), stamp: stamp(hash) }))
    }

    /// The user that a token is of.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn of_token(&self, secret: &str, now: DateTime<Utc>) -> Result<Option<LoggedIn>> {
        let hash = blake3::hash(secret.as_bytes()).to_hex();
        let entries = self.entries()?;
        let found = entries.users.iter().find_map(|user| {
            let token = user.tokens.iter().find(|token| token.hash == hash.as_str())?;
            let good = token.expires.is_none_or(|expires| expires > now);
            good.then(|| LoggedIn { name: user.name.clone(), stamp: stamp(&token.hash) })
        });
        Ok(found)
    }

    /// Whether a login is still good: the user is there, and so is the secret that was given.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn is_good(&self, login: &LoggedIn, now: DateTime<Utc>) -> Result<bool> {
        let entries = self.entries()?;
        let Some(user) = entries.users.iter().find(|user| user.name == login.name) else { return Ok(false) };
        let tokens = user.tokens.iter().filter(|token| token.expires.is_none_or(|expires| expires > now));
        let mut secrets = user.password.iter().chain(tokens.map(|token| &token.hash));
        Ok(secrets.any(|secret| stamp(secret) == login.stamp))
    }

    /// Adds a user, or gives one another password.
    ///
    /// # Errors
    /// [`Error::UserName`] and [`Error::ShortPassword`]; as [`Self::list`], and where the file cannot be written.
    pub fn set_password(&self, name: &str, password: &str) -> Result<()> {
        if name.trim().is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
            return Err(Error::UserName { name: name.to_owned() });
        }
        if password.chars().count() < SHORTEST {
            return Err(Error::ShortPassword { shortest: SHORTEST });
        }
        if password.starts_with(PREFIX) {
            return Err(Error::TokenForPassword);
        }
        let salt = SaltString::encode_b64(Uuid::new_v4().as_bytes());
        let hash = salt.and_then(|salt| Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string()));
        let hash = hash.map_err(|error| Error::Users { file: self.file.clone(), message: error.to_string() })?;
        self.change(|entries| {
            match entries.users.iter_mut().find(|user| user.name == name) {
                Some(user) => user.password = Some(hash),
                None => {
                    entries.users.push(UserEntry { name: name.to_owned(), password: Some(hash), tokens: Vec::new() });
                }
            }
            Ok(())
        })
    }

    /// Makes a token of a user and gives its secret, which nobody can find out again. It logs in until it expires.
    ///
    /// # Errors
    /// [`Error::NoUser`], [`Error::TokenExists`]; as [`Self::set_password`].
    pub fn add_token(
        &self,
        user: &str,
        name: &str,
        expires: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<String> {
        // 244 random bits from the system: nothing to guess, so a plain hash keeps the secret.
        let secret = format!("{PREFIX}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let hash = blake3::hash(secret.as_bytes()).to_hex().to_string();
        self.change(|entries| {
            let of = entries.users.iter_mut().find(|entry| entry.name == user);
            let of = of.ok_or_else(|| Error::NoUser { name: user.to_owned() })?;
            if of.tokens.iter().any(|token| token.name == name) {
                return Err(Error::TokenExists { name: name.to_owned() });
            }
            of.tokens.push(TokenEntry { name: name.to_owned(), hash, created: now, expires });
            Ok(())
        })?;
        Ok(secret)
    }

    /// Takes a token of a user away, or the user with all tokens. Servers refuse them at once.
    ///
    /// # Errors
    /// [`Error::NoUser`], [`Error::NoToken`]; as [`Self::set_password`].
    pub fn remove(&self, user: &str, token: Option<&str>) -> Result<()> {
        self.change(|entries| {
            let at = entries.users.iter().position(|entry| entry.name == user);
            let at = at.ok_or_else(|| Error::NoUser { name: user.to_owned() })?;
            let Some(token) = token else {
                entries.users.remove(at);
                return Ok(());
            };
            let tokens = &mut entries.users[at].tokens;
            let of_name = tokens.iter().position(|entry| entry.name == token);
            tokens.remove(of_name.ok_or_else(|| Error::NoToken { name: token.to_owned() })?);
            Ok(())
        })
    }

    /// The file's entries; read again if it is another file than it was.
    fn entries(&self) -> Result<Arc<Entries>> {
        let stamp = fs::metadata(&self.file).ok().and_then(|about| Some((about.modified().ok()?, about.len())));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.as_ref().filter(|read| read.stamp == stamp) {
            return Ok(Arc::clone(&read.entries));
        }
        let entries = Arc::new(self.read_file()?);
        *read = Some(Read { stamp, entries: Arc::clone(&entries) });
        Ok(entries)
    }

    fn read_file(&self) -> Result<Entries> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Entries::default()),
            Err(source) => return Err(Error::File { path: self.file.clone(), source }),
        };
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::Users { file: self.file.clone(), message: format!("line {line}: {}", error.message()) }
        })
    }

    /// Changes the file: all of it or nothing, and one command at a time.
    fn change(&self, change: impl FnOnce(&mut Entries) -> Result<()>) -> Result<()> {
        let failed = |source| Error::File { path: self.file.clone(), source };
        // Two commands at once would each write what the other has not.
        let project = File::open(self.file.with_file_name(CONFIG_FILE)).map_err(failed)?;
        project.lock().map_err(failed)?;
        let mut entries = self.read_file()?;
        change(&mut entries)?;
        let text = toml::to_string(&entries)
            .map_err(|error| Error::Users { file: self.file.clone(), message: error.to_string() })?;
        let next = self.file.with_extension("toml.next");
        let written = private(&next).and_then(|mut file| {
            file.write_all(b"# Users of `lakebed serve`. `lakebed user` writes this file.\n\n")?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, &self.file)
        });
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
        written.map_err(failed)
    }
}

/// A new file that its owner alone may read.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn stamp(secret_hash: &str) -> String {
    blake3::hash(secret_hash.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> (tempfile::TempDir, Users) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CONFIG_FILE), "").unwrap();
        let users = Users::of(directory.path());
        (directory, users)
    }

    #[test]
    fn a_user_logs_in_with_the_password_or_a_token_and_the_file_has_neither() {
        let (directory, users) = users();
        let now = DateTime::UNIX_EPOCH;
        assert!(!users.are_there().unwrap());
        users.set_password("ana", "correct:horse").unwrap();
        let ana = users.of_password("ana", "correct:horse").unwrap().unwrap();
        assert_eq!(ana.name, "ana");
        assert!(users.is_good(&ana, now).unwrap());
        for (name, wrong) in [("ana", "correct"), ("bob", "correct:horse"), ("", ""), ("ana", "")] {
            assert_eq!(users.of_password(name, wrong).unwrap(), None, "{name} {wrong}");
        }
        let hour = now + chrono::TimeDelta::hours(1);
        let secret = users.add_token("ana", "grafana", Some(hour), now).unwrap();
        let by_token = users.of_token(&secret, now).unwrap().unwrap();
        assert_eq!(by_token.name, "ana");
        assert_eq!(users.of_password("ana", &secret).unwrap(), None, "a token is no password");
        assert_eq!(users.of_token(&secret, hour).unwrap(), None, "it has expired");
        assert!(!users.is_good(&by_token, hour).unwrap() && users.is_good(&ana, hour).unwrap());
        let text = fs::read_to_string(directory.path().join(USERS_FILE)).unwrap();
        assert!(!text.contains("horse") && !text.contains(&secret[PREFIX.len()..]), "{text}");
        users.set_password("ana", "another horse").unwrap();
        assert!(!users.is_good(&ana, now).unwrap() && users.is_good(&by_token, now).unwrap());
        // Another process changes the file.
        Users::of(directory.path()).remove("ana", Some("grafana")).unwrap();
        assert!(!users.is_good(&by_token, now).unwrap());
        users.remove("ana", None).unwrap();
        assert!(users.list().unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let (directory, users) = users();
        for name in ["", "a:b", "a\nb"] {
            assert!(matches!(users.set_password(name, "long enough"), Err(Error::UserName { .. })), "{name:?}");
        }
        assert!(matches!(users.set_password("ana", "short"), Err(Error::ShortPassword { .. })));
        assert!(matches!(users.set_password("ana", "lakebed_secret"), Err(Error::TokenForPassword)));
        assert!(matches!(users.remove("ana", None), Err(Error::NoUser { .. })));
        assert!(matches!(users.add_token("ana", "t", None, Utc::now()), Err(Error::NoUser { .. })));
        assert!(!directory.path().join(USERS_FILE).exists());
        fs::write(directory.path().join(USERS_FILE), "[[user]]\nname = \"ana\"\nrole = 1\n").unwrap();
        let said = users.list().unwrap_err().to_string();
        assert!(said.contains("users.toml") && said.contains("line 3"), "{said}");
    }
}
