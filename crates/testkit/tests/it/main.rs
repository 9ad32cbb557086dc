//! Proves every step and route from outside, with a raw `TcpStream` as the client.

#![allow(clippy::disallowed_methods, reason = "a test of a server connects to it and looks at the clock")]

mod client;
mod expectations;
mod http2;
mod program;
mod remembering;
mod routes;
mod seen;
mod serving;
mod steps;
mod text;
mod tls;
