//! Whether a response sends the row elsewhere, and what goes there.

use http::Method;

use crate::headers::Headers;
use crate::policy::Downgrade;
use crate::request::Request;
use crate::target::{self, Origin, Target};
use crate::{Error, Kind, Policy, Response};

/// What becomes of a row whose response may be a redirect.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The response is the answer.
    Answer,
    /// The row goes on to another URL.
    Follow(Target),
    /// The redirect cannot be followed.
    Refuse(Error),
}

/// Whether a status with a Location means: ask there (RFC 9110 §15.4).
pub(crate) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// How many redirects the row follows in all.
pub(crate) fn limit(request: &Request, policy: &Policy) -> u16 {
    request.overrides.as_ref().and_then(|own| own.max_redirects).unwrap_or(policy.max_redirects)
}

/// Decides by the response and by how many redirects led to it.
pub(crate) fn verdict(request: &Request, followed: u16, response: &Response, policy: &Policy) -> Verdict {
    let limit = limit(request, policy);
    if limit == 0 || !is_redirect(response.status()) {
        return Verdict::Answer;
    }
    let Some(location) = response.headers().get("location") else {
        return Verdict::Answer;
    };
    if followed >= limit {
        return Verdict::Refuse(Error::new(Kind::Redirect, format!("more than {limit} redirects")));
    }
    match target::join(&request.url, location) {
        Ok(target) if is_downgrade(&request.url, &target.origin) && policy.downgrade == Downgrade::Refuse => {
            let from = "the redirect leads from https to http, where anyone on the way could read it";
            let hint = "allow_downgrade=True follows it";
            Verdict::Refuse(Error::new(Kind::Blocked, from).with_hint(hint))
        }
        Ok(target) => Verdict::Follow(target),
        Err(error) => Verdict::Refuse(error),
    }
}

fn is_downgrade(from: &str, to: &Origin) -> bool {
    to.scheme == target::Scheme::Http && from.starts_with("https:")
}

/// Changes the request into the one that the redirect asks for.
pub(crate) fn follow(request: &mut Request, status: u16, from: &Origin, to: &Origin, policy: &Policy) {
    let becomes_get = match status {
        303 => request.method != Method::HEAD && request.method != Method::GET,
        301 | 302 => request.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        request.method = Method::GET;
        request.body = None;
        for name in
            ["content-type", "content-length", "content-encoding", "content-language", "content-location"]
        {
            request.headers.remove(name);
        }
    }
    if from != to {
        request.headers.remove("host");
        leave_behind(&mut request.headers, policy);
    }
}

/// Removes what another origin than that of the row is not to see.
pub(crate) fn leave_behind(headers: &mut Headers, policy: &Policy) {
    for name in ["authorization", "cookie", "proxy-authorization"] {
        headers.remove(name);
    }
    for name in &policy.secret_headers {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str, port: u16) -> Origin {
        Origin { scheme: target::Scheme::Http, host: host.into(), port }
    }

    fn redirect(status: u16, location: Option<&str>) -> Response {
        let lines = location.map(|to| format!("Location: {to}\r\n")).unwrap_or_default();
        Response {
            status,
            version: http::Version::HTTP_11,
            redirects: 0,
            head: lines.len() as u32,
            bytes: lines.into_bytes().into(),
            url: "".into(),
        }
    }

    #[test]
    fn g1_a_redirect_is_followed_kept_or_refused() {
        let policy = Policy::default();
        let request = Request::get("http://h/a/b");
        let verdict =
            |status, location, followed| verdict(&request, followed, &redirect(status, location), &policy);
        for (location, url) in [
            ("c", "http://h/a/c"),
            ("/c", "http://h/c"),
            ("//x/y", "http://x/y"),
            ("http://x:1/", "http://x:1/"),
            ("?q", "http://h/a/b?q"),
        ] {
            let Verdict::Follow(target) = verdict(302, Some(location), 0) else { panic!("{location}") };
            assert_eq!(target.url, url);
        }
        assert!(matches!(verdict(302, None, 0), Verdict::Answer));
        assert!(matches!(verdict(304, Some("/c"), 0), Verdict::Answer));
        for (location, followed, kind) in [
            ("javascript:alert(1)", 0, Kind::Blocked),
            ("ftp://x/", 0, Kind::Blocked),
            ("http://", 0, Kind::Redirect),
            ("http://x:99999/", 0, Kind::Redirect),
            ("/c", 10, Kind::Redirect),
        ] {
            let Verdict::Refuse(error) = verdict(302, Some(location), followed) else { panic!("{location}") };
            assert_eq!(error.kind(), kind, "{location}");
        }
        let none = Policy::default().max_redirects(0);
        assert!(matches!(super::verdict(&request, 0, &redirect(302, Some("/c")), &none), Verdict::Answer));
    }

    #[test]
    fn g2_301_302_and_303_make_a_post_a_get_and_307_and_308_do_not() {
        for (method, status, then) in [
            ("POST", 301, "GET"),
            ("POST", 302, "GET"),
            ("POST", 303, "GET"),
            ("POST", 307, "POST"),
            ("POST", 308, "POST"),
            ("PUT", 302, "PUT"),
            ("PUT", 303, "GET"),
            ("HEAD", 303, "HEAD"),
        ] {
            let mut request =
                Request::new(method, "http://h/").body("x").header("Content-Type", "text/plain");
            follow(&mut request, status, &origin("h", 80), &origin("h", 80), &Policy::default());
            assert_eq!(request.method, then, "{method} {status}");
            assert_eq!(request.body.is_some(), method == then, "{method} {status}");
            assert_eq!(request.headers().get("content-type").is_some(), method == then, "{method} {status}");
        }
    }

    #[test]
    fn g3_credentials_stay_behind_when_host_or_port_changes() {
        let request = || {
            Request::get("http://h/")
                .header("Authorization", "a")
                .header("Cookie", "b")
                .header("X-Api-Key", "c")
                .header("Accept", "d")
        };
        let policy = Policy { secret_headers: vec!["x-api-key".to_owned()], ..Policy::default() };
        for (to, kept) in [(origin("h", 80), true), (origin("h", 81), false), (origin("g", 80), false)] {
            let mut request = request();
            follow(&mut request, 302, &origin("h", 80), &to, &policy);
            for name in ["authorization", "cookie", "x-api-key"] {
                assert_eq!(request.headers().get(name).is_some(), kept, "{name} to {to}");
            }
            assert!(request.headers().get("accept").is_some());
        }
    }
}
