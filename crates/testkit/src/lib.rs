//! One scripted HTTP/1.1 test server, well-behaved and ill-behaved, on a port of its own.
//!
//! ```
//! use std::time::Duration;
//! use testkit::{Script, Server, Step};
//!
//! let server = Server::start(Script::parse([
//!     "read",
//!     "send HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhel",
//!     "close",
//! ])?);
//! let client = std::net::TcpStream::connect(server.addr());
//! std::io::Write::write_all(&mut client?, b"GET /x HTTP/1.1\r\nHost: here\r\n\r\n")?;
//! let log = server.wait_for(|log| log.requests.len() == 1, Duration::from_secs(5));
//! assert_eq!(log.requests[0].target, "/x");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # From the top
//!
//! A [`Server`] is one thread that listens on one address. [`Server::start`] plays a
//! [`Script`]: per connection a list of [`Step`]s. [`Server::serve`] is the well-behaved
//! half, with the routes below and [`Options`]. Both tell what they saw in a [`Log`]. Dropping
//! the server stops it, and fails the test when its thread panicked or an expectation of the
//! script was broken. [`refused_port`] and [`FullBacklog`] are addresses where nobody answers.
//!
//! # Steps as text
//!
//! One step a string: its name, one space, its arguments. TEXT runs to the end of the string
//! and knows the escapes `\r` `\n` `\t` `\0` `\\` and `\xNN`; any other is an error, and so is
//! an unknown step. TIME and PAUSE are numbers with `us`, `ms` or `s` (`1.5s`). SIZE is in
//! bytes or has a unit: `KB` `MB` `GB` (powers of 1,000), `KiB` `MiB` `GiB` (of 1,024). The
//! line `connection` begins the list of the next connection; the last list stands for all
//! further ones. At the end of its list a connection is closed.
//!
//! | step | what the server does |
//! |---|---|
//! | `read` | reads one request, its body by its framing |
//! | `read-head`, `read-body` | the same in two steps, to send something in between |
//! | `read-bytes N` | reads N bytes, whatever they are |
//! | `send TEXT` | sends the text |
//! | `send-hex 48 54…` | sends these bytes |
//! | `send-zeros SIZE` | sends so many zero bytes |
//! | `send-coded CODING[,CODING…] [OPTION…] : TEXT` | sends a whole response whose body is TEXT in these codings |
//! | `send-gzip-bomb SIZE [OPTION…]` | sends a whole response whose body decodes to SIZE zeros; also `send-deflate-bomb`, `send-br-bomb`, `send-zstd-bomb` |
//! | `drip PAUSE TEXT` | sends one byte at a time |
//! | `repeat N TEXT`, `repeat forever TEXT` | sends the text again and again |
//! | `repeat-every PAUSE N TEXT` | the same with pauses; `forever` as well |
//! | `serve` | answers the request as the well-behaved half would |
//! | `wait TIME` | does nothing |
//! | `wait-requests N` | waits until the server has seen N requests in all |
//! | `half-close` | ends its sending side (FIN) and goes on |
//! | `drain` | reads and discards until the client ends its side |
//! | `close`, `reset` | closes; closes with RST |
//! | `hold` | keeps the connection and never reads, until the client goes |
//! | `again` | goes back to the first step |
//! | `expect-silence TIME` | fails the test when a byte arrives within this time |
//! | `expect-close TIME` | fails the test unless the client ends its side within this time |
//!
//! CODING is `gzip`, `deflate`, `raw-deflate`, `br`, `zstd` or `identity`. OPTIONs are
//! `status=302`, `location=/x`, `type=text/html`, `label=br` (what Content-Encoding says
//! instead), `times=N` (TEXT so often, before it is coded), `members=N` (the coded body so
//! often), `flip=AT` (inverts the byte at this offset of the coded body), `cut=N` (leaves its
//! last N bytes out), `tail=N` (adds N bytes of junk). Content-Length fits what is sent.
//!
//! A request is in flight from the last byte of its head until just before the last bytes of
//! its answer are written. In a script the answer ends with the sending step that comes right
//! before `again`, `read`, `read-head`, `half-close`, `expect-…`, `close` or the end; else
//! with the next `read` or the end of the connection.
//!
//! # Routes of the well-behaved half
//!
//! | route | answer |
//! |---|---|
//! | `/get` `/post` `/put` `/patch` `/delete` `/options` | the request as JSON: `method` `url` `args` `headers` `data` `json`; 405 for other methods |
//! | `/anything`, `/anything/…` | the same for any method |
//! | `/json` · `/json/{n}` | a small JSON object of 197 bytes · one of n bytes |
//! | `/bytes/{n}` · `/stream-bytes/{n}?chunk_size=` | n bytes · the same chunked |
//! | `/text` · `/html` | a line of text · a page |
//! | `/status/{code}?Name=value` | this status, with the query as headers (`/status/429?Retry-After=1`) |
//! | `/delay/{seconds}` | the request as JSON, later |
//! | `/drip?numbytes=10&duration=2&delay=0&code=200` | a body of `*`, one at a time |
//! | `/redirect/{n}` · `/absolute-redirect/{n}` | n hops, then `/get` |
//! | `/redirect-to?url=…&status_code=302` | one hop to there |
//! | `/gzip` `/deflate` `/brotli` `/zstd` | the request as JSON in this coding |
//! | `/headers` · `/response-headers?Name=value` | the request's headers · these headers |
//! | `/echo` | the request's body with its Content-Type |
//! | `/count/{id}?fail=2&status=503` | `{"id": …, "seen": n}`; the first `fail` visits get `status` |
//! | `/close` · `/reset` · `/hang` | FIN · RST · nothing at all instead of an answer |
//!
//! Everything else is a 404 in JSON. HEAD works everywhere; a malformed request is a 400 and
//! ends the connection.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock and the network are the engine's; this is a server"
)]

mod coded;
mod log;
mod nobody;
mod options;
mod play;
mod reply;
mod request;
mod routes;
mod script;
mod serve;
mod server;
mod text;
mod wire;

pub use coded::Coding;
pub use log::{ConnectionLog, Counts, Ending, KEPT_BYTES, Log, RequestLog};
pub use nobody::{FullBacklog, refused_port};
pub use options::{Farewell, Options};
pub use script::{Answerer, Script, ScriptError, Step};
pub use server::{Listen, Server};
