//! One scripted test server for HTTP/1.1 and HTTP/2, with TLS and without, well-behaved and
//! ill-behaved, on a port of its own.
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
//! [`Tls`] is for both halves: which [`Certificate`] is shown, how the [`Handshake`] goes. Clients
//! trust [`ca_pem`].
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
//! | `close`, `reset` | closes, over TLS with a close_notify; closes with RST |
//! | `close-without-notify` | closes without the close_notify of TLS |
//! | `handshake FAULT` | as the first step of a connection: what happens instead of the TLS handshake |
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
//! FAULT is, after the ClientHello, `reset`, `close`, `silence`, `plain-http` (an answer without
//! TLS), `garbage`, `truncated` (a ServerHello that stops) or `unoffered-protocol` (ALPN that the
//! client did not offer, in TLS 1.2). With `skip` the steps act on what is on the wire. All other
//! steps act inside TLS, and the log holds what is inside.
//!
//! # Steps with frames
//!
//! They begin with `h2`, and know HTTP/2 over TLS and with prior knowledge. A connection with such
//! a step offers `h2` in ALPN, any other `http/1.1`, unless [`Script::http`] says what to offer.
//!
//! | step | what the server does |
//! |---|---|
//! | `h2 preface [SETTING=N…]` | reads the client's preface and SETTINGS, sends its own SETTINGS, acknowledges the client's |
//! | `h2 read preface` | reads them and sends nothing; what it owes is sent after the first `h2 settings` |
//! | `h2 read [N] request`, `… requests` | reads until so many more requests are whole (1) |
//! | `h2 read [N] head`, `… heads` | reads until so many more heads of requests have come |
//! | `h2 read [N] KIND` | reads until so many more frames of this kind have come |
//! | `h2 wait TIME` | reads for so long, and answers what has to be answered |
//! | `h2 drain` | the same until the client ends its side |
//! | `h2 close` | ends its sending side, reads on for up to a second and closes: what was sent arrives, while bytes not yet read would turn `close` into a reset |
//! | `h2 expect-close TIME` | the same; fails the test unless the client ends its side within this time |
//! | `h2 serve [N]` | answers requests as the well-behaved half would: so many and goes on, or for ever |
//! | `h2 answer [stream=S] [status=N] [NAME=VALUE…] ["TEXT"] [size=SIZE]` | sends a whole response; 200 and the fitting Content-Length unless they are given |
//! | `h2 headers [stream=S] [status=N] [NAME=VALUE…] [end] [more] [pad=N] [block=HEX]` | sends HEADERS: with END_STREAM, without END_HEADERS, padded, with these bytes for fields |
//! | `h2 continuation [stream=S] [NAME=VALUE…] [more] [block=HEX]` | sends CONTINUATION |
//! | `h2 data [stream=S] ["TEXT"] [size=SIZE] [frame=SIZE] [end] [pad=N]` | sends DATA in frames of up to 16,384 bytes, whatever the window is; `size` is so many `*` |
//! | `h2 settings [SETTING=N…]`, `h2 ack` | sends SETTINGS; acknowledges |
//! | `h2 rst [stream=S] CODE` | sends RST_STREAM |
//! | `h2 goaway [last=S] CODE ["TEXT"]` | sends GOAWAY |
//! | `h2 ping [ack] [HEX]` | sends PING |
//! | `h2 window [stream=S] N` | sends WINDOW_UPDATE, for the connection unless there is a stream |
//! | `h2 push [stream=S] [promised=S] [NAME=VALUE…] [more] [block=HEX]` | sends PUSH_PROMISE, of the next stream unless it is given |
//! | `h2 priority [stream=S] [on=N] [weight=N]` | sends PRIORITY |
//! | `h2 raw type=KIND [flags=N] [stream=S] [length=N] [HEX]` | sends a frame of these bytes; `length` is what its head says |
//! | `h2 repeat N FRAME`, `h2 repeat forever FRAME` | sends a frame again and again: `h2 repeat forever ping` |
//! | `h2 repeat-every PAUSE N FRAME` | the same with pauses; `forever` as well |
//! | `h2 deaf`, `h2 attentive` | from here on, PING and SETTINGS are not answered; are answered |
//! | `h2 stingy`, `h2 generous` | from here on, windows are not opened again as bodies come; are opened again |
//!
//! S is a number, `last` (the stream of the request that was read last, which is meant without
//! `stream` as well), `#N` (that of the n-th request of the connection, from 1), `next` (the first
//! idle one) or `all` (each whose request is neither answered nor reset). KIND is `data`,
//! `headers`, `priority`, `rst`, `settings`, `push`, `ping`, `goaway`, `window`, `continuation` or
//! a number; to read, also `ack` and `pong`. SETTING is `header_table_size`, `enable_push`,
//! `max_concurrent_streams`, `initial_window_size`, `max_frame_size`, `max_header_list_size`,
//! `enable_connect_protocol` or a number, CODE a name such as `REFUSED_STREAM` or a number; numbers
//! may be hexadecimal (`0x1f`). TEXT and a VALUE with spaces stand in quotes and know the escapes
//! (a quote is `\x22`); `text=…` is a TEXT without spaces. Fields are sent as they are written, in
//! this order, `status` as `:status`. Only steps that begin with `h2` read frames, and only
//! while frames are read are PING and SETTINGS answered; `wait`, `hold`, `drain`, `send-hex`,
//! `reset` and the others act on bytes.
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
//! | `/close` · `/reset` · `/hang` | FIN · RST · nothing at all instead of an answer |
//!
//! Everything else is a 404 in JSON. HEAD works everywhere; a malformed request is a 400 and
//! ends the connection. Over HTTP/2 the routes are the same: `/close` and `/reset` end the whole
//! connection, `/hang` waits until the client resets the stream.
//!
//! # Routes that remember
//!
//! Their answers depend on what came before, over all connections and in every protocol. IDs and
//! names are taken as they stand in the path, and know nothing of each other. What they count is kept
//! without the log as well, and can be asked for with [`Server::visits`], [`Server::arrivals`],
//! [`Server::usage`], [`Server::effects`] and [`Server::peak`].
//!
//! | route | answer |
//! |---|---|
//! | `/count/{id}` | `{"id": …, "seen": n}`. With `fail=2` the first two visits get 503, or the `status` that is given; with `status` alone every visit gets that. With `takes=TIME` it is answered later than it is counted |
//! | `/counts` | the visits of `/count`, `/flaky` and `/keyed`: `{id: {"GET": n, …}, …}` |
//! | `/flaky/{id}` | `{"id": …, "attempts": n}`; the first attempts fail |
//! | `/keyed/{id}` | POST and PATCH have an effect: `{"id": …, "effect": n, "key": …}`. GET tells `effects` and `keys` |
//! | `/effects` | how many effects there were: `{id: n, …}` |
//! | `/limited/{name}`, `/limited/{name}/…` | `{"name": …, "granted": n, "refused": n}` within a limit, which is published |
//! | `/peak`, `/peak/{name}`, `/peak/{name}/…` | `{"in_service": n, "milliseconds": …}` after the time that it took |
//! | `/usage/{name}` | what became of the requests to `/limited` and `/peak` of this name: `{"limited": {"granted": n, "refused": n}, "peak": {"served": n, "refused": n, "most": n}}` |
//! | `/stamp/{name}`, `/stamp/{name}/…` | `{"name": …, "arrived": µs}` |
//! | `/arrivals/{name}` | when the requests to `/stamp` and `/limited` of this name came: a list of µs since the server started |
//!
//! A TIME is in seconds, or has a unit: `10`, `0.5`, `1.5s`, `20ms`. RETRY is a number of seconds,
//! `date:SECONDS` (a date so far from now), `text:ANYTHING`, and where the server knows how long it
//! takes `true` (in seconds, rounded up) or `date`. A parameter that is unknown or cannot be is a
//! 400 with `error`, `parameter` and `allowed`, and counts nowhere; `/count` leaves alone what it
//! does not know.
//!
//! | of | parameter | default | meaning |
//! |---|---|---|---|
//! | `/flaky` | `fail` | 1 | so many attempts fail |
//! | | `status` | 503 | how: 300 to 599, `close`, `reset`, `hang`, or a list, whose last one stands for all further failures: `close,429` |
//! | | `retry_after=RETRY` | | Retry-After of these answers |
//! | | `takes=TIME` | 0 | how long each answer takes, or the end of the connection |
//! | `/keyed` | `takes=TIME` | 0 | how long the effect takes; it goes on when the client leaves |
//! | | `status` | 201 | of the answer |
//! | | `need=1` | 0 | a request without a key is a 400 |
//! | | `strict=1` | 0 | a key that is no string of RFC 9651 is a 400; else quotes may be left out |
//! | | `lose=N` | 0 | the first N answers of each key are lost after their effect; without a key those of the id |
//! | | `end` | `close` | how the connection ends then: `close` or `reset` |
//! | | `retry_after=RETRY` | | Retry-After of a 409 |
//! | `/limited` | `limit`, `window=TIME` | 10, 1 | so many requests in this time; both may change on the way |
//! | | `how` | `fixed` | `fixed`: windows begin with a request; `sliding`: a log of requests; `bucket`: of tokens |
//! | | `burst` | `limit` | what a bucket holds |
//! | | `as` | `draft10` | how it is published, below |
//! | | `refuse` | 429 | the status beyond the limit |
//! | | `retry_after=RETRY` | | Retry-After of a refusal |
//! | | `takes=TIME` | 0 | how long a granted request takes |
//! | | `clock_ahead` | 0 | by how many seconds Date and all dates are wrong |
//! | `/peak` | `at` | 25 | up to so many requests in service, each takes `service` |
//! | | `most` | 2 × `at` | beyond so many it refuses at once |
//! | | `service=TIME` | 20ms | times over · (1 + 0.1 · (over - 1)) where over, in service / `at`, is above 1 |
//! | | `refuse`, `retry_after=RETRY` | 503 | the status and Retry-After of a refusal |
//!
//! With an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07) the first request has its
//! effect, and each further one its answer: 422 when method or body are other ones, 409 while
//! the first one is not done.
//!
//! | `as` | with each answer of a limit |
//! |---|---|
//! | `draft10` | `RateLimit-Policy: "default";q=50;w=10` and `RateLimit: "default";r=49;t=10` |
//! | `draft7` | `RateLimit-Policy: 50;w=10` and `RateLimit: limit=50, remaining=49, reset=10` |
//! | `draft6` | `RateLimit-Limit` `-Remaining` `-Reset`, and `RateLimit-Policy: 50;w=10` |
//! | `x-delta` `x-epoch` `x-duration` `x-rfc3339` | `X-RateLimit-Limit` `-Remaining` `-Reset`, the last one `10`, `1795332506`, `1m30s` or `2026-11-22T07:28:26Z` |
//! | `openai` | `x-ratelimit-limit-requests`, `-remaining-`, `-reset-`, the last one `1m30s` |
//! | `anthropic` | `anthropic-ratelimit-requests-limit`, `-remaining`, `-reset`, the last one a date of RFC 3339 |
//! | `retry-after` `retry-after-date` | Retry-After with a refusal, as if `retry_after` were `true` or `date` |
//! | `none` | nothing |
//!
//! The reset of a fixed window is its end, that of a sliding one is when its oldest request leaves
//! it, and that of a bucket is when it is full. Retry-After is when one more is granted. All are
//! rounded up.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the walls around the clock and the network are the engine's; this is a server"
)]

mod certificates;
mod clock;
mod coded;
mod handshake;
mod hint;
mod http2;
mod keyed;
mod limit;
mod log;
mod memory;
mod nobody;
mod options;
mod peak;
mod play;
mod query;
mod recorder;
mod reply;
mod request;
mod routes;
mod script;
mod serve;
mod server;
mod tally;
mod text;
mod tls;
mod wire;

pub use certificates::{Certificate, Identity, ca_pem, client_identity, stranger_identity};
pub use coded::Coding;
pub use handshake::Handshake;
pub use http2::{Http2, Http2Log, Http2Step};
pub use limit::Usage;
pub use log::{ConnectionLog, Counts, Ending, KEPT_BYTES, Log, RequestLog, TlsLog};
pub use nobody::{FullBacklog, refused_port};
pub use options::{Farewell, Options, Protocol};
pub use peak::PeakUsage;
pub use script::{Answerer, Script, ScriptError, Step};
pub use server::{Listen, Server};
pub use tls::{ClientCertificate, Resumption, Tls, Versions};
