//! The head of a request, as HTTP/2 has it: no line of its own, lower-case names, nothing about the connection.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

use crate::headers::HeaderView;
use crate::{Error, Kind};

/// What the `http` crate has room for.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;

/// What a request head is made of. All of it was checked when the row was admitted.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) scheme: &'a Scheme,
    /// Host and port of the origin; a `Host` of the row's own takes its place (RFC 9113 §8.3.1).
    pub(crate) authority: &'a Authority,
    /// Path and query.
    pub(crate) target: &'a str,
    /// The row's own fields.
    pub(crate) headers: HeaderView<'a>,
    /// Fields for every row, each left out when the row sets one of that name.
    pub(crate) defaults: &'a HeaderMap,
    /// The body's length, where there is a body.
    pub(crate) body_len: Option<u64>,
    /// The value of `Authorization` made from the URL, unless the row sets its own.
    pub(crate) authorization: Option<&'a str>,
}

/// Makes a request head.
///
/// # Errors
/// `bad_request` for what HTTP/1.1 can say and HTTP/2 cannot.
pub(crate) fn head(row: &RequestHead<'_>) -> Result<Request<()>, Error> {
    if row.method == Method::CONNECT {
        return Err(cannot("CONNECT is between a client and its proxy"));
    }
    let mut fields = row.defaults.clone();
    if let Some(authorization) = row.authorization {
        fields.insert(header::AUTHORIZATION, secret(value(authorization.as_bytes())?));
    }
    let mut host = None;
    let own = if row.headers.is_empty() { Vec::new() } else { own_fields(row.headers)? };
    for (name, _) in &own {
        fields.remove(name);
    }
    for (name, value) in own {
        match name {
            header::HOST => host = Some(value),
            header::AUTHORIZATION => _ = fields.append(name, secret(value)),
            // Checked to be that, in whatever letters; here only these may be said (RFC 9113 §8.2.2).
            header::TE => _ = fields.insert(name, HeaderValue::from_static("trailers")),
            name => _ = fields.append(name, value),
        }
    }
    let length = row.body_len.or_else(|| means_a_body(row.method).then_some(0));
    if let (Some(length), false) = (length, fields.contains_key(header::CONTENT_LENGTH)) {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let authority = match host {
        Some(host) => own_authority(host.as_bytes())?,
        None => row.authority.clone(),
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(row.scheme.clone());
    parts.authority = Some(authority);
    if row.target.len() > LONGEST_TARGET {
        let (length, most) = (row.target.len(), LONGEST_TARGET);
        return Err(cannot(&format!("the path with its query is {length} bytes long, more than {most}")));
    }
    let target = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(row.target.as_bytes()));
    parts.path_and_query = Some(target.map_err(|_| cannot("the path holds a byte that has no place in it"))?);
    let mut request = Request::new(());
    *request.method_mut() = row.method.clone();
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| cannot("the URL has no form there"))?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Ok(request)
}

/// A `Host` of the row's own. An authority has no user in it (RFC 9113 §8.3.1).
fn own_authority(host: &[u8]) -> Result<Authority, Error> {
    let authority = Authority::try_from(host).ok().filter(|_| !host.contains(&b'@'));
    authority.ok_or_else(|| cannot("the field Host is no authority"))
}

/// The fields of a policy in the form that every row begins with.
pub(crate) fn defaults(headers: HeaderView<'_>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in own_fields(headers).unwrap_or_default() {
        let value = if name == header::AUTHORIZATION { secret(value) } else { value };
        fields.append(name, value);
    }
    fields
}

/// Leaves out what HTTP/2 has no word for, because it is about the connection (RFC 9113 §8.2.2).
fn own_fields(headers: HeaderView<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    let mut fields = Vec::new();
    for (name, text) in headers.iter() {
        let is_of_connection =
            ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known));
        if !is_of_connection {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| cannot(&format!("header name {name:?} has no form there")))?;
            fields.push((name, value(text)?));
        }
    }
    Ok(fields)
}

