//! How often somebody may knock: bounded for each address, and for each sender that has shown who it
//! is. Whoever is too fast is told when to come again (429 with `Retry-After`).
//!
//! An address is bounded before anything is checked, so that guessing is slow; a sender afterwards, so
//! that one which comes from many addresses has no more than one share.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use governor::clock::{Clock, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use ipnet::IpNet;

use super::Error;

/// After so many knocks those who have not knocked lately are forgotten, so that memory follows the
/// senders of the last seconds.
const FORGET_EVERY: u32 = 4096;

/// Where a connection comes from; with every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Names a sender that has shown who it is, without showing how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sender(pub u64);

/// The bounds.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    peers: Bound<IpAddr>,
    senders: Bound<Sender>,
    /// Proxies whose word is taken for where a request comes from.
    trusted: Arc<[IpNet]>,
}

impl Limits {
    /// Requests per second of one address and of one sender, each with as many at once; `None` is no
    /// bound. `trusted` are the proxies that may say for whom they ask.
    #[must_use]
    pub fn new(
        per_peer: Option<NonZeroU32>,
        per_sender: Option<NonZeroU32>,
        trusted: Vec<IpNet>,
    ) -> Self {
        Self {
            peers: Bound::new(per_peer),
            senders: Bound::new(per_sender),
            trusted: trusted.into(),
        }
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// 429 when there were too many.
    pub fn check_peer(&self, request: &Request) -> Result<(), Error> {
        let Some(Peer(peer)) = request.extensions().get::<Peer>() else {
            return Ok(());
        };
        let client = client(*peer, request.headers(), &self.trusted);
        self.peers.check(network(client))
    }

    /// Counts a request of a sender.
    ///
    /// # Errors
    /// 429 when there were too many.
    pub fn check_sender(&self, sender: Sender) -> Result<(), Error> {
        self.senders.check(sender)
    }
}

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, MonotonicClock>;

#[derive(Debug, Clone)]
struct Bound<K: Hash + Eq + Clone> {
    limiter: Option<Arc<(Limiter<K>, AtomicU32)>>,
}

impl<K: Hash + Eq + Clone> Default for Bound<K> {
    fn default() -> Self {
        Self { limiter: None }
    }
}

impl<K: Hash + Eq + Clone> Bound<K> {
    fn new(per_second: Option<NonZeroU32>) -> Self {
        let limiter = per_second.map(|per_second| {
            let quota = Quota::per_second(per_second);
            let limiter = RateLimiter::hashmap_with_clock(quota, MonotonicClock);
            Arc::new((limiter, AtomicU32::new(0)))
        });
        Self { limiter }
    }

    fn check(&self, key: K) -> Result<(), Error> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        let (limiter, knocks) = &**limiter;
        if knocks.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&key).map_err(|early| {
            let wait = early.wait_time_from(MonotonicClock.now());
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            Error {
                retry_after: Some(seconds.saturating_add(1)),
                ..Error::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too_many_requests",
                    "requests come faster than they are taken; send it again later",
                )
            }
        })
    }
}

/// Who asks: the nearest address, from our side, that is no proxy of ours. What stands further left
/// in the header anybody may have written.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| {
        let address = address.to_canonical();
        trusted.iter().any(|network| network.contains(&address))
    };
    if !is_trusted(&peer) {
        return peer;
    }
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = lines
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut nearest = peer;
    for hop in hops {
        let text = std::str::from_utf8(hop).unwrap_or_default().trim();
        let Ok(address) = text.parse() else {
            break;
        };
        nearest = address;
        if !is_trusted(&nearest) {
            break;
        }
    }
    nearest
}

/// A host of IPv6 has a whole /64 to choose addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_may_say_for_whom_it_asks() {
        assert_eq!(asked_for("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(asked_for("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(asked_for("::1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(asked_for("10.0.0.1", &[]), "10.0.0.1");
        // The left is the client's own word, and what is no address ends the list.
        let forged = ["203.0.113.9, 198.51.100.7", "10.0.0.2"];
        assert_eq!(asked_for("10.0.0.1", &forged), "198.51.100.7");
        assert_eq!(asked_for("10.0.0.1", &["198.51.100.7, x"]), "10.0.0.1");
    }

    #[test]
    fn neighbours_in_one_network_of_ipv6_are_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn each_sender_has_a_share_of_its_own() {
        let limits = Limits::new(None, NonZeroU32::new(2), Vec::new());
        for _ in 0..2 {
            limits.check_sender(Sender(1)).unwrap();
        }
        let refused = limits.check_sender(Sender(1)).unwrap_err();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.retry_after, Some(1));
        limits.check_sender(Sender(2)).unwrap();
    }
}
