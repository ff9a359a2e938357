use std::pin::pin;
use std::time::Duration;

use futures::poll;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(1)
}

fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn tenant(name: &str) -> Arc<str> {
    name.into()
}

#[tokio::test]
async fn a_plugin_that_fills_its_share_leaves_places_and_a_queue_to_others() {
    let node = Arc::new(Gate::new(3, 1));
    let (greedy, other) = (Arc::new(node.share(2)), Arc::new(node.share(2)));
    let a = tenant("a");
    let held = [greedy.enter(1, &a, soon()).await, greedy.enter(1, &a, soon()).await];
    assert!(held.iter().all(Option::is_some));
    assert!(greedy.enter(1, &a, soon()).await.is_none());
    let mut waits = pin!(greedy.enter(1, &a, later()));
    assert!(poll!(&mut waits).is_pending());
    assert!(greedy.enter(1, &a, soon()).await.is_none(), "one waits already");
    let place = other.enter(1, &a, soon()).await;
    assert!(place.is_some());
    drop(held);
    assert!(waits.await.is_some());
}

#[tokio::test]
async fn a_tenant_with_many_requests_waiting_does_not_hold_up_another() {
    let gate = Arc::new(Gate::new(1, 100));
    let (many, one) = (tenant("many"), tenant("one"));
    let held = gate.enter(1, &many, soon()).await.unwrap();
    let mut first = pin!(gate.enter(1, &many, later()));
    let mut second = pin!(gate.enter(1, &many, later()));
    let mut other = pin!(gate.enter(1, &one, later()));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    assert!(poll!(&mut other).is_pending());
    drop(held);
    let held = first.await.unwrap();
    assert!(poll!(&mut second).is_pending() && poll!(&mut other).is_pending());
    drop(held);
    assert!(poll!(&mut second).is_pending(), "it is the other's turn");
    drop(other.await.unwrap());
    assert!(second.await.is_some());
}

#[tokio::test]
async fn a_full_line_refuses_the_tenant_that_fills_it_and_no_other() {
    let gate = Arc::new(Gate::new(1, 2));
    let (many, one) = (tenant("many"), tenant("one"));
    let held = gate.enter(1, &many, soon()).await.unwrap();
    let mut first = pin!(gate.enter(1, &many, later()));
    let mut second = pin!(gate.enter(1, &many, later()));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    assert!(gate.enter(1, &many, later()).await.is_none(), "it has the whole line");
    let mut other = pin!(gate.enter(1, &one, later()));
    assert!(poll!(&mut other).is_pending());
    assert!(second.await.is_none(), "it made room, and hears so at once");
    drop(held);
    drop(first.await.unwrap());
    assert!(other.await.is_some());
}

#[tokio::test]
async fn whoever_needs_two_places_is_overtaken_by_nobody() {
    let gate = Arc::new(Gate::new(2, 10));
    let a = tenant("a");
    let one = gate.enter(1, &a, soon()).await.unwrap();
    let mut both = pin!(gate.enter(2, &a, later()));
    assert!(poll!(&mut both).is_pending());
    assert!(gate.enter(1, &a, soon()).await.is_none(), "a place is free, and it is kept");
    let mut next = pin!(gate.enter(1, &a, later()));
    assert!(poll!(&mut next).is_pending());
    drop(one);
    drop(both.await.unwrap());
    assert!(next.await.is_some());
}

#[tokio::test]
async fn a_place_comes_back_from_whoever_left_before_it_took_it() {
    let gate = Arc::new(Gate::new(1, 10));
    let a = tenant("a");
    let held = gate.enter(1, &a, soon()).await.unwrap();
    {
        let mut leaves = pin!(gate.enter(1, &a, later()));
        assert!(poll!(&mut leaves).is_pending());
        drop(held);
    }
    assert!(gate.enter(1, &a, soon()).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_or_given_twice_however_requests_come_and_go() {
    use std::sync::atomic::AtomicU32;
    const PLACES: u32 = 5;
    let node = Arc::new(Gate::new(PLACES as usize, 8));
    let gate = Arc::new(node.share(PLACES as usize));
    let inside = Arc::new(AtomicU32::new(0));
    let visits = (0..2000u32).map(|n| {
        let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
        tokio::spawn(async move {
            let (depth, deadline) = (1 + n % 3, Instant::now() + Duration::from_micros(n.into()));
            let entered = gate.enter(depth, &tenant(&(n % 4).to_string()), deadline).await;
            let Some(_place) = entered else { return 0 };
            let there = inside.fetch_add(depth, Ordering::SeqCst) + depth;
            assert!(there <= PLACES, "{there} instances at once");
            tokio::task::yield_now().await;
            inside.fetch_sub(depth, Ordering::SeqCst);
            1
        })
    });
    let entered: u32 = futures::future::try_join_all(visits).await.unwrap().iter().sum();
    assert!(entered > 0);
    let all = gate.enter(PLACES, &tenant("a"), soon()).await;
    assert!(all.is_some(), "all places are back");
    assert!(gate.line().is_empty() && node.line().is_empty());
}
