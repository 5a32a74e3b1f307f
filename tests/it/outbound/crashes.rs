//! An egress that is killed or stands still at any point of a dial: the phone rings once at most,
//! and the wish comes to an end or stands before a person.

use std::net::SocketAddr;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use voicebus::bus::server::User;
use voicebus::simulate::emitter::Config;
use voicebus::simulate::{Emitter, Race, Recorder, Retry, Setup, StandIn, StandInConfig};

use super::publish;
use crate::harness::{
    Bus, Feed, Http, Process, Proxy, as_pid, free_address, reached, reached_within, within,
};

/// Longest time in which a wish must come to rest, whatever happens to egress.
pub const REST: Duration = Duration::from_secs(120);

/// How often each point is hit: once, or as `VOICEBUS_ROUNDS` says.
pub fn rounds() -> usize {
    let rounds = std::env::var("VOICEBUS_ROUNDS").ok();
    rounds.map_or(1, |text| text.parse().expect("VOICEBUS_ROUNDS is a number"))
}

/// The bus, a router, an ingress and a voice server that flushes what it dials to a file.
pub struct Scene {
    pub bus: Bus,
    pub feed: Feed,
    pub agent: async_nats::Client,
    router: Process,
    ingress: Process,
    http: Http,
    pub server: StandIn,
    pub address: SocketAddr,
}

impl Scene {
    pub async fn set() -> Self {
        let bus = Bus::provisioned().await;
        let feed = bus.observer().await.feed().await;
        let address = free_address();
        let mut router = bus.role("router", &[]);
        let mut ingress = bus.role("ingress", &[]);
        router.ready().await;
        let http: Http = ingress.ready().await;
        let emitter = Config {
            target: http.url(),
            token: None,
            retry: Retry::UntilStopped,
            record: None,
        };
        let config = StandInConfig {
            listen: address,
            seed: u64::from(address.port()),
            emitter: Some(Emitter::new(emitter).unwrap()),
            record: Some(Recorder::open(&bus.folder("dialled.jsonl")).unwrap()),
            pace: Duration::from_millis(5),
            race: Race::AnswerFirst,
            ..StandInConfig::default()
        };
        let server = StandIn::start(config).await.unwrap();
        let agent = bus.connect(User::Agent).await.client;
        Self {
            bus,
            feed,
            agent,
            router,
            ingress,
            http,
            server,
            address,
        }
    }

    pub async fn egress(&self, server: SocketAddr, env: &[(&str, &str)]) -> Process {
        let url = format!("http://{server}");
        let mut egress = self.bus.role_with("egress", &["--voice-server", &url], env);
        egress.ready().await;
        egress
    }

    /// How long a command stays with an egress that does not say anything more.
    async fn ack_wait(&self, time: Duration) {
        let provision = self.bus.connect(User::Provision).await.jetstream;
        let stream = provision.get_stream("VOICE_CMD").await.unwrap();
        let consumer: PullConsumer = stream.get_consumer("egress").await.unwrap();
        let mut config = consumer.cached_info().config.clone();
        config.ack_wait = time;
        stream.update_consumer(config).await.unwrap();
    }

    /// Where the ingress is.
    pub fn ingress_url(&self) -> String {
        self.http.url()
    }

    /// Another voice server.
    pub async fn stand_in(&self, address: SocketAddr) -> StandIn {
        super::stand_in(address, &self.http, Race::AnswerFirst).await
    }

    pub async fn asks(&self, intent: &str, number: &str) {
        let dial = json!({ "to": number, "session": "s", "message": intent });
        publish(&self.agent, intent, intent, &dial).await;
    }

    /// How often the phone rang for a wish, as the server's own list has it.
    pub fn rang(&self, intent: &str) -> usize {
        let record = std::fs::read_to_string(self.bus.folder("dialled.jsonl")).unwrap();
        let lines = record.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line
        });
        lines
            .filter(|line| line["kind"] == "dial" && line["intent_id"] == intent)
            .filter(|line| !line["call_id"].is_null())
            .count()
    }

    /// The last that was told of a wish, once it has come to rest.
    pub async fn rests(&self, intent: &str) -> String {
        reached_within(REST, &format!("{intent} to come to rest"), async || {
            let told = super::told(&self.feed, intent);
            let last = told.last().cloned().unwrap_or_default();
            if last == "command.confirmed" {
                return Ok(last);
            }
            let answer = self
                .agent
                .request(
                    "voice.svc.egress.intent",
                    json!({ "id": intent }).to_string().into(),
                )
                .await;
            let known: serde_json::Value = match answer {
                Ok(answer) => serde_json::from_slice(&answer.payload).unwrap_or_default(),
                Err(error) => return Err(error.to_string()),
            };
            if known["settled"] == true && last == "command.unknown" {
                Ok(last)
            } else {
                Err(format!("{told:?} {known}"))
            }
        })
        .await
    }

    pub async fn clear(self, egress: Process) {
        for process in [self.router, self.ingress, egress] {
            process.stop().await;
        }
        self.server.stop().await;
    }
}

