//! Who may ask. Where the project has users, every call says who it is of: by a password or a token of a user, or by a bearer that
//! was given for one. Where it has none, whoever reaches the server may ask, and it listens on loopback alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::alphabet::STANDARD as STANDARD_ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, PAD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use lakebed_project::{LoggedIn, Users};
use prost::Message;
use tokio::task::spawn_blocking;
use tonic::Status;

use crate::bounded::{Bounded, locked};
use crate::handles::{Key, Kind};
use crate::line::Line;
use crate::status;

/// Go's Flight client, and so ADBC's driver, leaves the padding out.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD_ALPHABET, PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// A bearer is good for so long; whoever asks after half of it is given another.
const BEARER_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// A password that was right is right for so long without another look: some clients send it with every call.
const FRESH: Duration = Duration::from_secs(60);

/// So many passwords are looked at side by side: each takes 19 MiB and some tens of milliseconds.
const HASHED_AT_ONCE: usize = 2;

/// So many wait for that at most.
const WAITING_TO_LOG_IN: usize = 64;

/// Passwords that are remembered as right.
const REMEMBERED: usize = 1_024;

/// The door of a server.
pub(crate) struct Gate {
    users: Users,
    /// Once there were users, or others than this machine's programs could ask: then a file that is gone lets nobody in.
    closed: AtomicBool,
    key: Key,
    right: Mutex<Bounded<blake3::Hash, (LoggedIn, Instant)>>,
    hashing: Line,
}

/// Somebody who was let in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest {
    /// The user's name; empty where there are no users.
    pub(crate) user: String,
    /// A bearer to use from now on.
    pub(crate) bearer: Option<String>,
}

/// What a bearer says, signed.
#[derive(Clone, PartialEq, Message)]
struct CarriedLogin {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    stamp: String,
    /// Seconds since 1970.
    #[prost(uint64, tag = "3")]
    expires: u64,
}

impl Gate {
    /// With `closed`, nobody is let in without a user.
    pub(crate) fn new(users: Users, key: Key, closed: bool) -> Self {
        let hashing = Line::new(HASHED_AT_ONCE, WAITING_TO_LOG_IN);
        Self { users, closed: AtomicBool::new(closed), key, right: Mutex::new(Bounded::new(REMEMBERED)), hashing }
    }

    /// Whether everybody is let in.
    ///
    /// # Errors
    /// UNAVAILABLE where the file of the users cannot be read: then nobody is.
    pub(crate) fn is_open(&self) -> Result<bool, Status> {
        if self.users.are_there().map_err(|error| broken(&error))? {
            self.closed.store(true, Ordering::Relaxed);
        }
        Ok(!self.closed.load(Ordering::Relaxed))
    }

    /// Lets in who an `authorization` header is of.
    ///
    /// # Errors
    /// UNAUTHENTICATED where it is nobody's.
    pub(crate) async fn enter(&self, authorization: Option<&str>) -> Result<Guest, Status> {
        if self.is_open()? {
            return Ok(Guest::default());
        }
        let Some((kind, value)) = authorization.and_then(|header| header.trim().split_once(' ')) else {
            return Err(Status::unauthenticated(
                "this server wants to know who asks\nhint: log in with a user and a password, or with a token",
            ));
        };
        match kind {
            kind if kind.eq_ignore_ascii_case("basic") => {
                let decoded = LENIENT.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                // A password may have a colon, and a name may not.
                let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
                let (user, password) = pair.ok_or_else(unreadable)?;
                self.log_in(user, password).await.map(|login| self.guest(&login, true))
            }
            kind if kind.eq_ignore_ascii_case("bearer") => self.of_bearer(value.trim()).await,
            _ => Err(unreadable()),
        }
    }

    /// Lets in a user with a password, or with a token in its place; the guest has a bearer.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub(crate) async fn enter_with(&self, user: &str, password: &str) -> Result<Guest, Status> {
        match self.is_open()? {
            true => Ok(Guest::default()),
            false => self.log_in(user, password).await.map(|login| self.guest(&login, true)),
        }
    }

    async fn log_in(&self, user: &str, password: &str) -> Result<LoggedIn, Status> {
        let asked = self.key.digest(format!("{user}\0{password}").as_bytes());
        let known = locked(&self.right).get(&asked).cloned();
        if let Some((login, _)) = known.filter(|(_, at)| at.elapsed() < FRESH)
            && self.users.is_good(&login, Utc::now()).map_err(|error| broken(&error))?
        {
            return Ok(login);
        }
        // A token is looked up, and hashed at no cost.
        if let Some(login) = self.users.of_token(password, Utc::now()).map_err(|error| broken(&error))? {
            return match user.is_empty() || login.name == user {
                true => Ok(login),
                false => Err(wrong()),
            };
        }
        let turn = self.hashing.turn().await.map_err(|_| status::come_again("too many log in at once"))?;
        let (users, name, password) = (self.users.clone(), user.to_owned(), password.to_owned());
        let looked = spawn_blocking(move || {
            // Whoever went away meanwhile is still being looked at.
            let _turn = turn;
            users.of_password(&name, &password)
        });
        let looked = looked.await;
        let looked = looked.map_err(|_| Status::unavailable("the server is stopping"))?;
        let login = looked.map_err(|error| broken(&error))?.ok_or_else(wrong)?;
        locked(&self.right).insert(asked, (login.clone(), Instant::now()));
        Ok(login)
    }

    async fn of_bearer(&self, bearer: &str) -> Result<Guest, Status> {
        let now = Utc::now();
        if let Some(login) = self.users.of_token(bearer, now).map_err(|error| broken(&error))? {
            return Ok(self.guest(&login, false));
        }
        let expired = || Status::unauthenticated("the login is no longer good\nhint: log in again");
        let opened = URL_SAFE_NO_PAD.decode(bearer).ok();
        let carried: CarriedLogin =
            opened.and_then(|handle| self.key.open(Kind::Login, &handle).ok()).ok_or_else(expired)?;
        let left = Duration::from_secs(carried.expires.saturating_sub(seconds(now)));
        let login = LoggedIn { name: carried.user, stamp: carried.stamp };
        match !left.is_zero() && self.users.is_good(&login, now).map_err(|error| broken(&error))? {
            true => Ok(self.guest(&login, left < BEARER_LIFE / 2)),
            false => Err(expired()),
        }
    }

    fn guest(&self, login: &LoggedIn, with_bearer: bool) -> Guest {
        let bearer = with_bearer.then(|| {
            let expires = seconds(Utc::now()) + BEARER_LIFE.as_secs();
            let carried = CarriedLogin { user: login.name.clone(), stamp: login.stamp.clone(), expires };
            URL_SAFE_NO_PAD.encode(self.key.sign(Kind::Login, &carried))
        });
        Guest { user: login.name.clone(), bearer }
    }
}

