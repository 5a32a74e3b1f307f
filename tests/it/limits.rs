//! How many may be inside at once.

use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Options, Up, within};

/// As many connections as are taken at once.
const CONNECTIONS_MAX: usize = 900;

/// A connection over which one asks again and again.
struct Asking(TcpStream);

impl Asking {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self) {
        let request = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n";
        self.0.write_all(request).await.unwrap();
    }

    /// Whether there is an answer; one is all that comes.
    async fn answered(&mut self) -> bool {
        let mut bytes = [0; 1024];
        let read = self.0.read(&mut bytes).await.unwrap();
        bytes[..read].starts_with(b"HTTP/1.1 200")
    }
}

/// This process and those that it starts need more files than some systems give at first.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 4 * CONNECTIONS_MAX as u64;
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |most| most.min(wanted));
        let raised = Rlimit {
            current: Some(current),
            ..limit
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_waits_until_somebody_leaves() {
    allow_many_files();
    let up = Up::start(Options::default()).await;
    let address = up.http.address();
    let mut inside = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut asking = Asking::connect(address).await;
        asking.send().await;
        assert!(within("an answer inside", asking.answered()).await);
        inside.push(asking);
    }
    let mut outside = Asking::connect(address).await;
    outside.send().await;
    // Meanwhile everybody inside is served, however often.
    let served = async {
        for asking in &mut inside {
            asking.send().await;
            assert!(asking.answered().await);
        }
    };
    tokio::select! {
        biased;
        _ = outside.answered() => panic!("one too many was taken"),
        () = within("answers inside", served) => {}
    }
    inside.pop();
    assert!(within("an answer to who has waited", outside.answered()).await);
    up.stop().await;
}
