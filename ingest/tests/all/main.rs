//! The binary `bootstrap` under a real Lambda runtime API: one test binary, a module a subject.

#[cfg(test)]
mod invoking;
#[cfg(test)]
mod mapping;
#[cfg(test)]
mod payloads;
#[cfg(test)]
mod place;
