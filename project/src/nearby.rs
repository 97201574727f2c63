//! Whether a request over HTTP, to a server that listens on loopback, is of a program on this machine. Others could come by a proxy
//! of this machine, or by a page in a browser of its user, who is not asked.

use std::net::IpAddr;

/// Headers of what came by a proxy, and so from anywhere.
const PROXIES: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Who may be behind a request besides a program on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Anybody who reaches a proxy.
    Proxy,
    /// Any site that a user of this machine visits.
    Browser,
    /// A page that the server gave by itself, which a user of this machine looks at.
    OwnPage,
}

/// Who else may have sent a request with these headers; `header` gives the value of the one with a name in small letters.
pub fn stranger<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<Stranger> {
    if PROXIES.iter().any(|name| header(name).is_some()) {
        return Some(Stranger::Proxy);
    }
    let host = header("host");
    // A name that somebody points at this machine has its own pages, too.
    if host.is_some_and(|host| !names_this_machine(host)) {
        return Some(Stranger::Browser);
    }
    let is_own = |origin: &str| origin.strip_prefix("http://").is_some_and(|from| Some(from) == host);
    header("origin").map(|origin| if is_own(origin) { Stranger::OwnPage } else { Stranger::Browser })
}

/// Whether a host is an address of this machine, and not a name that somebody points at it.
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_machine_are_no_strangers() {
        let of = |headers: &'static [(&str, &str)]| {
            stranger(move |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("host", "localhost:8080")]), None);
        assert_eq!(of(&[("host", "[::1]:8080")]), None);
        assert_eq!(of(&[("host", "127.0.0.1")]), None);
        assert_eq!(of(&[("host", "rebound.example:8080")]), Some(Stranger::Browser));
        assert_eq!(of(&[("host", "localhost"), ("origin", "https://a.example")]), Some(Stranger::Browser));
        assert_eq!(of(&[("host", "localhost"), ("x-forwarded-for", "192.0.2.1")]), Some(Stranger::Proxy));
    }

    #[test]
    fn a_page_is_the_servers_own_at_its_address_alone() {
        let of = |host: Option<&'static str>, origin: &'static str| {
            stranger(move |name| match name {
                "host" => host,
                "origin" => Some(origin),
                _ => None,
            })
        };
        for own in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"] {
            assert_eq!(of(Some(own), &format!("http://{own}").leak()[..]), Some(Stranger::OwnPage), "{own}");
        }
        for (host, origin) in [
            (Some("localhost:8080"), "http://localhost:3000"),
            (Some("localhost:8080"), "http://127.0.0.1:8080"),
            (Some("localhost:8080"), "https://localhost:8080"),
            (Some("localhost:8080"), "null"),
            (Some("localhost:8080"), ""),
            (None, "http://localhost:8080"),
            // A name of somebody's own that resolves to this machine.
            (Some("rebound.example:8080"), "http://rebound.example:8080"),
        ] {
            assert_eq!(of(host, origin), Some(Stranger::Browser), "{host:?} {origin}");
        }
    }
}
