//! Rows that ask for the same: which of them is sent, and what the others get.

use std::collections::HashMap;

use bytes::Bytes;
use http::Method;

use crate::Outcome;
use crate::request::Request;

/// The rows of a batch that were seen so far, by what they ask for. Not to be printed: headers hold secrets.
#[derive(Default)]
pub(crate) struct Sharing {
    first: HashMap<Same, usize>,
    by_first: HashMap<usize, Shared>,
    waiting: usize,
}

/// What is to be done with a row.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nobody asked for it before: it is sent.
    New,
    /// It gets its outcome with that of the row before.
    UnderWay,
    /// Here it is.
    Ended(Outcome),
}

/// What two rows must have in common.
#[derive(PartialEq, Eq, Hash)]
struct Same {
    method: Method,
    url: String,
    /// Of the URL's own user and password, which its text has no more.
    authorization: Option<Box<str>>,
    /// Names in lower case, in the order given.
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Bytes>,
}

#[derive(Debug)]
enum Shared {
    UnderWay(Vec<(usize, Option<Box<str>>)>),
    Ended(Outcome),
}

impl Sharing {
    /// Looks for a row that asked for the same. Rows that want something of their own (a time limit, a certificate) share with
    /// nobody.
    ///
    /// `authorization` is what the row's URL said of its user.
    pub(crate) fn find(&mut self, index: usize, request: &mut Request, authorization: Option<&str>) -> Found {
        if !request.method.is_safe() || request.overrides.is_some() {
            return Found::New;
        }
        let headers = request.headers.view().iter();
        let same = Same {
            method: request.method.clone(),
            url: request.url.clone(),
            authorization: authorization.map(Into::into),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect(),
            body: request.body.clone(),
        };
        let first = *self.first.entry(same).or_insert(index);
        match self.by_first.entry(first).or_insert_with(|| Shared::UnderWay(Vec::new())) {
            _ if first == index => Found::New,
            Shared::UnderWay(others) => {
                others.push((index, request.tag.take()));
                self.waiting += 1;
                Found::UnderWay
            }
            Shared::Ended(outcome) => Found::Ended(outcome.of_another(index, request.tag.take())),
        }
    }

    /// A row ended: gives the outcomes of those that waited for it.
    pub(crate) fn ended(&mut self, outcome: &Outcome) -> Vec<Outcome> {
        let Some(shared @ Shared::UnderWay(_)) = self.by_first.get_mut(&outcome.index) else {
            return Vec::new();
        };
        let Shared::UnderWay(others) = std::mem::replace(shared, Shared::Ended(outcome.clone())) else {
            return Vec::new();
        };
        self.waiting -= others.len();
        others.into_iter().map(|(index, tag)| outcome.of_another(index, tag)).collect()
    }

    /// Rows that wait for the outcome of another.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Kind};

    fn outcome(index: usize) -> Outcome {
        let result = Err(Error::new(Kind::Closed, "gone"));
        Outcome { attempts: 2, ..Outcome::unsent(index, Some("first".into()), result) }
    }

    #[test]
    fn only_safe_rows_that_ask_for_the_very_same_share() {
        let get = || Request::get("http://h/a").header("Accept", "*/*");
        for (other, shares) in [
            (get(), true),
            (Request::get("http://h/a").header("accept", "*/*"), true),
            (get().tag("its own"), true),
            (Request::get("http://h/a"), false),
            (Request::get("http://h/b").header("Accept", "*/*"), false),
            (Request::new("HEAD", "http://h/a").header("Accept", "*/*"), false),
            (get().header("Accept", "*/*"), false),
            (get().body("x"), false),
            (get().overrides(crate::Overrides::default().max_redirects(1)), false),
        ] {
            let mut sharing = Sharing::default();
            assert!(matches!(sharing.find(0, &mut get(), None), Found::New));
            let found = sharing.find(1, &mut other.clone(), None);
            assert_eq!(matches!(found, Found::UnderWay), shares, "{other:?}");
        }
        let mut sharing = Sharing::default();
        for index in 0..3 {
            assert!(matches!(sharing.find(index, &mut Request::new("PUT", "http://h/"), None), Found::New));
        }
    }

    #[test]
    fn what_is_asked_for_as_another_user_is_not_the_same() {
        let mut sharing = Sharing::default();
        for (index, (user, is_new)) in [
            (Some("Basic YTph"), true),
            (Some("Basic Yjpi"), true),
            (None, true),
            (Some("Basic YTph"), false),
        ]
        .into_iter()
        .enumerate()
        {
            let found = sharing.find(index, &mut Request::get("http://h/me"), user);
            assert_eq!(matches!(found, Found::New), is_new, "row {index}");
        }
    }

    #[test]
    fn all_get_the_outcome_of_the_first_with_their_own_index_and_tag() {
        let mut sharing = Sharing::default();
        sharing.find(3, &mut Request::get("http://h/"), None);
        sharing.find(4, &mut Request::get("http://h/").tag("second"), None);
        assert_eq!(sharing.waiting(), 1);
        let others = sharing.ended(&outcome(3));
        let Found::Ended(late) = sharing.find(9, &mut Request::get("http://h/"), None) else { panic!() };
        let seen: Vec<_> = others.iter().chain([&late]).map(|own| (own.index, own.tag.as_deref())).collect();
        assert_eq!(seen, [(4, Some("second")), (9, None)]);
        assert!(others.iter().chain([&late]).all(|own| own.attempts == 0 && own.result.is_err()));
        assert_eq!(sharing.waiting(), 0);
        assert!(sharing.ended(&outcome(7)).is_empty());
    }

    #[test]
    fn what_is_kept_of_an_answer_is_its_body_and_no_copy_of_it() {
        let mut sharing = Sharing::default();
        sharing.find(0, &mut Request::get("http://h/"), None);
        sharing.find(1, &mut Request::get("http://h/"), None);
        let bytes = vec![b'x'; 1000].into();
        let (version, url) = (http::Version::HTTP_11, Box::default());
        let answer = crate::Response { status: 200, version, redirects: 0, head: 0, bytes, url };
        let first = Outcome { result: Ok(answer), ..outcome(0) };
        let mut all = sharing.ended(&first);
        let Found::Ended(late) = sharing.find(2, &mut Request::get("http://h/"), None) else { panic!() };
        all.extend([late, first]);
        let bodies: Vec<_> = all.iter().map(|own| own.response().unwrap().body().as_ptr()).collect();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    }
}