/// Kills a process with the first byte, or after the last, of a dial that goes through.
async fn tripwire(
    server: SocketAddr,
    last_byte: bool,
) -> (SocketAddr, tokio::sync::watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (pid, watched) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let pid = watched.clone();
            tokio::spawn(async move {
                let mut outside = TcpStream::connect(server).await.unwrap();
                let mut head = vec![0; 16 * 1024];
                let length = inside.read(&mut head).await.unwrap_or(0);
                let is_dial = head.starts_with(b"POST /call ");
                let kill = || rustix::process::kill_process(as_pid(*pid.borrow()), Signal::KILL);
                if is_dial && !last_byte {
                    kill().unwrap();
                    return;
                }
                outside.write_all(&head[..length]).await.unwrap();
                if is_dial {
                    // Head and body may come apart.
                    let whole = |read: &[u8]| read.ends_with(b"}");
                    let mut read = head[..length].to_vec();
                    while !whole(&read) {
                        let length = inside.read(&mut head).await.unwrap();
                        outside.write_all(&head[..length]).await.unwrap();
                        read.extend_from_slice(&head[..length]);
                    }
                    kill().unwrap();
                }
                tokio::io::copy_bidirectional(&mut inside, &mut outside)
                    .await
                    .ok();
            });
        }
    });
    (address, pid)
}

#[tokio::test]
async fn an_egress_killed_at_any_point_of_a_dial_rings_once_at_most_and_forgets_nothing() {
    let scene = Scene::set().await;
    // Where it is killed, whether the phone must have rung in the end, and what is known then.
    let places = [
        ("egress.before_record", 1, "command.confirmed"),
        ("egress.after_record", 0, "command.unknown"),
        ("egress.after_connect", 0, "command.unknown"),
        ("egress.before_write", 0, "command.unknown"),
        ("egress.after_answer", 1, "command.confirmed"),
        ("egress.after_outcome", 1, "command.confirmed"),
        ("egress.after_tell", 1, "command.confirmed"),
        ("consume.after_ack", 1, "command.confirmed"),
        ("first byte", 0, "command.unknown"),
        ("whole request", 1, "command.confirmed"),
    ];
    let all = || {
        places
            .iter()
            .cycle()
            .take(places.len() * rounds())
            .enumerate()
    };
    // As many as are done in the long form.
    let limits = [
        ("VOICEBUS_CALLS_PER_MINUTE", "10000"),
        ("VOICEBUS_CALLS_PER_HOUR", "10000"),
        ("VOICEBUS_CALLS_AT_ONCE", "1000"),
    ];
    // Else the next one that is to die takes up what the one before has left, and dies of that.
    scene.ack_wait(Duration::from_secs(3600)).await;
    for (number, (place, _, _)) in all() {
        let mut egress = match *place {
            "first byte" | "whole request" => {
                let (address, pid) = tripwire(scene.address, *place == "whole request").await;
                let egress = scene.egress(address, &limits).await;
                pid.send_replace(egress.pid());
                egress
            }
            place => {
                let env = [&limits[..], &[("VOICEBUS_CRASH_AT", place)]].concat();
                scene.egress(scene.address, &env).await
            }
        };
        let intent = format!("wish-{number}");
        scene.asks(&intent, &format!("+1201555{number:04}")).await;
        let died = egress.ended().await;
        assert!(!died.success(), "{place}: {died}");
    }
    scene.ack_wait(Duration::from_secs(30)).await;
    let egress = scene.egress(scene.address, &limits).await;
    for (number, (place, rang, last)) in all() {
        let intent = format!("wish-{number}");
        assert_eq!(scene.rests(&intent).await, *last, "{place} {number}");
        assert_eq!(scene.rang(&intent), *rang, "{place} {number}");
    }
    scene.clear(egress).await;
}

/// A server that keeps account of intents can be asked, and refuses repeats: what never arrived is
/// placed after all.
#[tokio::test]
async fn with_a_tap_a_dial_that_never_arrived_is_placed_after_all_and_once() {
    let scene = Scene::set().await;
    scene.server.set_setup(Setup {
        tap: true,
        ..Setup::default()
    });
    let places = [
        "egress.after_record",
        "egress.before_write",
        "whole request",
    ];
    for (number, place) in places.iter().enumerate() {
        let mut egress = if *place == "whole request" {
            let (address, pid) = tripwire(scene.address, true).await;
            let egress = scene.egress(address, &[]).await;
            pid.send_replace(egress.pid());
            egress
        } else {
            let env = [("VOICEBUS_CRASH_AT", *place)];
            scene.egress(scene.address, &env).await
        };
        let intent = format!("wish-{number}");
        scene.asks(&intent, &format!("+120155501{number:02}")).await;
        assert!(!egress.ended().await.success(), "{place}");
    }
    let egress = scene.egress(scene.address, &[]).await;
    for (number, place) in places.iter().enumerate() {
        let intent = format!("wish-{number}");
        assert_eq!(scene.rests(&intent).await, "command.confirmed", "{place}");
        assert_eq!(scene.rang(&intent), 1, "{place}");
    }
    scene.clear(egress).await;
}

