//! Keys and certificates are changed while events come in, and none is lost.

use voicebus::bus;
use voicebus::bus::server::User;

use crate::harness::certificates::Authority;
use crate::harness::{Observer, Process, Secure, reached, said};

struct Site {
    server: Secure,
    ingress: Process,
    router: Process,
}

impl Site {
    async fn start() -> Self {
        let server = Secure::start().await;
        let mut provision = Process::start(
            "provision",
            server.dir(),
            ["provision"],
            &server.env(User::Provision),
        );
        assert!(provision.ended().await.success(), "{}", provision.log());
        let mut site = Self {
            ingress: ingress(&server),
            router: router(&server),
            server,
        };
        site.ingress.ready().await;
        site.router.ready().await;
        site
    }

    async fn say(&mut self, text: &str) {
        let http = self.ingress.listens().await;
        let answer = http.post("/call-event", &said("rtc_1", text)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Everything that was said is in the feed, each once.
    async fn has_heard(&self, all: &[&str]) {
        let client = self.server.plain_client(User::Observer).await;
        let observer = Observer { client };
        let mut wanted: Vec<&str> = all.to_vec();
        wanted.sort_unstable();
        reached("all that was said", async || {
            let events = observer.read_back().await;
            let mut heard: Vec<String> = events
                .iter()
                .filter(|event| event.what() == "transcript.user")
                .map(|event| event.json["data"]["transcript"]["text"].to_string())
                .map(|text| text.trim_matches('"').to_owned())
                .collect();
            heard.sort_unstable();
            if heard == wanted {
                Ok(())
            } else {
                Err(format!("{heard:?}"))
            }
        })
        .await;
    }
}

fn ingress(server: &Secure) -> Process {
    let args = ["ingress", "--listen", "127.0.0.1:0", "--spool-dir", "spool"];
    Process::start("ingress", server.dir(), args, &server.env(User::Ingress))
}

fn router(server: &Secure) -> Process {
    let args = ["router", "--listen", "127.0.0.1:0"];
    Process::start("router", server.dir(), args, &server.env(User::Router))
}

#[tokio::test]
async fn new_nkeys_cost_no_event() {
    let mut site = Site::start().await;
    site.say("before").await;
    // As SECURITY.md says: new keys, the server with them, then one role after the other.
    site.server.change_nkey(User::Ingress);
    site.server.change_nkey(User::Router);
    site.server.restart().await;
    site.say("with the old key").await;
    site.ingress.stop().await;
    site.ingress = ingress(&site.server);
    site.say("with the new key").await;
    site.router.kill().await;
    site.router = router(&site.server);
    site.router.ready().await;
    site.ingress.ready().await;
    site.has_heard(&["before", "with the old key", "with the new key"])
        .await;
}

#[tokio::test]
async fn new_certificates_on_both_sides_need_no_restart_of_a_role() {
    let mut site = Site::start().await;
    site.say("before").await;

    // Both authorities are trusted for a while, then everybody has a new certificate.
    let old = std::fs::read_to_string(site.server.authority.file()).unwrap();
    let new = Authority::new(site.server.dir(), "authority");
    let own = std::fs::read_to_string(new.file()).unwrap();
    let both = old + &own;
    std::fs::write(new.file(), both).unwrap();
    new.issue("server", &["localhost"]);
    new.issue("client", &["voicebus"]);
    // The server shows its new one without a restart.
    site.server.reload();
    let alone = site.server.dir().join("new-alone.crt");
    std::fs::write(&alone, &own).unwrap();
    let mut settings = site.server.settings(User::Observer);
    settings.tls.ca = Some(alone);
    reached("the server's new certificate", async || {
        let connected = bus::connect(&settings).await;
        connected.map(drop).map_err(|error| error.to_string())
    })
    .await;
    // The roles show theirs when they come again.
    site.server.restart().await;
    site.router.ready().await;
    site.say("between").await;
    // The old authority is forgotten.
    let again = Authority::new(site.server.dir(), "authority");
    again.issue("server", &["localhost"]);
    again.issue("client", &["voicebus"]);
    site.server.restart().await;
    site.say("after").await;
    site.has_heard(&["before", "between", "after"]).await;
}
