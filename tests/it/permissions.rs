//! `nats/accounts.conf`: what each role may do, and that it may do nothing else.

mod plugin;
mod readers;
mod roles;
mod told;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::PublishMessage;
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use voicebus::bus::server::User;
use voicebus::bus::server::User::{
    Agent, Egress, Ingress, Observer, Operator, Plugin, Provision, Router,
};

use crate::harness::{Bus, Role, within};

/// Who may publish where. Everybody else must be refused.
#[rustfmt::skip]
const PUBLISH: &[(&str, &[User])] = &[
    // Accepted events, and the two kinds that are not the ingress's to make
    ("voice.in.3.CA1.ringing", &[Ingress, Operator]),
    ("voice.in.3.CA1.timer", &[Operator]),
    ("voice.in.3.CA1.command", &[Egress, Operator]),
    ("voice.in.3.CA1.context", &[Ingress, Egress, Operator]),
    ("voice.timer.CA1.stale", &[Router]),
    // The public feed
    ("voicebus.commit.CA1.s-1.state.ended", &[Router]),
    ("voice.event.CA1.s-1.state.ended", &[]),
    // Old events once more, where nothing takes them for new ones
    ("replay.test", &[Operator]),
    ("replay", &[]),
    // Commands and requests
    ("voice.cmd.dial.key", &[Ingress, Egress, Agent, Plugin]),
    ("voice.cmd.cancel.key", &[Ingress, Egress, Agent]),
    ("voice.cmd.hangup.CA1", &[Ingress, Egress, Agent, Plugin]),
    ("voice.cmd.say.CA1", &[Ingress, Egress, Agent, Plugin]),
    ("voice.cmd.context.CA1", &[Ingress, Egress, Agent, Plugin]),
    ("voice.cmd.link.key", &[Ingress, Egress, Agent, Plugin]),
    ("voice.cmd.unlink.key", &[Ingress, Egress, Agent, Plugin]),
    ("voice.cmd.other.key", &[Ingress, Egress, Agent]),
    ("voice.cmd.resolve.key", &[Operator]),
    ("voice.cmd.resume.dialling", &[Operator]),
    ("voice.svc.calls.list", &[Ingress, Egress, Agent, Plugin, Observer]),
    ("voice.svc.calls.get", &[Ingress, Egress, Agent, Observer]),
    ("voice.svc.callers.get", &[Ingress, Agent, Plugin, Observer]),
    ("voice.svc.sessions.list", &[Ingress, Agent, Observer]),
    ("voice.svc.commands.get", &[Ingress, Egress, Agent, Plugin]),
    ("voice.svc.dial", &[Ingress, Agent]),
    ("voice.svc.hangup", &[Ingress, Agent]),
    ("voice.svc.say", &[Ingress, Agent]),
    (
        "voice.svc.egress.status",
        &[Ingress, Router, Agent, Plugin, Observer],
    ),
    ("voice.svc.egress.intent", &[Ingress, Router, Egress, Agent, Observer]),
    ("voice.svc.egress.unresolved", &[Ingress, Router, Agent, Observer]),
    ("voice.svc.egress.call", &[Ingress, Router, Agent]),
    ("voice.svc.egress.transcript", &[Ingress, Router, Agent]),
    // Each tells only about itself
    ("voice.dlq.ingress.malformed", &[Ingress]),
    ("voice.dlq.router.poison", &[Router]),
    ("voice.dlq.egress.poison", &[Egress]),
    ("voice.health.ingress", &[Ingress]),
    ("voice.health.router", &[Router]),
    ("voice.health.egress", &[Egress]),
    ("voice.health.voice-server", &[Egress]),
    ("voice.audio.CA1.s-1", &[Ingress]),
    ("voice.anything.else", &[]),
    // Canaries: each stream's by the one that watches it
    ("voicebus.canary.VOICE_IN", &[Ingress]),
    ("voicebus.canary.VOICE_CMD", &[Ingress]),
    ("voicebus.canary.VOICE_EVENT", &[Router]),
    ("voicebus.canary.VOICE_DLQ", &[Router]),
    ("voicebus.canary.KV_VOICE_INTENT", &[Egress]),
    ("voicebus.canary.KV_VOICE_NUMBER", &[Egress]),
    ("voicebus.canary.KV_VOICE_LINK", &[]),
    // What the server is like, and nothing else of its business
    ("$SYS.REQ.SERVER.PING.VARZ", &[Ingress, Router, Egress, Provision, Agent, Observer]),
    ("$SYS.REQ.SERVER.PING.CONNZ", &[]),
    ("$SYS.REQ.SERVER.PING", &[]),
    ("other.business", &[]),
    // Answers to others, and questions to services
    ("_INBOX_router.x", &[]),
    ("_INBOX.x", &[]),
    ("$SRV.PING", &[Agent, Observer]),
    ("$SRV.INFO.router", &[Agent, Observer]),
    ("$SRV.STATS.router.1", &[Agent, Observer]),
    ("$SRV.OTHER", &[]),
    // Looking around
    ("$JS.API.INFO", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.STREAM.NAMES", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.STREAM.LIST", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.STREAM.INFO.VOICE_IN", &[Ingress, Router, Egress, Provision, Agent, Observer, Operator]),
    ("$JS.API.STREAM.INFO.VOICE_CMD", &[Ingress, Egress, Provision, Agent, Observer, Operator]),
    ("$JS.API.STREAM.INFO.VOICE_EVENT", &[Router, Provision, Agent, Plugin, Observer, Operator]),
    ("$JS.API.CONSUMER.NAMES.VOICE_IN", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.LIST.VOICE_IN", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.INFO.VOICE_IN.p3", &[Router, Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.INFO.VOICE_CMD.egress", &[Egress, Provision, Agent, Observer, Operator]),
    // Working off accepted events and commands
    ("$JS.API.CONSUMER.MSG.NEXT.VOICE_IN.p3", &[Router, Provision]),
    ("$JS.API.CONSUMER.MSG.NEXT.VOICE_CMD.egress", &[Egress, Provision]),
    ("$JS.ACK.VOICE_IN.p3.1.1.1.1.0", &[Router]),
    ("$JS.ACK.VOICE_CMD.egress.1.1.1.1.0", &[Egress]),
    // The plugin's place in the public feed is its own
    ("$JS.API.CONSUMER.INFO.VOICE_EVENT.openclaw", &[Router, Provision, Agent, Plugin, Observer, Operator]),
    ("$JS.API.CONSUMER.INFO.VOICE_EVENT.other", &[Router, Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT.openclaw", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT.openclaw.voice.event.>", &[Provision, Plugin]),
    ("$JS.API.CONSUMER.MSG.NEXT.VOICE_EVENT.openclaw", &[Provision, Plugin]),
    ("$JS.API.CONSUMER.DELETE.VOICE_EVENT.openclaw", &[Provision]),
    ("$JS.ACK.VOICE_EVENT.openclaw.1.1.1.1.0", &[Plugin]),
    // Reading the contents of streams
    ("$JS.API.DIRECT.GET.VOICE_EVENT", &[Router, Provision, Agent, Plugin, Observer, Operator]),
    ("$JS.API.DIRECT.GET.VOICE_EVENT.voice.event.CA1.>", &[Router, Provision, Agent, Observer, Operator]),
    ("$JS.API.STREAM.MSG.GET.VOICE_EVENT", &[Router, Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT.name", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT.n.voice.event.CA1.>", &[Router, Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.MSG.NEXT.VOICE_EVENT.name", &[Router, Provision, Agent, Observer, Operator]),
    ("$JS.ACK.VOICE_EVENT.n.1.1.1.1.0", &[Agent, Observer]),
    ("$JS.FC.VOICE_EVENT.n.x", &[Router, Agent, Observer]),
    ("$JS.API.DIRECT.GET.VOICE_DLQ", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.STREAM.MSG.GET.VOICE_DLQ", &[Provision, Agent, Observer, Operator]),
    ("$JS.API.CONSUMER.CREATE.VOICE_DLQ", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.CREATE.VOICE_DLQ.n.voice.dlq.>", &[Provision, Agent, Observer]),
    ("$JS.API.DIRECT.GET.VOICE_IN", &[Provision]),
    ("$JS.API.DIRECT.GET.VOICE_IN.voice.in.3.>", &[Provision]),
    ("$JS.API.STREAM.MSG.GET.VOICE_IN", &[Router, Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_IN", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_IN.n.voice.in.>", &[Provision]),
    ("$JS.API.DIRECT.GET.VOICE_CMD", &[Provision]),
    ("$JS.API.DIRECT.GET.VOICE_CMD.voice.cmd.>", &[Provision]),
    ("$JS.API.DIRECT.GET.VOICE_CMD.voice.cmd.dial.i-1", &[Ingress, Egress, Provision, Agent]),
    ("$JS.API.DIRECT.GET.VOICE_CMD.voice.cmd.hangup.CA1", &[Provision]),
    ("$JS.API.STREAM.MSG.GET.VOICE_CMD", &[Egress, Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_CMD", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_CMD.n.voice.cmd.>", &[Provision]),
    // Changing what provisioning made. (Asked without a body, so that nothing happens.)
    ("$JS.API.STREAM.CREATE.MINE", &[Provision]),
    ("$JS.API.STREAM.UPDATE.VOICE_EVENT", &[Provision]),
    ("$JS.API.STREAM.MSG.DELETE.VOICE_EVENT", &[Provision]),
    ("$JS.API.STREAM.MSG.DELETE.VOICE_IN", &[Provision]),
    ("$JS.API.STREAM.MSG.DELETE.VOICE_DLQ", &[Provision, Operator]),
    ("$JS.API.STREAM.DELETE.NONE", &[Provision]),
    ("$JS.API.STREAM.PURGE.NONE", &[Provision]),
    ("$JS.API.STREAM.SNAPSHOT.VOICE_IN", &[Provision]),
    ("$JS.API.STREAM.RESTORE.MINE", &[Provision]),
    ("$JS.API.CONSUMER.DURABLE.CREATE.VOICE_EVENT.mine", &[Provision]),
    ("$JS.API.CONSUMER.DURABLE.CREATE.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.DELETE.VOICE_IN.none", &[Provision]),
    ("$JS.API.CONSUMER.DELETE.VOICE_EVENT.none", &[Router, Provision, Agent]),
    ("$JS.API.CONSUMER.PAUSE.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.RESET.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.UNPIN.VOICE_IN.p3", &[Provision]),
    // Buckets
    ("$KV.VOICE_NUMBER.k", &[Router, Egress]),
    ("$KV.VOICE_INTENT.k", &[Egress]),
    ("$KV.VOICE_LINK.k", &[Egress]),
    ("$KV.VOICE_LIMIT.k", &[Egress]),
    ("$JS.API.DIRECT.GET.KV_VOICE_NUMBER.$KV.VOICE_NUMBER.k", &[Router, Egress, Provision]),
    ("$JS.API.DIRECT.GET.KV_VOICE_LINK.$KV.VOICE_LINK.k", &[Router, Egress, Provision]),
    ("$JS.API.DIRECT.GET.KV_VOICE_LIMIT.$KV.VOICE_LIMIT.k", &[Egress, Provision]),
    ("$JS.API.DIRECT.GET.KV_VOICE_INTENT.$KV.VOICE_INTENT.k", &[Egress, Provision]),
    ("$JS.API.STREAM.MSG.GET.KV_VOICE_INTENT", &[Egress, Provision]),
    ("$JS.API.CONSUMER.CREATE.KV_VOICE_INTENT.n.$KV.VOICE_INTENT.>", &[Egress, Provision]),
    ("$JS.API.CONSUMER.CREATE.KV_VOICE_LINK.n.$KV.VOICE_LINK.>", &[Provision]),
    // The server's own subjects
    ("$SYS.REQ.SERVER.PING", &[]),
    ("$SYS.ACCOUNT.VOICE.DISCONNECT", &[]),
];

/// Who may subscribe where. Everybody else must be refused.
#[rustfmt::skip]
const SUBSCRIBE: &[(&str, &[User])] = &[
    (">", &[]),
    ("*.>", &[]),
    ("voice.>", &[Agent, Observer]),
    ("voice.in.>", &[]),
    ("voice.in.*.*.*", &[]),
    ("voice.timer.>", &[]),
    ("voicebus.commit.>", &[]),
    ("voicebus.canary.>", &[]),
    ("voice.cmd.>", &[]),
    ("voice.dlq.>", &[]),
    ("voice.event.>", &[Agent, Observer]),
    ("voice.event.CA1.>", &[Agent, Observer]),
    ("voice.event.*.*.transcript.user", &[Agent, Observer]),
    ("voice.event.*.*.command.*", &[Ingress, Egress, Agent, Plugin, Observer]),
    ("voice.event.*.*.command.confirmed", &[Ingress, Egress, Agent, Plugin, Observer]),
    ("voice.event.*.*.*.*", &[Agent, Observer]),
    ("voice.health.>", &[Ingress, Agent, Observer]),
    ("voice.audio.>", &[Agent, Observer]),
    ("voice.svc.>", &[]),
    ("voice.svc.calls.list", &[Router]),
    ("voice.svc.sessions.get", &[Router]),
    ("voice.svc.callers.get", &[Router]),
    ("voice.svc.commands.get", &[Router]),
    ("voice.svc.dial", &[Egress]),
    ("voice.svc.hangup", &[Egress]),
    ("voice.svc.say", &[Egress]),
    ("voice.svc.egress.status", &[Egress]),
    ("$SRV.PING", &[Router, Egress]),
    ("_INBOX.>", &[Observer]),
    ("_INBOX_ingress.>", &[Ingress]),
    ("_INBOX_router.>", &[Router]),
    ("_INBOX_egress.>", &[Egress]),
    ("_INBOX_provision.>", &[Provision]),
    ("_INBOX_agent.>", &[Agent]),
    ("_INBOX_plugin.>", &[Plugin]),
    ("$KV.VOICE_INTENT.>", &[]),
    ("$JS.>", &[]),
    ("$JS.EVENT.ADVISORY.>", &[]),
    ("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.VOICE_IN.>", &[Router]),
    ("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.VOICE_IN.>", &[Router]),
    ("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.VOICE_CMD.>", &[Egress]),
    ("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.VOICE_CMD.>", &[Egress]),
    ("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.VOICE_EVENT.>", &[]),
    ("replay.>", &[Agent, Observer]),
    ("replay.test", &[Agent, Observer]),
    ("_INBOX_operator.>", &[Operator]),
    ("$SYS.>", &[]),
];

#[tokio::test]
async fn each_role_publishes_where_it_may_and_nowhere_else() {
    let bus = Bus::with_streams().await;
    let mut wrong = Vec::new();
    for user in User::ALL {
        let mut wire = Wire::connect(&bus, user).await;
        for (subject, allowed) in PUBLISH {
            let denials = wire.ask(&format!("PUB {subject} 0\r\n\r\n")).await;
            compare(&mut wrong, "publish", user, subject, allowed, &denials);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn each_role_subscribes_where_it_may_and_nowhere_else() {
    let bus = Bus::empty().await;
    let mut wrong = Vec::new();
    for user in User::ALL {
        let mut wire = Wire::connect(&bus, user).await;
        for (subject, allowed) in SUBSCRIBE {
            let denials = wire.ask(&format!("SUB {subject} 1\r\n")).await;
            compare(&mut wrong, "subscribe", user, subject, allowed, &denials);
            let queued = wire.ask(&format!("SUB {subject} some.queue 2\r\n")).await;
            compare(&mut wrong, "share", user, subject, allowed, &queued);
            wire.ask("UNSUB 1\r\nUNSUB 2\r\n").await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn compare(
    wrong: &mut Vec<String>,
    verb: &str,
    user: User,
    subject: &str,
    allowed: &[User],
    denials: &[String],
) {
    let may = allowed.contains(&user);
    let was_denied = denials
        .iter()
        .any(|denial| denial.contains("Permissions Violation"));
    if may == was_denied {
        let should = if may { "must" } else { "must not" };
        wrong.push(format!("{} {should} {verb} `{subject}`", user.name()));
    }
}

#[tokio::test]
async fn nobody_gets_in_without_the_right_password() {
    let bus = Bus::empty().await;
    let refused = async |options: async_nats::ConnectOptions| {
        let outcome = within("refusal", options.connect(bus.server.url())).await;
        let error = outcome.expect_err("let in");
        assert!(
            matches!(
                error.kind(),
                async_nats::ConnectErrorKind::AuthorizationViolation
            ),
            "{error}"
        );
    };
    refused(async_nats::ConnectOptions::new()).await;
    for user in User::ALL {
        let other = User::ALL.into_iter().find(|other| *other != user).unwrap();
        let others = bus.server.credentials().password(other).reveal();
        for password in ["", "wrong", others] {
            let name = user.name().to_owned();
            refused(async_nats::ConnectOptions::with_user_and_password(
                name,
                password.to_owned(),
            ))
            .await;
        }
    }
}

/// What the server has taken in force before it answers a question, subscriptions too.
async fn in_force(role: &Role) {
    let question = role.client.request("$JS.API.INFO", "".into());
    within("answer", question).await.unwrap();
}

async fn publish(role: &Role, subject: &str) {
    let sent = role.jetstream.publish(subject.to_owned(), "{}".into());
    within("publish", sent.await.unwrap().into_future())
        .await
        .unwrap();
}

/// The next event of a call, as the router commits it.
async fn commit(router: &Role, call: &str, what: &str, last: u64) {
    let filter = format!("voice.event.{call}.>");
    let event = PublishMessage::build()
        .payload("{}".into())
        .expected_last_subject_sequence(last)
        .header(
            "Nats-Expected-Last-Subject-Sequence-Subject",
            filter.as_str(),
        );
    let subject = format!("voicebus.commit.{call}.s-1.{what}");
    let sent = router.jetstream.send_publish(subject, event).await.unwrap();
    within("commit", sent.into_future()).await.unwrap();
}

async fn read(consumer: &PullConsumer, count: usize) -> Vec<async_nats::jetstream::Message> {
    let messages = within("batch", consumer.batch().max_messages(count).messages())
        .await
        .unwrap();
    let messages: Vec<_> = within("messages", messages.take(count).collect()).await;
    let messages: Vec<_> = messages.into_iter().map(Result::unwrap).collect();
    assert_eq!(messages.len(), count);
    messages
}

/// The bare protocol: unlike a client library, it tells for each line whether it was
/// denied, since the server answers PING after everything before it.
struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    async fn connect(bus: &Bus, user: User) -> Self {
        let address = bus.server.url().strip_prefix("nats://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut wire = Self {
            stream: BufReader::new(stream),
        };
        let password = bus.server.credentials().password(user).reveal();
        let denials = wire
            .ask(&format!(
                "CONNECT {{\"verbose\":false,\"user\":\"{}\",\"pass\":\"{password}\"}}\r\n",
                user.name()
            ))
            .await;
        assert!(denials.is_empty(), "{denials:?}");
        wire
    }

    /// Sends lines, and returns what the server had against them.
    async fn ask(&mut self, lines: &str) -> Vec<String> {
        let lines = format!("{lines}PING\r\n");
        self.stream.write_all(lines.as_bytes()).await.unwrap();
        let mut denials = Vec::new();
        loop {
            let mut line = String::new();
            let read = within("PONG", self.stream.read_line(&mut line))
                .await
                .unwrap();
            assert!(read > 0, "closed after {denials:?}");
            match line.trim_end() {
                "PONG" => return denials,
                error if error.starts_with("-ERR") => denials.push(error.to_owned()),
                _ => {}
            }
        }
    }
}
