//! The committer itself, without HTTP.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use voicebus::bus::publish::Message;
use voicebus::bus::server::User;
use voicebus::bus::subjects::Subjects;
use voicebus::bus::{self, Auth, Bus, Tls};
use voicebus::domain::ids::CallId;
use voicebus::domain::input::InputKind;
use voicebus::ingress::Counters;
use voicebus::ingress::committer::{Answer, Committer, Error, Grouping, Options, build};
use voicebus::ingress::spool::{Bounds, Spool};

use super::{provisioned, stored};
use crate::harness::{self, Nats, eventually, within};

struct Stage {
    bus: Bus,
    committer: Committer,
    counters: Arc<Counters>,
}

impl Stage {
    async fn set(nats: &Nats, options: Options) -> Self {
        let settings = bus::Settings {
            url: nats.url().to_owned(),
            auth: Auth::None,
            tls: Tls::default(),
            role: "ingress",
        };
        let bus = Bus::open(bus::connect(&settings).await.unwrap())
            .await
            .unwrap();
        Self::on(bus, options)
    }

    fn on(bus: Bus, options: Options) -> Self {
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let (committer, running) = build(bus.clone(), options, Arc::clone(&counters), stop);
        tokio::spawn(running.run());
        Self {
            bus,
            committer,
            counters,
        }
    }

    async fn store(&self, call: &str, id: &str) -> Result<Answer, Error> {
        self.store_sized(call, id, 200).await
    }

    async fn store_sized(&self, call: &str, id: &str, size: usize) -> Result<Answer, Error> {
        let call = CallId::parse(call).unwrap();
        let subject = self.bus.subjects().input(&call, &InputKind::Ringing);
        self.store_on(subject, &call, id, size).await
    }

    async fn store_on(
        &self,
        subject: String,
        call: &CallId,
        id: &str,
        size: usize,
    ) -> Result<Answer, Error> {
        let message = Message {
            subject,
            id: id.to_owned(),
            headers: Vec::new(),
            payload: Bytes::from(vec![b'x'; size]),
        };
        self.committer.store(Some(call.to_string()), message).await
    }

    fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        counter(&self.counters).load(Ordering::Relaxed)
    }

    async fn drained(&self) {
        let gauge = self.committer.gauge();
        eventually("an empty spool", async || {
            (gauge.depth()?.events == 0).then_some(())
        })
        .await;
    }
}

fn grouping(grouping: Grouping) -> Options {
    Options {
        grouping,
        ..Options::default()
    }
}

fn with_spool(dir: &TempDir) -> Options {
    let bounds = Bounds {
        bytes_max: 1 << 28,
        events_max: 10_000,
    };
    Options {
        spool: Some(Spool::open(dir.path(), bounds).unwrap()),
        ..Options::default()
    }
}

const NEW: Result<Answer, Error> = Ok(Answer::Stored { duplicate: false });
const KNOWN: Result<Answer, Error> = Ok(Answer::Stored { duplicate: true });

/// The ids of each call, in the order of VOICE_IN.
async fn ids(nats: &Nats, call: &str) -> Vec<String> {
    let all = stored(nats, "VOICE_IN").await;
    let of_call = |subject: &str| subject.split('.').nth(3) == Some(call);
    all.into_iter()
        .filter(|(subject, ..)| of_call(subject))
        .map(|(_, id, _)| id)
        .collect()
}

#[tokio::test]
async fn three_hundred_at_once_are_stored_once_each_and_in_the_order_of_their_calls() {
    for mode in [Grouping::Auto, Grouping::Off, Grouping::Always] {
        let nats = Nats::start_flushing().await;
        provisioned(&nats).await;
        let stage = Stage::set(&nats, grouping(mode)).await;
        // Something was measured before.
        join_all((0..20).map(|n| stage.store("warm", ["w", &n.to_string()].concat().leak()))).await;
        let names: Vec<(String, String)> = (0..300)
            .map(|n| (format!("CA{}", n % 7), format!("ev_{n}")))
            .collect();
        // Every tenth comes a second time at once.
        let repeated = names.iter().step_by(10);
        let all: Vec<_> = names.iter().chain(repeated).collect();
        let answers = join_all(all.iter().map(|(call, id)| stage.store(call, id))).await;
        assert!(
            answers[..300].iter().all(|answer| *answer == NEW),
            "{mode:?}: {answers:?}"
        );
        assert!(
            answers[300..].iter().all(|answer| *answer == KNOWN),
            "{mode:?}: {answers:?}"
        );
        for call in 0..7 {
            let wanted: Vec<String> = (0..300)
                .filter(|n| n % 7 == call)
                .map(|n| format!("ev_{n}"))
                .collect();
            assert_eq!(ids(&nats, &format!("CA{call}")).await, wanted, "{mode:?}");
        }
        let batches = stage.count(|counters| &counters.batches);
        assert_eq!(batches > 0, mode != Grouping::Off, "{mode:?}");
    }
}

