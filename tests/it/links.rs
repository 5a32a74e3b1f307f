//! Links from a number to a session, and what a call is given to know.

use serde_json::{Value, json};

use crate::harness::{Feed, Http, Options, Up, reached, within};
use crate::outbound::told;

async fn store(agent: &async_nats::Client, subject: &str, body: &Value) {
    let jetstream = async_nats::jetstream::new(agent.clone());
    let sent = jetstream.publish(subject.to_owned(), body.to_string().into());
    let sent = within("a command to be sent", sent.into_future())
        .await
        .unwrap();
    within("a command to be stored", sent.into_future())
        .await
        .unwrap();
}

/// A call comes in from a number; the session that it is in.
async fn comes_in(http: &Http, feed: &Feed, call: &str, number: &str) -> String {
    let started = json!({
        "callId": call, "eventType": "call_started", "phoneNumber": number,
        "direction": "inbound", "timestamp": "2026-11-22T12:00:00", "data": {},
    });
    assert_eq!(http.post("/call-event", &started).await.status, 200);
    feed.hears(call, "state.initiated")
        .await
        .session()
        .to_owned()
}

#[tokio::test]
async fn a_link_leads_the_calls_of_a_number_into_its_session_until_it_is_taken_away() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let number = "+12015550142";
    let per_phone = "agent:main:voice:12015550142";
    assert_eq!(comes_in(&up.http, &feed, "before", number).await, per_phone);

    let link = json!({ "number": number, "session": "VIP", "agent": "front-desk" });
    store(&agent, "voice.cmd.link.link-1", &link).await;
    feed.hears("link-1", "command.confirmed").await;
    assert_eq!(
        told(&feed, "link-1"),
        ["command.accepted", "session.linked", "command.confirmed"]
    );
    let linked = feed.hears("link-1", "session.linked").await;
    assert_eq!(linked.session(), "agent:front-desk:vip");
    let data = &linked.json["data"];
    assert_eq!(
        data["link"],
        json!({ "number": number, "to": "agent:front-desk:vip" })
    );
    assert!(
        !linked.subject.contains("12015550142"),
        "{}",
        linked.subject
    );
    let session = comes_in(&up.http, &feed, "linked", number).await;
    assert_eq!(session, "agent:front-desk:vip");
    let call = &feed.of("linked")[0].json["data"]["call"];
    assert_eq!(call["session_rule"], "link");
    // A call that has begun stays where it is, and so does everybody else.
    assert_eq!(feed.of("before").len(), 1);
    let other = comes_in(&up.http, &feed, "other", "+12015550143").await;
    assert_eq!(other, "agent:main:voice:12015550143");

    // It outlives a restart.
    let up = up.restart().await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let session = comes_in(&up.http, &feed, "restarted", number).await;
    assert_eq!(session, "agent:front-desk:vip");

    store(
        &agent,
        "voice.cmd.unlink.unlink-1",
        &json!({ "number": number }),
    )
    .await;
    let unlinked = feed.hears("unlink-1", "session.unlinked").await;
    assert_eq!(
        unlinked.json["data"]["link"],
        json!({ "number": number, "was": "agent:front-desk:vip" })
    );
    feed.hears("unlink-1", "command.confirmed").await;
    assert_eq!(comes_in(&up.http, &feed, "after", number).await, per_phone);
    assert_eq!(up.observer.messages("VOICE_DLQ").await, 0);
    up.stop().await;
}

#[tokio::test]
async fn a_link_that_says_nothing_usable_is_refused() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    for (id, verb, body) in [
        ("no-session", "link", json!({ "number": "+12015550142" })),
        (
            "bad-session",
            "link",
            json!({ "number": "+12015550142", "session": "a b" }),
        ),
        (
            "bad-number",
            "link",
            json!({ "number": "911", "session": "s" }),
        ),
        (
            "too-much",
            "unlink",
            json!({ "number": "+12015550142", "session": "s" }),
        ),
    ] {
        store(&agent, &format!("voice.cmd.{verb}.{id}"), &body).await;
        let refused = feed.hears(id, "command.refused").await;
        let command = &refused.json["data"]["command"];
        assert_eq!(
            (&command["code"], &command["verb"]),
            (&json!("bad-command"), &json!(verb))
        );
    }
    let session = comes_in(&up.http, &feed, "call", "+12015550142").await;
    assert_eq!(session, "agent:main:voice:12015550142");
    up.stop().await;
}

