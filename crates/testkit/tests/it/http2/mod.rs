//! HTTP/2, with the client of the h2 crate.

mod scripts;
mod serving;

use std::sync::Arc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{HeaderMap, Method, Request};
use rustls::pki_types::ServerName;
use testkit::Server;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::PATIENCE;
use crate::tls::trusting;

type Answer = Result<(u16, HeaderMap, Vec<u8>), h2::Error>;

#[derive(Clone)]
struct Peer {
    requests: SendRequest<Bytes>,
    authority: String,
}

fn run<Output>(test: impl Future<Output = Output>) -> Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") })
}

async fn connect(server: &Server) -> (Peer, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(server.addr()).await.expect("the server listens");
    let authority = server.addr().to_string();
    if server.url("").starts_with("https") {
        let connector =
            tokio_rustls::TlsConnector::from(Arc::new(trusting(&testkit::ca_pem(), &["h2"], None)));
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (requests, connection) =
            client::Builder::new().enable_push(false).handshake(stream).await.expect("a preface");
        (Peer { requests, authority }, tokio::spawn(connection))
    } else {
        let (requests, connection) =
            client::Builder::new().enable_push(false).handshake(stream).await.expect("a preface");
        (Peer { requests, authority }, tokio::spawn(connection))
    }
}

impl Peer {
    async fn ask(&self, method: Method, path: &str, body: &[u8]) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .header("x-one", "1")
            .body(())
            .expect("a request");
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut stream) = requests.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        let mut whole = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            whole.extend_from_slice(&part);
        }
        Ok((head.status.as_u16(), head.headers, whole))
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, b"").await
    }
}

/// What became of a request, in a few words.
fn told(answer: Answer) -> String {
    match answer {
        Ok((status, _, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
        Err(error) => {
            let whose = if error.is_remote() { "told" } else { "found" };
            match error.reason() {
                Some(reason) if error.is_go_away() => format!("{whose} GOAWAY {reason:?}"),
                Some(reason) => format!("{whose} RST {reason:?}"),
                None => format!("lost: {error}"),
            }
        }
    }
}