#[tokio::test]
async fn a_batch_with_an_id_that_only_the_stream_knows_goes_one_by_one() {
    let nats = Nats::start_flushing().await;
    provisioned(&nats).await;
    let before = Stage::set(&nats, grouping(Grouping::Off)).await;
    assert_eq!(before.store("CA0", "ev_20").await, NEW);
    // Another process, which knows nothing of it.
    let stage = Stage::set(&nats, grouping(Grouping::Always)).await;
    let names: Vec<String> = (0..40).map(|n| format!("ev_{n}")).collect();
    let answers = join_all(names.iter().map(|id| stage.store("CA0", id))).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, if n == 20 { KNOWN } else { NEW }, "{n}");
    }
    assert_eq!(stage.count(|counters| &counters.batch_fallbacks), 1);
    let wanted: Vec<String> = std::iter::once(20)
        .chain((0..40).filter(|n| *n != 20))
        .map(|n| format!("ev_{n}"))
        .collect();
    assert_eq!(ids(&nats, "CA0").await, wanted);
}

#[tokio::test]
async fn what_is_too_large_for_the_stream_is_refused_and_holds_up_nobody() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let stage = Stage::set(&nats, grouping(Grouping::Always)).await;
    let (first, large, last) = tokio::join!(
        stage.store("CA0", "ev_0"),
        stage.store_sized("CA0", "ev_1", 1_000_001),
        stage.store("CA0", "ev_2"),
    );
    assert_eq!((first, last), (NEW, NEW));
    assert!(matches!(large, Err(Error::Unacceptable(_))), "{large:?}");
    assert_eq!(ids(&nats, "CA0").await, ["ev_0", "ev_2"]);
}

#[tokio::test]
async fn a_spooled_event_that_nats_will_never_take_becomes_a_dead_letter() {
    let mut nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(&nats, with_spool(&dir)).await;
    nats.kill();
    eventually("an absence", async || {
        (!stage.bus.connection().is_connected()).then_some(())
    })
    .await;
    for (id, size) in [
        ("ev_0", 10),
        ("ev_1", 1_000_001),
        ("ev_2", 10),
        ("ev_3", 1_048_000),
    ] {
        assert_eq!(
            stage.store_sized("CA0", id, size).await,
            Ok(Answer::Spooled)
        );
    }
    nats.restart().await;
    stage.drained().await;
    assert_eq!(ids(&nats, "CA0").await, ["ev_0", "ev_2"]);
    let letters = stored(&nats, "VOICE_DLQ").await;
    let letters: Vec<_> = letters
        .iter()
        .map(|(subject, id, _)| (subject.as_str(), id.as_str()))
        .collect();
    assert_eq!(letters, [("voice.dlq.ingress.refused", "dlq ingress ev_1")]);
    assert_eq!(stage.count(|counters| &counters.buried), 1);
    // The dead letters did not take the largest one either.
    assert_eq!(stage.count(|counters| &counters.set_aside), 1);
    assert_eq!(stage.committer.gauge().depth().unwrap().aside, 1);
    assert_eq!(stage.store("CA0", "ev_4").await, NEW);
}

#[tokio::test]
async fn a_stream_that_takes_nothing_for_a_while_loses_nothing() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::set(&nats, with_spool(&dir)).await;
    let jetstream = nats.jetstream().await;
    let mut stream = jetstream.get_stream("VOICE_IN").await.unwrap();
    let config = stream.info().await.unwrap().config.clone();
    jetstream.delete_stream("VOICE_IN").await.unwrap();
    let names: Vec<String> = (0..50).map(|n| format!("ev_{n}")).collect();
    for answer in join_all(names.iter().map(|id| stage.store("CA0", id))).await {
        assert_eq!(answer, Ok(Answer::Spooled));
    }
    assert!(stage.committer.gauge().stalled().is_some() || stage.count(|c| &c.drained) == 0);
    jetstream.create_stream(config).await.unwrap();
    stage.drained().await;
    assert_eq!(ids(&nats, "CA0").await, names);
}

