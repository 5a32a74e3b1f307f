//! Tokens are changed while events come in, and none is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use voicebus::bus::server::User;

use crate::harness::{Bus, Http, Process, free_address, reached, said};

const OLD: [(&str, &str); 3] = [
    ("VOICEBUS_EVENT_TOKEN", "old-event-token-0123"),
    ("VOICEBUS_COMMAND_TOKEN", "old-command-token-01"),
    ("VOICEBUS_READ_TOKEN", "old-read-token-01234"),
];
const NEW: [(&str, &str); 3] = [
    ("VOICEBUS_EVENT_TOKEN", "new-event-token-0123"),
    ("VOICEBUS_COMMAND_TOKEN", "new-command-token-01"),
    ("VOICEBUS_READ_TOKEN", "new-read-token-01234"),
];

/// The call server, which sends on, and sends again what was not taken.
async fn send_on(address: std::net::SocketAddr, uses_new: &AtomicBool, stop: &AtomicBool) -> u64 {
    voicebus::install_crypto();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let body = said("rtc_1", &sent.to_string());
        let what = format!("event {sent} to be taken");
        reached(&what, async || {
            let token = if uses_new.load(Ordering::Relaxed) {
                NEW[0].1
            } else {
                OLD[0].1
            };
            let request = client.post(format!("http://{address}/call-event"));
            let answer = request.bearer_auth(token).json(&body).send().await;
            let status = answer.map_err(|error| error.to_string())?.status();
            // Whatever happens, the sender's own token is never refused.
            assert_ne!(status, 401, "event {sent}");
            if status == 200 {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
        sent += 1;
    }
    sent
}

/// Whether each group of doors opens to its token of these.
async fn opens(http: &Http, tokens: [(&str, &str); 3]) -> [bool; 3] {
    let [event, command, read] = tokens.map(|(_, token)| http.with_token(token));
    [
        event
            .post("/call-event", &serde_json::json!({}))
            .await
            .status
            != 401,
        command.get("/openclaw/call/none").await.status != 401,
        read.get("/status").await.status != 401,
    ]
}

#[tokio::test]
async fn new_tokens_at_every_door_cost_no_event() {
    let bus = Bus::provisioned().await;
    let address = free_address();
    let listen = address.to_string();
    let password = bus.server.credentials().password(User::Ingress).reveal();
    let start = |tokens: &[(&str, &str)]| {
        let args = [
            "ingress",
            "--nats-url",
            bus.server.url(),
            "--listen",
            &listen,
            "--spool-dir",
            "spool",
        ];
        let own = [("VOICEBUS_NATS_PASSWORD", password)];
        let env: Vec<_> = own
            .iter()
            .chain(tokens)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Process::start("ingress", &bus.folder("."), args, &env)
    };
    let both: Vec<String> = (0..3)
        .map(|at| format!("{},{}", NEW[at].1, OLD[at].1))
        .collect();
    let both: Vec<(&str, &str)> = (0..3).map(|at| (OLD[at].0, both[at].as_str())).collect();

    let mut ingress = start(&OLD);
    let http = ingress.ready().await;
    assert_eq!(opens(&http, OLD).await, [true; 3]);
    assert_eq!(opens(&http, NEW).await, [false; 3]);
    let (uses_new, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let observer = bus.observer().await;
    let rotate = async {
        // As SECURITY.md says: both, restart, change the sender, the new one alone, restart.
        ingress.stop().await;
        ingress = start(&both);
        let http = ingress.ready().await;
        assert_eq!(opens(&http, OLD).await, [true; 3]);
        assert_eq!(opens(&http, NEW).await, [true; 3]);
        uses_new.store(true, Ordering::Relaxed);
        // What it had begun with the old one is through when another event has come.
        let before = observer.inputs().await;
        reached("two events with the new token", async || {
            let now = observer.inputs().await;
            if now >= before + 2 {
                Ok(())
            } else {
                Err(format!("{before} and then {now}"))
            }
        })
        .await;
        ingress.stop().await;
        ingress = start(&NEW);
        let http = ingress.ready().await;
        assert_eq!(opens(&http, OLD).await, [false; 3]);
        assert_eq!(opens(&http, NEW).await, [true; 3]);

        stop.store(true, Ordering::Relaxed);
        ingress
    };
    let (sent, ingress) = tokio::join!(send_on(address, &uses_new, &stop), rotate);
    reached("every event", async || {
        let inputs = observer.inputs().await;
        if inputs == sent {
            Ok(())
        } else {
            Err(format!("{inputs} of {sent}"))
        }
    })
    .await;
    ingress.stop().await;
}