#[tokio::test]
async fn a_call_is_given_something_to_know_and_no_other_call_learns_of_it() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    comes_in(&up.http, &feed, "call-1", "+12015550142").await;
    let session = "agent:main:voice:12015550142";
    let context = json!({ "order": 4711 });

    let give = json!({ "id": "c-1", "context": context, "session": session });
    store(&agent, "voice.cmd.context.call-1", &give).await;
    let injected = feed.hears("call-1", "context.injected").await;
    assert_eq!(injected.json["data"]["context"], context);
    let confirmed = feed.hears("c-1", "command.confirmed").await;
    assert_eq!(confirmed.json["data"]["command"]["call"], "call-1");
    assert_eq!(confirmed.session(), session);

    // The same over HTTP.
    let body = json!({ "call_id": "call-1", "openclaw_session_id": session, "context": context });
    assert_eq!(up.http.post("/openclaw/context", &body).await.status, 200);

    // Both are shown, merged: of two values under one name the later holds.
    let more = json!({ "order": 4712, "paid": true });
    let body = json!({ "call_id": "call-1", "openclaw_session_id": session, "context": more });
    assert_eq!(up.http.post("/openclaw/context", &body).await.status, 200);
    let shown = reached("the context to be shown", async || {
        let entry = up
            .http
            .get("/openclaw/session/voice:12015550142")
            .await
            .json();
        let context = entry["context"].clone();
        (context == more)
            .then_some(entry)
            .ok_or_else(|| context.to_string())
    })
    .await;
    assert_eq!(shown["openclaw_session_id"], "voice:12015550142");
    assert_eq!(shown["session_key"], session);
    let listed = up.http.get("/openclaw/sessions").await.json();
    assert_eq!(listed["sessions"][0]["context"], more);

    for (id, call, session, code) in [
        ("c-2", "call-1", "agent:main:other", "other-session"),
        ("c-3", "never", session, "no-such-call"),
    ] {
        let give = json!({ "id": id, "context": context, "session": session });
        store(&agent, &format!("voice.cmd.context.{call}"), &give).await;
        let refused = feed.hears(id, "command.refused").await;
        assert_eq!(refused.json["data"]["command"]["code"], code);
    }
    let ended = json!({
        "callId": "call-1", "eventType": "call_ended", "phoneNumber": "+12015550142",
        "direction": "inbound", "timestamp": "2026-11-22T12:01:00", "data": {},
    });
    assert_eq!(up.http.post("/call-event", &ended).await.status, 200);
    feed.hears("call-1", "state.ended").await;
    store(
        &agent,
        "voice.cmd.context.call-1",
        &json!({ "id": "c-4", "context": {} }),
    )
    .await;
    let refused = feed.hears("c-4", "command.refused").await;
    assert_eq!(refused.json["data"]["command"]["code"], "call-ended");

    up.settled().await;
    feed.catches_up(&up.observer).await;
    let injected = told(&feed, "call-1");
    let injected = injected.iter().filter(|what| *what == "context.injected");
    assert_eq!(injected.count(), 3);
    up.stop().await;
}

/// The view is built from the last event of each kind; what a call was given before that counts, too.
#[tokio::test]
async fn what_a_call_was_given_to_know_is_whole_after_a_restart() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    comes_in(&up.http, &feed, "call-1", "+12015550142").await;
    for (number, context) in [
        json!({ "order": 4711, "paid": false }),
        json!({ "paid": true }),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({
            "call_id": "call-1", "openclaw_session_id": "voice:12015550142", "context": context,
        });
        let given = up.http.post("/openclaw/context", &body).await;
        assert_eq!(given.status, 200, "{number} {}", given.text());
    }
    up.settled().await;
    let up = up.restart().await;
    let shown = reached("the view", async || {
        let answer = up.http.get("/openclaw/session/voice:12015550142").await;
        (answer.status == 200)
            .then(|| answer.json())
            .ok_or_else(|| answer.text())
    })
    .await;
    assert_eq!(shown["context"], json!({ "order": 4711, "paid": true }));
    up.stop().await;
}

#[tokio::test]
async fn links_are_made_listed_and_taken_away_over_http() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    let ask = async |method: &str, body: &Value| {
        let json = [("content-type", "application/json")];
        let body = body.to_string();
        up.http
            .send(method, "/openclaw/links", &json, body.as_bytes())
            .await
    };
    let number = "+12015550142";
    let none = up.http.get("/openclaw/links").await.json();
    assert_eq!(none, json!({ "links": [], "more": false }));
    let link = json!({ "number": number, "openclaw_session_id": "VIP", "agent": "front-desk" });
    let linked = ask("PUT", &link).await;
    assert_eq!(linked.status, 200, "{}", linked.text());
    let linked = linked.json();
    assert_eq!(
        (&linked["status"], &linked["session_key"]),
        (&json!("linked"), &json!("agent:front-desk:vip"))
    );
    let session = comes_in(&up.http, &feed, "linked", number).await;
    assert_eq!(session, "agent:front-desk:vip");
    let listed = up.http.get("/openclaw/links").await.json();
    let listed = &listed["links"][0];
    assert_eq!(
        (&listed["number"], &listed["session"]),
        (&json!(number), &json!("agent:front-desk:vip"))
    );
    let (code, said) = up.tool(&["links"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("+1•••0142  agent:front-desk:vip"), "{said}");
    assert!(!said.contains(number), "{said}");
    let (_, said) = up.tool(&["links", "--json"]).await;
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["links"][0]["number"], number);

    for (method, body) in [
        (
            "PUT",
            json!({ "number": "911", "openclaw_session_id": "s" }),
        ),
        (
            "PUT",
            json!({ "number": number, "openclaw_session_id": "a b" }),
        ),
        ("PUT", json!({ "number": number })),
        ("DELETE", json!({})),
    ] {
        let answer = ask(method, &body).await;
        assert_eq!(
            (answer.status, &*answer.refusal()),
            (422, "invalid_command")
        );
        assert!(!answer.text().contains(number), "{}", answer.text());
    }

    let unlinked = ask("DELETE", &json!({ "number": number })).await;
    assert_eq!(
        (unlinked.status, &unlinked.json()["status"]),
        (200, &json!("unlinked"))
    );
    let per_phone = "agent:main:voice:12015550142";
    assert_eq!(comes_in(&up.http, &feed, "after", number).await, per_phone);
    let (_, said) = up.tool(&["links"]).await;
    assert_eq!(said, "no number is linked to a session\n");
    assert!(!up.log().contains("5550142"));
    up.stop().await;
}