/// A credential is never kept in the table of the connection, where its length could be guessed at (RFC 7541 §7.1).
fn secret(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Blanks around a value are no part of it (RFC 9110 §5.5), and here they may not be said (RFC 9113 §8.2.1).
fn value(mut text: &[u8]) -> Result<HeaderValue, Error> {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    HeaderValue::from_bytes(text).map_err(|_| cannot("a header value holds a byte that has no place in it"))
}

/// RFC 9110 §8.6: methods that define a meaning for a body say so even when there is none.
fn means_a_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// A row that HTTP/1.1 can say.
pub(crate) fn cannot(why: &str) -> Error {
    Error::new(Kind::BadRequest, format!("the request cannot be said in HTTP/2: {why}"))
        .with_hint("http_version=\"1.1\" sends it as it is")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;

    fn made(method: &str, own: &[(&str, &str)], body_len: Option<u64>) -> Result<Request<()>, Error> {
        let headers = Headers::of(own);
        let policy = Headers::of(&[("User-Agent", "loamy"), ("Authorization", "policy")]);
        head(&RequestHead {
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            scheme: &Scheme::HTTPS,
            authority: &Authority::from_static("h:8443"),
            target: "/a?b={c}",
            headers: headers.view(),
            defaults: &defaults(policy.view()),
            body_len,
            authorization: Some("url"),
        })
    }

    #[test]
    fn a_rows_own_fields_replace_those_of_its_url_and_policy() {
        let request = made("GET", &[("X-One", "1"), ("user-agent", "own"), ("x-one", "2")], None).unwrap();
        let fields = request.headers();
        assert_eq!(request.uri().to_string(), "https://h:8443/a?b={c}");
        assert_eq!(fields.get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(fields["user-agent"], "own");
        assert_eq!(fields["authorization"], "url");
        assert!(fields["authorization"].is_sensitive());
        assert!(!fields.contains_key("content-length"));
        assert_eq!(made("GET", &[("authorization", "own")], None).unwrap().headers()["authorization"], "own");
    }

    #[test]
    fn a6_what_is_of_the_connection_is_left_out_and_host_becomes_the_authority() {
        let own = [("Host", "other:1"), ("Connection", "close, te"), ("Keep-Alive", "5"), ("TE", "trailers")];
        let request = made("GET", &own, None).unwrap();
        assert_eq!(request.uri().authority().unwrap().as_str(), "other:1");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "te", "user-agent"]);
    }

    #[test]
    fn a6_blanks_around_a_value_stay_behind_and_te_is_written_in_one_way() {
        let own = [("X-Blank", " \t a b\t "), ("x-void", " \t"), ("TE", "Trailers"), ("te", "TRAILERS")];
        let request = made("GET", &own, None).unwrap();
        let fields = request.headers();
        assert_eq!((&fields["x-blank"], &fields["x-void"]), (&"a b".parse().unwrap(), &"".parse().unwrap()));
        assert_eq!(fields.get_all("te").iter().collect::<Vec<_>>(), ["trailers"]);
    }

    #[test]
    fn content_length_is_said_once_for_a_body_and_for_methods_that_mean_one() {
        for (method, own, body_len, expected) in [
            ("GET", &[][..], None, None),
            ("GET", &[], Some(3), Some("3")),
            ("POST", &[], None, Some("0")),
            ("POST", &[("content-length", "3")], Some(3), Some("3")),
        ] {
            let request = made(method, own, body_len).unwrap();
            let length = request.headers().get("content-length").map(|value| value.to_str().unwrap());
            assert_eq!(length, expected, "{method} {body_len:?}");
            assert!(request.headers().get_all("content-length").iter().count() < 2);
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused_by_name() {
        let error = made("CONNECT", &[], None).unwrap_err();
        assert_eq!(error.kind(), Kind::BadRequest);
        assert!(error.message().contains("CONNECT"), "{error}");
        for host in ["a b", "a@b", ":secret@b:1"] {
            assert!(made("GET", &[("Host", host)], None).unwrap_err().message().contains("Host"), "{host}");
        }
    }
}
