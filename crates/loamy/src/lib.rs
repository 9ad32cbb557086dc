//! A list of HTTP requests goes in; one outcome per request comes out, in order, whatever happened on the way.
//!
//! ```no_run
//! use loamy::{Client, Policy, Request};
//!
//! let client = Client::new()?;
//! let rows = (1..=100).map(|n| Request::get(format!("http://127.0.0.1:8080/items/{n}")));
//! for outcome in client.run(rows, &Policy::default()) {
//!     match outcome.result {
//!         Ok(response) => println!("{} {} bytes", response.status(), response.body().len()),
//!         Err(error) => println!("row {}: {error}", outcome.index),
//!     }
//! }
//! # Ok::<(), loamy::Error>(())
//! ```
#![warn(missing_docs)]

mod batch;
mod client;
mod decode;
mod error;
mod exchange;
mod gate;
mod headers;
mod hint;
mod kind;
mod ledger;
mod mailbox;
mod mask;
mod outcome;
mod plan;
mod policy;
mod pool;
mod progress;
mod redirect;
mod request;
mod response;
mod retry;
mod run;
mod runtime;
#[cfg(test)]
mod simulation;
mod stream;
mod target;
mod transport;
mod worker;

pub use bytes::Bytes;
pub use client::{Client, ClientBuilder};
pub use error::Error;
pub use headers::{HeaderView, Headers, is_secret};
pub use kind::{KINDS, Kind, KindRow, Resend};
pub use mask::MaskedUrl;
pub use outcome::{Outcome, Timing};
pub use policy::{Policy, Sizes, Timeouts};
pub use progress::Progress;
pub use request::{Overrides, Request};
pub use response::Response;
pub use run::Run;
pub use stream::{Order, Rows, Stream};
pub use transport::dns::{Dns, FixedDns};
#[cfg(feature = "_fuzz")]
#[doc(hidden)]
pub use transport::h1::door as unstable_codec;
