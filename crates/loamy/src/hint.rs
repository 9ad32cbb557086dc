//! What a person can do about a failure, in one line.

use std::borrow::Cow;

use crate::target::Origin;
use crate::{Error, Kind};

/// A hint for a connection that could not be made.
pub(crate) fn for_connection(kind: Kind, origin: &Origin) -> Option<Cow<'static, str>> {
    let host = origin.host.trim_matches(['[', ']']);
    let is_loopback =
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if is_loopback {
        return (kind == Kind::ConnectRefused).then(|| {
            format!("nothing listens on port {} of this machine; is the server running?", origin.port).into()
        });
    }
    ignored_proxy(environment).map(Cow::Owned)
}

/// The error with a further hint behind the one that it may have.
pub(crate) fn also(error: Error, further: String) -> Error {
    let hint = match error.hint() {
        Some(hint) => format!("{hint}; {further}"),
        None => further,
    };
    error.with_hint(hint)
}

/// Says that a proxy is set in the environment, which is not read unasked.
fn ignored_proxy(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .find(|name| variable(name).is_some_and(|value| !value.is_empty()))
        .map(|name| format!("{name} is set but not used: proxies are not spoken yet"))
}

#[expect(clippy::disallowed_methods, reason = "a hint may look at what was not used")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Scheme;

    #[test]
    fn a_refused_loopback_and_an_ignored_proxy_are_explained() {
        let origin = |host: &str| Origin { scheme: Scheme::Http, host: host.into(), port: 81 };
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            let hint = for_connection(Kind::ConnectRefused, &origin(host)).unwrap();
            assert_eq!(hint, "nothing listens on port 81 of this machine; is the server running?");
        }
        assert_eq!(for_connection(Kind::TimeoutConnect, &origin("127.0.0.1")), None);
        let set = |name: &str| (name == "ALL_PROXY").then(|| "socks5://p".to_owned());
        assert_eq!(ignored_proxy(set).unwrap(), "ALL_PROXY is set but not used: proxies are not spoken yet");
        assert_eq!(ignored_proxy(|_| Some(String::new())), None);
    }

    #[test]
    fn a_further_hint_stands_behind_the_first() {
        let error = also(Error::new(Kind::Closed, ""), "one".to_owned());
        assert_eq!(error.hint(), Some("one"));
        assert_eq!(also(error, "another".to_owned()).hint(), Some("one; another"));
    }
}
