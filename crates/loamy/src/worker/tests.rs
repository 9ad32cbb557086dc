use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use super::*;
use crate::batch::Batch;
use crate::exchange::Terms;
use crate::target::{Origin, Scheme};
use crate::tls::TlsProfile;
use crate::transport::dns::{Dns, Resolver};
use crate::{Policy, Request};

const HOSTS: usize = 20;

/// As many as are kept although nobody has a use for them.
const MANY: usize = 1_000;

/// A worker in the thread of the test, for which every name is this machine.
struct Alone {
    runtime: tokio::runtime::Runtime,
    worker: Worker,
}

impl Alone {
    fn new() -> Self {
        Self::with(Dns::Fixed(Arc::new(|_| Ok(vec![Ipv4Addr::LOCALHOST.into()]))))
    }

    fn with(dns: Dns) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let network = Arc::new(Network::new(Resolver::new(dns)));
        Self { runtime, worker: Worker::new(Arc::new(Mailbox::default()), network, 1_000) }
    }

    /// Sends the rows, until each has its outcome.
    fn send(&mut self, urls: impl Iterator<Item = String>) -> Vec<crate::Outcome> {
        let (shared, mailbox) = self.begin(urls);
        let (mut messages, mut woken) = (VecDeque::new(), Vec::new());
        self.drive(|worker, context| {
            while mailbox.collect(&mut messages, &mut woken, context.waker()) {
                worker.turn_round(&mut messages, &mut woken);
            }
            if worker.seats.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
        });
        shared.lock().batch.take_ready()
    }

    /// Sends the rows, of which each ends at once, as where no thread may be begun: outside of a runtime there is none.
    fn send_without_threads(&mut self, urls: impl Iterator<Item = String>) -> Vec<crate::Outcome> {
        let (shared, mailbox) = self.begin(urls);
        let (mut messages, mut woken) = (VecDeque::new(), Vec::new());
        while mailbox.collect(&mut messages, &mut woken, std::task::Waker::noop()) {
            self.worker.turn_round(&mut messages, &mut woken);
        }
        shared.lock().batch.take_ready()
    }

    fn begin(&mut self, urls: impl Iterator<Item = String>) -> (Arc<Shared>, Arc<Mailbox>) {
        let policy = Arc::new(Policy::default());
        let mut batch = Batch::new(Arc::clone(&policy), now(), 1);
        urls.for_each(|url| batch.admit(now(), Request::get(url)));
        batch.close();
        let terms = Terms::new(policy);
        let shared = Arc::new(Shared::new(batch, terms));
        let mailbox = Arc::clone(&self.worker.mailbox);
        shared.lock().workers.push(Arc::clone(&mailbox));
        mailbox.batches.fetch_add(1, Ordering::Relaxed);
        mailbox.send(Message::Begin { shared: Arc::clone(&shared), seat: 0 });
        (shared, mailbox)
    }

    /// So many other origins are met that what was learned of those before is of no more use.
    fn go_elsewhere(&mut self) {
        for number in 0..MANY {
            let origin = Origin { scheme: Scheme::Http, host: format!("host{number}").into(), port: 80 };
            let tls = TlsProfile::default();
            self.worker.pool.route_to(RouteKey::new(origin.into(), tls, &Policy::default()));
        }
        self.worker.pool.forget_routes();
    }

    #[expect(clippy::disallowed_methods, reason = "a test has no runtime around it")]
    fn drive<R>(&mut self, mut work: impl FnMut(&mut Worker, &mut Context<'_>) -> Poll<R>) -> R {
        let worker = &mut self.worker;
        self.runtime.block_on(poll_fn(move |context| work(worker, context)))
    }
}

/// Answers so many connections once each, and hands them over, still open.
fn serve(listener: TcpListener, connections: usize) -> JoinHandle<Vec<TcpStream>> {
    let answer = |mut stream: TcpStream| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        stream
    };
    thread::spawn(move || (0..connections).map(|_| answer(listener.accept().unwrap().0)).collect())
}

#[test]
fn what_was_learned_of_an_origin_is_forgotten_some_time_after_its_last_connection_and_its_last_batch() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = serve(listener, HOSTS);
    let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut alone = Alone::new();
    let urls = (0..HOSTS).flat_map(|host| {
        [format!("http://up{host}.test:{port}/"), format!("http://down{host}.test:{refused}/")]
    });
    let outcomes = alone.send(urls);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.result.is_ok()).count(), HOSTS);
    assert_eq!(outcomes.len(), 2 * HOSTS);
    assert_eq!(alone.worker.pool.known_routes(), 2 * HOSTS, "the last are kept for what was learned");
    alone.go_elsewhere();
    assert_eq!(alone.worker.pool.known_routes(), MANY + HOSTS, "those to which a connection stands too");
    let late = now() + IDLE;
    alone.drive(|worker, _| {
        worker.look_at_the_deadlines(late);
        Poll::Ready(())
    });
    alone.go_elsewhere();
    assert_eq!(alone.worker.pool.known_routes(), MANY);
    let mut left = served.join().unwrap();
    left.iter_mut().for_each(|stream| assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it was closed"));
}

#[test]
fn c2_a_look_up_that_finds_no_thread_fails_for_now_and_the_next_row_has_one_of_its_own() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let served = serve(listener, 1);
    let mut alone = Alone::with(Dns::System);
    for _ in 0..2 {
        let outcomes = alone.send_without_threads([url.clone()].into_iter());
        let error = outcomes[0].result.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (Kind::Dns, true), "{error}");
    }
    let outcomes = alone.send([url].into_iter());
    assert_eq!(outcomes[0].response().map(crate::Response::status), Some(204), "{outcomes:?}");
    assert_eq!(served.join().unwrap().len(), 1);
}