fn seconds(time: DateTime<Utc>) -> u64 {
    SystemTime::from(time).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn wrong() -> Status {
    Status::unauthenticated("the user or the password is wrong\nhint: `lakebed user add` sets a password")
}

fn unreadable() -> Status {
    Status::unauthenticated(
        "the authorization header is neither Basic nor Bearer\nhint: log in with a user and a password, or with a token",
    )
}

/// What is wrong with the file is for the server's operator, and not for who asks.
fn broken(error: &lakebed_project::Error) -> Status {
    tracing::error!("nobody is let in: {error}");
    Status::unavailable("the users of this server cannot be read now")
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

    use super::*;

    fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    #[test]
    fn padding_may_be_left_out() {
        for text in ["a:b", "a:bc", "a:bcd"] {
            for encoded in [STANDARD.encode(text), STANDARD_NO_PAD.encode(text)] {
                assert_eq!(LENIENT.decode(encoded).unwrap(), text.as_bytes());
            }
        }
    }

    #[tokio::test]
    async fn a_password_gives_a_bearer_that_ends_with_the_password() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lakebed.toml"), "").unwrap();
        let users = Users::of(directory.path());
        let gate = Gate::new(users.clone(), Key::of_secret(b"one"), false);
        assert_eq!(gate.enter(None).await.unwrap().user, "", "there are no users yet");
        users.set_password("ana", "pass:word:1").unwrap();
        for wrong in [None, Some("Bearer x"), Some("Basic ???"), Some("Digest x"), Some("Basic")] {
            let refused = gate.enter(wrong).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{wrong:?}");
        }
        assert!(gate.enter(Some(&basic("ana", "pass"))).await.is_err());
        let mut bearer = String::new();
        for _ in 0..2 {
            let guest = gate.enter(Some(&basic("ana", "pass:word:1"))).await.unwrap();
            assert_eq!(guest.user, "ana");
            bearer = format!("Bearer {}", guest.bearer.unwrap());
        }
        let guest = gate.enter(Some(&bearer)).await.unwrap();
        assert_eq!((guest.user.as_str(), guest.bearer), ("ana", None));
        // A server with the same key, and one with another.
        assert!(Gate::new(users.clone(), Key::of_secret(b"one"), false).enter(Some(&bearer)).await.is_ok());
        assert!(Gate::new(users.clone(), Key::of_secret(b"two"), false).enter(Some(&bearer)).await.is_err());
        let secret = users.add_token("ana", "grafana", None, Utc::now()).unwrap();
        for header in [format!("Bearer {secret}"), basic("ana", &secret), basic("", &secret)] {
            assert_eq!(gate.enter(Some(&header)).await.unwrap().user, "ana");
        }
        assert!(gate.enter(Some(&basic("bob", &secret))).await.is_err(), "another user's token");
        users.set_password("ana", "pass:word:2").unwrap();
        assert!(gate.enter(Some(&bearer)).await.is_err(), "it was given for the old password");
        assert!(gate.enter(Some(&basic("ana", "pass:word:1"))).await.is_err());
        // Users that are gone are no open door.
        users.remove("ana", None).unwrap();
        assert_eq!(gate.enter(None).await.unwrap_err().code(), tonic::Code::Unauthenticated);
        std::fs::remove_file(directory.path().join("users.toml")).unwrap();
        assert_eq!(gate.enter(None).await.unwrap_err().code(), tonic::Code::Unauthenticated);
        assert!(Gate::new(users, Key::of_secret(b"one"), true).enter(None).await.is_err());
        std::fs::write(directory.path().join("users.toml"), "broken").unwrap();
        assert_eq!(gate.enter(Some(&bearer)).await.unwrap_err().code(), tonic::Code::Unavailable);
    }
}
