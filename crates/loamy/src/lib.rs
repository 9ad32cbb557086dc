//! A list of HTTP requests goes in; one outcome per request comes out, in order, whatever happened on the way.
//!
//! ```no_run
//! use loamy::{Client, Policy, Request};
//!
//! let client = Client::new()?;
//! let rows = (1..=100).map(|n| Request::get(format!("http://127.0.0.1:8080/items/{n}")));
//! for outcome in client.run(rows, &Policy::default().concurrency(20)) {
//!     match outcome.result {
//!         Ok(response) => println!("{} {} bytes", response.status(), response.body().len()),
//!         Err(error) => println!("row {}: {error}", outcome.index),
//!     }
//! }
//! # Ok::<(), loamy::Error>(())
//! ```
//!
//! # From the top
//!
//! A [`Client`] has the threads and the connections; make one and keep it, clones are the same one. It is given rows, which
//! are [`Request`]s or what becomes one (a URL, an `http::Request<Bytes>`), and a [`Policy`], which says how they are sent. It
//! gives an [`Outcome`] for each row: a [`Response`], or an [`Error`] with its [`Kind`]. Building a request never fails; what
//! is wrong with it is its outcome, and stops no other row. A status of 4xx or 5xx is a response.
//!
//! [`Client::run`] takes a list and gives a list. [`Client::stream`] takes an iterator of any length and is one, in the
//! [`Order`] you say. [`Client::run_async`] and [`Client::stream_async`] are the same on any executor. The blocking ones wait
//! on a condition variable and never on a runtime, so they may be called inside tokio too, where they hold up their thread.
//! [`Client::begin`] is for doors of other languages: a [`Run`] that its owner feeds and drains.
//!
//! Dropping what a call returned cancels what is left of it. After that no byte of it is written.
//!
//! # What it replaces
//!
//! A loop around an asynchronous client: the semaphore, `buffer_unordered`, putting answers back in order, the timeout around
//! each request, the decision whether a broken one may be sent again, and the place where a panic of one request lost the
//! others. It does not replace a client for single requests: there is no streaming of one body, and no connection to hold.
//!
//! It speaks HTTP/1.1 and HTTP/2, in plain and over TLS ([`TlsProfile`], [`HttpVersion`]); no HTTP/3, no proxies, no cookies
//! yet.
//!
//! # How it treats servers
//!
//! A row is sent again with proof that nothing happened, or, if it is idempotent, when a kept-alive connection died under it;
//! beyond that only as [`Policy::retries`] allows, after a wait that grows, within a budget for each origin. An origin that answers
//! 429, or 503 with Retry-After, is left alone for as long as it asks, and one that publishes its quota is paced by it
//! ([`Governor`]). What you set yourself is a [`Limit`], in rows or in whatever a row costs.
//!
//! ```
//! use loamy::{Limit, Overrides, Policy, Request};
//!
//! let policy = Policy::default()
//!     .retries(3)
//!     .limit(Limit::new("requests", "500/min".parse()?))
//!     .limit(Limit::new("tokens", "40000/min".parse()?));
//! let row = Request::post("http://127.0.0.1:8080/complete", "{}").overrides(Overrides::default().cost("tokens", 900));
//! # Ok::<(), loamy::Error>(())
//! ```
//!
//! # What outlives the process
//!
//! With a [`Journal`] ([`Client::with_journal`]) a run that was broken off, by a crash too, goes on where it stood: what is done is
//! not sent again and has the outcome that it had. Rows that must not be sent twice (a POST without an `Idempotency-Key`) are on
//! disk before their first byte, so after a crash they are in doubt and never sent silently; the others may be sent again. Exactly
//! once is impossible over HTTP; exactly one record for each row is what there is.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `journal` | yes | [`Journal`]: batches that outlive the process; its SQLite is built with a C compiler |
//! | `decompression` | yes | gzip, deflate, br and zstd are asked for and decoded; without it `Accept-Encoding: identity` is sent |
//!
//! # Minimum Rust version
//!
//! Rust 1.88. Raising it is a change of the minor version.

#![cfg_attr(
    not(feature = "journal"),
    allow(dead_code, reason = "nothing but a journal has a word for the batch")
)]

mod adaptive;
mod backoff;
mod batch;
mod breaker;
mod client;
mod clock;
mod decode;
mod duplicates;
mod error;
mod exchange;
mod framing;
mod gate;
mod governor;
mod growth;
mod headers;
mod hint;
mod idempotency;
mod job;
#[cfg(feature = "journal")]
mod journal;
mod kind;
mod ledger;
mod limiter;
mod mask;
mod memory;
mod outcome;
mod plan;
mod policy;
mod pool;
mod progress;
mod quotas;
mod rate;
mod redirect;
mod request;
mod response;
mod retry;
mod run;
mod runtime;
mod seat;
#[cfg(test)]
mod simulation;
mod stream;
mod target;
mod tls;
mod transport;
mod worker;

pub use bytes::Bytes;
#[cfg(feature = "journal")]
pub use client::Journaled;
pub use client::{Client, ClientBuilder};
pub use error::Error;
pub use headers::{HeaderView, Headers, is_secret};
#[cfg(all(feature = "_fuzz", feature = "journal"))]
#[doc(hidden)]
pub use journal::drill as unstable_drill;
#[cfg(feature = "journal")]
pub use journal::{Journal, JournalError, JournalOptions, Trouble};
pub use kind::{KINDS, Kind, KindRow, Resend};
pub use mask::MaskedUrl;
pub use memory::memory_limit;
pub use outcome::{Attempt, Outcome, Timing};
pub use policy::{
    Adaptive, Backoff, Downgrade, Duplicates, Governor, Hedging, HttpVersion, Idempotency, Policy, Retried,
    Sizes, Timeouts,
};
pub use progress::{Outlook, Pause, Progress};
pub use rate::{Limit, Rate, Scope};
pub use request::{Overrides, Request};
pub use response::Response;
pub use run::Run;
pub use stream::{Order, Rows, Stream};
pub use tls::{KeyLog, Tls, TlsProfile, TlsVersion, Verify};
pub use transport::dns::{Dns, FixedDns};
#[cfg(feature = "_fuzz")]
#[doc(hidden)]
pub use transport::h1::door as unstable_codec;
