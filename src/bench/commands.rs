//! Dials that are asked for over HTTP, from the POST to the answer that names the call.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;

use super::Plan;
use super::http::{Connection, post_to};
use super::ingress::Store;
use super::load::{Lane, Sample, paced};
use super::report::{Row, Rows};
use super::site::{Folder, Roles, Site};
use crate::bus::server::User;
use crate::domain::guard::{CONCURRENT_MAX, LIMIT_MAX, Limits};
use crate::simulate::stand_in::{Fault, Route, StandIn, StandInConfig};

const PACE: u32 = 100;
/// So many that none waits for the answer to another.
const LANES: usize = 64;
const PUBLISHERS: usize = 16;
/// How long the voice server takes to answer a dial.
const ANSWER_TIME: Duration = Duration::from_millis(5);
/// The longest measurement: no call of it is heard to end, and so many may go on at once.
const TIME_MAX: Duration = Duration::from_secs(9);

pub(super) async fn measure(
    plan: &Plan,
    folder: &Folder,
    progress: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Rows> {
    progress(&format!("commands: {PACE} dials per second"));
    let (site, aside) = (
        Site::start(folder, "commands").await?,
        Site::start(folder, "commands-raw").await?,
    );
    let (server, bare) = (voice_server().await?, voice_server().await?);
    let measured = measure_on(plan, &site, &aside, &server, &bare).await;
    server.stop().await;
    bare.stop().await;
    site.stop().await?;
    aside.stop().await?;
    measured
}

/// One that takes its time for each dial, and tells nobody of its calls.
async fn voice_server() -> anyhow::Result<StandIn> {
    let server = StandIn::start(StandInConfig {
        answer_calls: false,
        ..StandInConfig::default()
    })
    .await?;
    server.always(Route::Dial, Some(Fault::Delay(ANSWER_TIME)));
    Ok(server)
}

async fn measure_on(
    plan: &Plan,
    site: &Site,
    aside: &Site,
    server: &StandIn,
    bare: &StandIn,
) -> anyhow::Result<Rows> {
    let limits = Limits {
        per_minute: LIMIT_MAX,
        per_hour: LIMIT_MAX,
        per_day: LIMIT_MAX,
        concurrent: CONCURRENT_MAX,
        ..Limits::default()
    };
    let roles = Roles::start_dialling(site, &server.url(), limits).await?;
    let raw = aside.bus(User::Ingress).await?;
    let numbers = Arc::new(AtomicU32::new(0));
    let lane = |to| Dial {
        to,
        connection: None,
        numbers: Arc::clone(&numbers),
        answered: 0,
    };
    let mut asking: Vec<_> = (0..LANES)
        .map(|_| lane(To::Ingress(roles.address())))
        .collect();
    let mut direct: Vec<_> = (0..LANES).map(|_| lane(To::Server(bare.addr()))).collect();
    let mut publishers = (0..PUBLISHERS)
        .map(|number| Store::new(&raw, &format!("dials_{number}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (mut publishes, mut answers, mut dials) = Default::default();
    let all = plan.time.min(TIME_MAX);
    for turn in 0..=plan.rounds {
        let warm_up = turn == 0;
        let time = if warm_up { all / 10 } else { all / plan.rounds };
        let (publish, answer, dial);
        (publishers, publish) = paced(publishers, PACE, time / 2).await?;
        (direct, answer) = paced(direct, PACE, time / 2).await?;
        (asking, dial) = paced(asking, PACE, time).await?;
        // Calls end; a list of all that ever were is nothing that a server is asked to read.
        server.forget_active_calls();
        bare.forget_active_calls();
        if !warm_up {
            Sample::add(&mut publishes, publish);
            Sample::add(&mut answers, answer);
            Sample::add(&mut dials, dial);
        }
    }
    roles.stop().await?;

    let row =
        |what: &str, sample: &Sample| Row::new(format!("{what}, {PACE} per second")).sample(sample);
    let mut whole = row("POST /openclaw/call to its answer", &dials)
        .target("p50: adds at most 2 × the server's answer");
    if let (Some(publish), Some(answer), Some(dial)) =
        (publishes.latency(), answers.latency(), dials.latency())
    {
        let added = dial.p50 - answer.p50;
        whole = whole
            .ratio(added / answer.p50, "the server's answer is added (p50)")
            .ratio(added / publish.p50, "a publish");
    }
    let calls = server.calls();
    let called: HashSet<_> = calls.iter().map(|call| call.to.clone()).collect();
    let asked = asking.iter().map(|lane| lane.answered).sum::<u64>();
    Ok(Rows {
        all: vec![
            row("durable publish", &publishes),
            row("POST /call of the voice server", &answers),
            whole,
        ],
        lost: asked.saturating_sub(called.len() as u64),
        doubled: (calls.len() - called.len()) as u64,
    })
}

#[derive(Clone, Copy)]
enum To {
    Ingress(SocketAddr),
    /// Over a connection of its own each time, as egress does it.
    Server(SocketAddr),
}

/// Asks for one call after the other, each to another number.
struct Dial {
    to: To,
    connection: Option<Connection>,
    numbers: Arc<AtomicU32>,
    answered: u64,
}

impl Lane for Dial {
    async fn once(&mut self) -> anyhow::Result<()> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let number = format!("+1{}555{:04}", 201 + number / 10_000, number % 10_000);
        let body = format!(
            r#"{{"to":"{number}","message":"Your table is ready.","openclaw_session_id":"bench"}}"#
        );
        let (address, path) = match self.to {
            To::Ingress(address) => (address, "/openclaw/call?wait=60"),
            To::Server(address) => (address, "/call"),
        };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(address).await?,
        };
        let answer = connection.ask(&post_to(path, body.as_bytes())).await?;
        ensure!(
            answer.status == 200,
            "a call was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        self.answered += 1;
        if matches!(self.to, To::Ingress(_)) {
            self.connection = Some(connection);
        }
        Ok(())
    }
}
