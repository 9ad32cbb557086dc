use super::routes::KEPT;
use super::*;
use crate::Request;
use crate::clock::now;
use crate::job::{OriginId, Placed};
use crate::policy::Policy;
use crate::target::{Origin, Scheme};
use crate::tls::TlsProfile;
use crate::transport::dns::Resolver;

fn key(number: usize) -> RouteKey {
    let origin = Origin { scheme: Scheme::Https, host: format!("host{number}.test").into(), port: 443 };
    RouteKey::new(Arc::new(origin), TlsProfile::default(), &Policy::default())
}

fn task() -> Task {
    let placed = Placed { origin: OriginId(0), path_at: 18, authorization: None };
    let job = Job::new(0, Request::get("https://host0.test/"), placed, None);
    Task { seat: 0, job: Box::new(job), since: now() }
}

/// As many others that nobody has a use for as are kept.
fn go_to_others(pool: &mut Pool) {
    (0..KEPT).for_each(|number| _ = pool.route_to(key(1_000_000 + number)));
    pool.forget_routes();
}

fn pool() -> Pool {
    let network = Network::new(Resolver::default());
    Pool::new(Arc::new(Mailbox::default()), Arc::new(network), 10)
}

#[test]
fn a_route_is_kept_while_a_batch_names_it_and_its_number_is_another_ones_after_that() {
    let mut pool = pool();
    for number in 0..3 {
        let route = pool.route_to(key(number));
        pool.name(route);
    }
    pool.name(1);
    pool.forget_routes();
    (0..3).for_each(|route| pool.unname(route));
    pool.forget_routes();
    assert_eq!(pool.routes.len(), 3, "what was learned of the last is kept");
    go_to_others(&mut pool);
    assert_eq!(pool.routes.len(), KEPT + 1);
    assert_eq!(pool.route_to(key(1)), 1);
    let again = pool.route_to(key(2));
    assert!([0, 2].contains(&again), "the number of one that was forgotten is given to another");
    pool.unname(1);
    go_to_others(&mut pool);
    assert_eq!(pool.routes.len(), KEPT);
}

#[test]
fn a_route_is_kept_while_a_connection_to_it_is_made() {
    let mut pool = pool();
    let route = pool.route_to(key(0));
    let slot = pool.take_vacant(now());
    pool.connecting(slot, route, Box::pin(std::future::pending()), task());
    go_to_others(&mut pool);
    assert_eq!(&*pool.route(route).key.origin.host, "host0.test");
    assert!(pool.take_task(slot).is_some());
    pool.vacate(slot);
    pool.forget_routes();
    go_to_others(&mut pool);
    assert_eq!(pool.routes.len(), KEPT);
}

#[test]
fn of_many_routes_those_alone_are_gone_through_that_rows_wait_for() {
    let mut pool = pool();
    for number in 0..1_000 {
        let route = pool.route_to(key(number));
        pool.name(route);
    }
    pool.wait(500, task());
    pool.wait(500, task());
    assert_eq!(pool.with_waiting(), [500]);
    pool.unname(500);
    go_to_others(&mut pool);
    assert!(pool.route(500).has_waiting());
    assert_eq!(pool.take_waiting(500).len(), 2);
    assert_eq!(pool.with_waiting(), [0_usize; 0]);
    pool.forget_routes();
    assert_eq!(pool.routes.len(), 999 + KEPT);
}
