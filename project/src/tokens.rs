//! Who may write to a lake over the network: tokens, of which the lake knows the hash alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lakebed_log::{Put, Store, layout};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// What every secret begins with, so that scanners of repositories and logs know one when they see it.
const PREFIX: &str = "lakebed_";

/// A token that was found is good for this long without another look; then its removal takes effect.
const FRESH: Duration = Duration::from_secs(10);

/// A token as the lake knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What people call it.
    pub name: String,
    /// The source of every event that comes with it, unless the event names its own.
    pub source: String,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// The tokens of a lake. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
    seen: Arc<Mutex<HashMap<String, (Token, Instant)>>>,
}

/// What the names of other senders' batches begin with.
const TAKEN_NAMES: [&str; 4] = ["http", "kinesis", "s3", "sqs"];

impl Tokens {
    /// Those of the lake in a store.
    pub fn new(store: Store) -> Self {
        Self { store, seen: Arc::default() }
    }

    /// Makes a token and gives its secret, which nobody can find out again.
    ///
    /// # Errors
    /// [`Error::TokenExists`] for a name that is taken, [`Error::TokenName`] for one that none can have; any failure of the
    /// store.
    pub async fn add(&self, name: &str, source: &str, at: DateTime<Utc>) -> Result<String> {
        // The names of its batches begin with it.
        if name.is_empty() || name.contains('/') || TAKEN_NAMES.contains(&name) {
            return Err(Error::TokenName { name: name.to_owned() });
        }
        if self.list().await?.iter().any(|token| token.name == name) {
            return Err(Error::TokenExists { name: name.to_owned() });
        }
        // 244 random bits from the system: nothing to guess, so a plain hash keeps the secret.
        let secret = format!("{PREFIX}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let token = Token { name: name.to_owned(), source: source.to_owned(), created: at };
        match self.store.put_json_if_absent(&layout::token(&hash(&secret)), &token).await? {
            Put::Created | Put::Exists => Ok(secret),
        }
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn list(&self) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for object in self.store.list(&layout::tokens()).await? {
            tokens.extend(self.store.get_json::<Token>(&object.location).await?);
        }
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tokens)
    }

    /// Takes the token of a name away: servers refuse it within ten seconds.
    ///
    /// # Errors
    /// [`Error::NoToken`] where there is none of that name; any failure of the store.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let mut removed = false;
        for object in self.store.list(&layout::tokens()).await? {
            if self.store.get_json::<Token>(&object.location).await?.is_some_and(|token| token.name == name) {
                self.store.delete(&object.location).await?;
                removed = true;
            }
        }
        if removed { Ok(()) } else { Err(Error::NoToken { name: name.to_owned() }) }
    }

    /// The token that a secret belongs to.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn of_secret(&self, secret: &str) -> Result<Option<Token>> {
        if !secret.starts_with(PREFIX) {
            return Ok(None);
        }
        let hash = hash(secret);
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, at)) = seen().get(&hash)
            && at.elapsed() < FRESH
        {
            return Ok(Some(token.clone()));
        }
        let token: Option<Token> = self.store.get_json(&layout::token(&hash)).await?;
        match &token {
            Some(token) => seen().insert(hash, (token.clone(), Instant::now())),
            None => seen().remove(&hash),
        };
        Ok(token)
    }
}

fn hash(secret: &str) -> String {
    blake3::hash(secret.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lake_knows_a_token_and_not_its_secret() {
        let (store, at) = (Store::memory(), DateTime::UNIX_EPOCH);
        let tokens = Tokens::new(store.clone());
        let secret = tokens.add("shop", "web", at).await.unwrap();
        assert_eq!(tokens.of_secret(&secret).await.unwrap().unwrap().source, "web");
        assert_eq!(tokens.of_secret("lakebed_x").await.unwrap(), None);
        assert_eq!(tokens.of_secret("").await.unwrap(), None);
        for object in store.list(&layout::tokens()).await.unwrap() {
            let bytes = store.get(&object.location).await.unwrap().unwrap();
            let there = format!("{} {}", object.location, String::from_utf8_lossy(&bytes));
            assert!(!there.contains(secret.trim_start_matches(PREFIX)), "{there}");
        }
        assert!(matches!(tokens.add("shop", "app", at).await, Err(Error::TokenExists { .. })));
        let other = tokens.add("app", "app", at).await.unwrap();
        assert_ne!(secret, other);
        let names: Vec<_> = tokens.list().await.unwrap().into_iter().map(|token| token.name).collect();
        assert_eq!(names, ["app", "shop"]);
        tokens.remove("shop").await.unwrap();
        assert!(matches!(tokens.remove("shop").await, Err(Error::NoToken { .. })));
        // Another server, or this one when it looks again.
        assert_eq!(Tokens::new(store).of_secret(&secret).await.unwrap(), None);
    }
}