/// A worker that stands still between its record and its write, while another takes over and the
/// deadline passes.
#[tokio::test]
async fn an_egress_that_stood_still_does_not_dial_late_what_another_has_taken_over() {
    let scene = Scene::set().await;
    let stop = [("VOICEBUS_STOP_AT", "egress.after_record")];
    let still = scene.egress(scene.address, &stop).await;
    let deadline = chrono::Utc::now() + chrono::TimeDelta::seconds(20);
    let dial = json!({ "to": "+12015550123", "session": "s", "deadline": deadline.to_rfc3339() });
    publish(&scene.agent, "wish", "wish", &dial).await;
    scene.feed.hears("wish", "command.accepted").await;
    stands_still(&still).await;
    let other = scene.egress(scene.address, &[]).await;
    reached_within(REST, "the other to find it", async || {
        let told = super::told(&scene.feed, "wish");
        let is_unknown = told == ["command.accepted", "command.unknown"];
        is_unknown.then_some(()).ok_or_else(|| format!("{told:?}"))
    })
    .await;
    assert!(chrono::Utc::now() > deadline);
    still.signal(Signal::CONT);
    // It sees that nothing has left and that it is too late, and says so.
    scene.feed.hears("wish", "command.expired").await;
    assert_eq!(scene.rang("wish"), 0);
    still.stop().await;
    assert_eq!(scene.rang("wish"), 0);
    scene.clear(other).await;
}

/// A worker that counted a dial and lost the race for it must not take it out of the count: it rang.
#[tokio::test]
async fn a_dial_that_another_has_taken_over_stays_counted() {
    let scene = Scene::set().await;
    let limit = ("VOICEBUS_CALLS_PER_HOUR", "1");
    let stop = [limit, ("VOICEBUS_STOP_AT", "egress.before_record")];
    let still = scene.egress(scene.address, &stop).await;
    scene.asks("wish", "+12015550123").await;
    scene.feed.hears("wish", "command.accepted").await;
    stands_still(&still).await;
    let other = scene.egress(scene.address, &[limit]).await;
    assert_eq!(scene.rests("wish").await, "command.confirmed");
    still.signal(Signal::CONT);
    reached("the other to let go of it", async || {
        let log = still.log();
        log.contains("\"call placed\"").then_some(()).ok_or(log)
    })
    .await;
    still.stop().await;
    scene.asks("next", "+12015550124").await;
    scene.feed.hears("next", "command.refused").await;
    assert_eq!((scene.rang("wish"), scene.rang("next")), (1, 0));
    scene.clear(other).await;
}

pub async fn stands_still(egress: &Process) {
    reached_within(REST, "egress to stand still", async || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", egress.pid())).unwrap();
        let state = stat.rsplit(')').next().unwrap().trim().to_owned();
        state.starts_with('T').then_some(()).ok_or(state)
    })
    .await;
}

/// NATS is cut off while the record is on its way: what is not known to be on record is not sent.
#[tokio::test]
async fn a_record_whose_acknowledgement_is_lost_is_cleared_up_before_anything_leaves() {
    let scene = Scene::set().await;
    let nats = Proxy::to(scene.bus.server.url()).await;
    let env = [
        ("VOICEBUS_NATS_URL", nats.url()),
        ("VOICEBUS_STOP_AT", "egress.before_record"),
    ];
    let egress = scene.egress(scene.address, &env).await;
    scene.asks("wish", "+12015550123").await;
    scene.feed.hears("wish", "command.accepted").await;
    stands_still(&egress).await;
    nats.stop_forwarding();
    egress.signal(Signal::CONT);
    within("the write to be given up", async {
        while !egress.log().contains("message not done yet") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(scene.rang("wish"), 0);
    nats.forward_again();
    assert_eq!(scene.rests("wish").await, "command.confirmed");
    assert_eq!(scene.rang("wish"), 1);
    scene.clear(egress).await;
}

/// All workers remember their dials under the one number that is shown: each that loses a race
/// there must come to its turn.
#[tokio::test]
async fn many_workers_share_one_number_of_ours() {
    let scene = Scene::set().await;
    let env = [
        ("VOICEBUS_OWN_NUMBERS", "+15005550006"),
        ("VOICEBUS_CALLS_PER_MINUTE", "1000"),
        ("VOICEBUS_CALLS_AT_ONCE", "1000"),
    ];
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(scene.egress(scene.address, &env).await);
    }
    let wishes: Vec<String> = (0..150).map(|number| format!("wish-{number}")).collect();
    for (wish, number) in wishes.iter().zip(2000..) {
        scene.asks(wish, &format!("+1201200{number}")).await;
    }
    for wish in &wishes {
        assert_eq!(scene.rests(wish).await, "command.confirmed", "{wish}");
        assert_eq!(scene.rang(wish), 1, "{wish}");
    }
    for egress in &workers {
        assert!(!egress.log().contains("changed too often"));
    }
    let last = workers.remove(0);
    for egress in workers {
        egress.stop().await;
    }
    scene.clear(last).await;
}