/// As the role, on a server with its permissions.
async fn as_ingress(server: &harness::Bus, options: Options) -> Stage {
    let password = server.server.credentials().password(User::Ingress);
    let settings = bus::Settings {
        url: server.server.url().to_owned(),
        auth: Auth::Password {
            user: User::Ingress.name().to_owned(),
            password: password.reveal().to_owned(),
        },
        tls: Tls::default(),
        role: User::Ingress.name(),
    };
    let connection = bus::connect(&settings).await.unwrap();
    let subjects = Subjects::new(NonZeroU32::new(32).unwrap(), "salt");
    Stage::on(Bus::new(connection, subjects, 0), options)
}

#[tokio::test]
async fn the_permissions_of_an_ingress_are_enough_for_batches_and_single_events() {
    let server = harness::Bus::with_streams().await;
    let stage = as_ingress(&server, grouping(Grouping::Always)).await;
    let names: Vec<String> = (0..100).map(|n| format!("ev_{n}")).collect();
    for answer in join_all(names.iter().map(|id| stage.store("CA0", id))).await {
        assert_eq!(answer, NEW);
    }
    assert!(stage.count(|counters| &counters.batches) > 0);
    assert_eq!(stage.store("CA0", "ev_100").await, NEW);
    assert_eq!(stage.bus.connection().denials(), 0);
}

#[tokio::test]
async fn a_spooled_event_that_never_gets_an_answer_does_not_hold_up_the_others() {
    let server = harness::Bus::with_streams().await;
    let dir = tempfile::tempdir().unwrap();
    let stage = as_ingress(&server, with_spool(&dir)).await;
    // Only egress may write these, and the server says so to nobody.
    let call = CallId::parse("CA0").unwrap();
    let denied = "voice.in.1.CA0.command".to_owned();
    let answer = stage.store_on(denied, &call, "ev_denied", 10).await;
    assert_eq!(answer, Ok(Answer::Spooled));
    let others = async {
        for n in 0.. {
            stage.store("CA1", &format!("ev_{n}")).await.unwrap();
            if stage.count(|counters| &counters.buried) == 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, others).await.unwrap();
    stage.drained().await;
    within("the last event", async {
        stage.store("CA0", "ev_after").await
    })
    .await
    .unwrap();
}

/// Not a test but a measurement: `cargo test --release --test it -- --ignored --nocapture rates`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and asserts nothing"]
async fn rates_with_and_without_batches() {
    for flushing in [true, false] {
        let nats = if flushing {
            Nats::start_flushing().await
        } else {
            Nats::start().await
        };
        provisioned(&nats).await;
        for waiting in [1, 16, 64, 256] {
            let mut line = format!("flushing={flushing} waiting={waiting:>3}");
            for mode in [Grouping::Off, Grouping::Always, Grouping::Auto] {
                let stage = Arc::new(Stage::set(&nats, grouping(mode)).await);
                let (rate, median) = rate(&stage, waiting).await;
                let batches = stage.count(|counters| &counters.batches);
                line += &format!("  {mode:?} {rate:>6}/s p50 {median:>6} us, {batches} batches");
            }
            eprintln!("{line}");
        }
        let dir = tempfile::tempdir().unwrap();
        let stage = Arc::new(Stage::set(&nats, with_spool(&dir)).await);
        let (rate, median) = rate(&stage, 64).await;
        eprintln!(
            "flushing={flushing} with a spool that is empty, 64 waiting: {rate}/s p50 {median} us"
        );
    }
}

/// Events a second, and the median time of one in microseconds, with so many always waiting.
async fn rate(stage: &Arc<Stage>, waiting: usize) -> (usize, u128) {
    let run = uuid::Uuid::now_v7().simple().to_string();
    let span = std::time::Duration::from_secs(2);
    let started = std::time::Instant::now();
    let senders: Vec<_> = (0..waiting)
        .map(|sender| {
            let (stage, run) = (Arc::clone(stage), run.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                let call = format!("CA{sender}");
                while started.elapsed() < span {
                    let begun = std::time::Instant::now();
                    let id = format!("ev_{run}_{sender}_{}", took.len());
                    stage.store_sized(&call, &id, 400).await.unwrap();
                    took.push(begun.elapsed().as_micros());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for sender in senders {
        took.extend(sender.await.unwrap());
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    (took.len() / 2, median)
}
