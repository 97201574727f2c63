//! What clients carry for the server: tickets, prepared statements, transactions, session options. Each is a message and a keyed
//! hash over it (BLAKE3), so that every server with the same key answers it and nobody without the key can make or change one.

use bytes::Bytes;
use prost::Message;
use tonic::Status;
use uuid::Uuid;

use crate::terms::CarriedTerms;

/// Bytes of the hash before the message.
const HASH: usize = 16;

/// What signs handles. Servers that share it answer each other's.
#[derive(Clone)]
pub struct Key([u8; blake3::KEY_LEN]);

impl Key {
    /// A key of this process alone: nothing that it signs outlives it.
    pub fn of_this_process() -> Self {
        // 244 random bits of the system.
        let mut random = blake3::Hasher::new();
        random.update(Uuid::new_v4().as_bytes()).update(Uuid::new_v4().as_bytes());
        Self(*random.finalize().as_bytes())
    }

    /// The key that a secret gives.
    pub fn of_secret(secret: &[u8]) -> Self {
        Self(blake3::derive_key("lakebed 2026 handles of Flight SQL", secret))
    }

    /// A hash that says nothing to whoever has not the key.
    pub(crate) fn digest(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }

    pub(crate) fn sign(&self, kind: Kind, message: &impl Message) -> Bytes {
        let body = message.encode_to_vec();
        let mut handle = self.hash(kind, &body).to_vec();
        handle.extend(body);
        handle.into()
    }

    /// Reads a handle of this kind.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for one that was not signed with this key, or was changed since.
    pub(crate) fn open<M: Message + Default>(&self, kind: Kind, handle: &[u8]) -> Result<M, Status> {
        let parts = handle.split_at_checked(HASH);
        // blake3's own comparison takes as long for every input.
        let signed = parts.filter(|(hash, body)| {
            let (mut given, mut right) = ([0; blake3::OUT_LEN], [0; blake3::OUT_LEN]);
            given[..HASH].copy_from_slice(hash);
            right[..HASH].copy_from_slice(&self.hash(kind, body));
            blake3::Hash::from_bytes(given) == blake3::Hash::from_bytes(right)
        });
        signed.and_then(|(_, body)| M::decode(body).ok()).ok_or_else(|| {
            let what = kind.name();
            Status::invalid_argument(format!(
                "the {what} is none of this server's, or was changed\nhint: ask for a new one"
            ))
        })
    }

    fn hash(&self, kind: Kind, body: &[u8]) -> [u8; HASH] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[kind as u8]).update(body);
        let mut hash = [0; HASH];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..HASH]);
        hash
    }
}

/// What a handle is for: one of a kind is none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Ticket = 1,
    Prepared = 2,
    Transaction = 3,
    Session = 4,
    Login = 5,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Prepared => "prepared statement",
            Self::Transaction => "transaction",
            Self::Session => "session",
            Self::Login => "login",
        }
    }
}

/// A statement on its way from one call to the next.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CarriedStatement {
    #[prost(string, tag = "1")]
    pub(crate) sql: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) terms: Option<CarriedTerms>,
    /// Values of its parameters, as an Arrow IPC stream of one batch; empty where none were given.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) parameters: Bytes,
    /// The hash of the columns that were promised.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) promised: Bytes,
    /// Another one each time: two tickets for the same statement are two.
    #[prost(fixed64, tag = "5")]
    pub(crate) number: u64,
    /// Seconds since 1970 after which it is no longer answered; 0 for ever.
    #[prost(uint64, tag = "6")]
    pub(crate) expires: u64,
    /// Who asked; nobody else is answered.
    #[prost(string, tag = "7")]
    pub(crate) user: String,
}

/// A read-only transaction: a version that every statement of it reads.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CarriedTransaction {
    #[prost(uint64, tag = "1")]
    pub(crate) version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_opened_by_its_key_and_as_its_kind_alone() {
        let key = Key::of_secret(b"a");
        let handle = key.sign(Kind::Transaction, &CarriedTransaction { version: 7 });
        let open = |key: &Key, kind, handle: &[u8]| key.open::<CarriedTransaction>(kind, handle);
        assert_eq!(open(&Key::of_secret(b"a"), Kind::Transaction, &handle).unwrap().version, 7);
        assert!(open(&Key::of_secret(b"b"), Kind::Transaction, &handle).is_err());
        assert!(open(&key, Kind::Ticket, &handle).is_err());
        for at in 0..handle.len() {
            let mut changed = handle.to_vec();
            changed[at] ^= 1;
            assert_eq!(open(&key, Kind::Transaction, &changed).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert!(open(&key, Kind::Transaction, b"short").is_err());
        assert_ne!(Key::of_this_process().0, Key::of_this_process().0);
    }
}
