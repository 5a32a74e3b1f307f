//! What leaves for the phone-call server goes there and nowhere else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::{Options, Up, reached, said};

/// A server that writes down what it is asked, and sends whoever dials somewhere else.
#[derive(Clone)]
struct Elsewhere {
    asked: Arc<Mutex<Vec<String>>>,
    sends_to: Option<String>,
}

impl Elsewhere {
    async fn start(sends_to: Option<SocketAddr>) -> (Self, SocketAddr) {
        let server = Self {
            asked: Arc::default(),
            sends_to: sends_to.map(|address| format!("http://{address}")),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum_serve(listener, routes).await });
        (server, address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn axum_serve(listener: TcpListener, routes: Router) {
    let service = hyper_util::service::TowerToHyperService::new(routes);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service.clone();
        tokio::spawn(async move {
            let stream = hyper_util::rt::TokioIo::new(stream);
            let served = hyper::server::conn::http1::Builder::new();
            served.serve_connection(stream, service).await.ok();
        });
    }
}

async fn answer(State(server): State<Elsewhere>, request: Request) -> Response {
    let asked = format!("{} {}", request.method(), request.uri());
    server.asked.lock().unwrap().push(asked);
    let path = request.uri().path();
    match (path, &server.sends_to) {
        ("/health", _) => axum::Json(json!({ "status": "ok", "agent": "Nia" })).into_response(),
        ("/calls", _) => axum::Json(json!({ "active_calls": 0, "calls": [] })).into_response(),
        // 307 would have the same request made there, body and all.
        ("/call", Some(other)) => {
            let there = [(header::LOCATION, format!("{other}/call"))];
            (StatusCode::TEMPORARY_REDIRECT, there).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn up_with(voice_server: SocketAddr) -> Up {
    Up::start(Options {
        voice_server,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn a_dial_does_not_follow_the_server_to_another_place() {
    let (trap, trap_address) = Elsewhere::start(None).await;
    let (server, address) = Elsewhere::start(Some(trap_address)).await;
    let up = up_with(address).await;
    let call = json!({ "to": "+12015550123", "message": "Hello", "openclaw_session_id": "s" });
    let answer = up.http.post("/openclaw/call", &call).await;
    assert_eq!(answer.refusal(), "outcome_unknown");
    assert!(answer.text().contains("answered 307"), "{}", answer.text());
    let dials = server
        .asked()
        .iter()
        .filter(|one| *one == "POST /call")
        .count();
    assert_eq!(dials, 1);
    assert_eq!(trap.asked(), Vec::<String>::new());
    up.stop().await;
}

#[tokio::test]
async fn no_id_leads_to_another_route_of_the_server() {
    let (server, address) = Elsewhere::start(None).await;
    let up = up_with(address).await;
    reached("a healthy server", async || {
        let asked = server.asked();
        if asked.is_empty() {
            Err("not asked yet".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    let ids = [
        "..%2f..%2fhealth",
        "%2e%2e%2fcalls",
        "..",
        "CA1%2fhangup",
        "CA1%3fa=b",
        "CA1%23x",
        "CA1%00",
        "CA1%0d%0aX-Evil:1",
    ];
    for id in ids {
        for (method, path) in [
            ("GET", format!("/openclaw/call/{id}")),
            ("DELETE", format!("/openclaw/call/{id}")),
            ("GET", format!("/openclaw/session/{id}")),
        ] {
            let answer = up.http.send(method, &path, &[], b"").await;
            assert!(
                (400..500).contains(&answer.status),
                "{path}: {}",
                answer.text()
            );
        }
    }
    let json = [("content-type", "application/json")];
    for id in [
        "../health",
        "..%2fhealth",
        "CA1/x",
        "CA1?x",
        "CA1#x",
        "CA1\\x",
        "CA1\u{2044}x",
    ] {
        let context = json!({ "call_id": id, "context": "x" }).to_string();
        let sync = json!({ "call_id": id, "callId": id }).to_string();
        for (path, body) in [("/openclaw/context", &context), ("/sync-transcript", &sync)] {
            let answer = up.http.send("POST", path, &json, body.as_bytes()).await;
            assert!(
                (400..500).contains(&answer.status),
                "{path} {id}: {}",
                answer.text()
            );
        }
        let answer = up.http.post("/call-event", &said(id, "x")).await;
        assert_eq!(answer.status, 400, "{id}: {}", answer.text());
    }
    let known = ["GET /health", "GET /voicebus/tap", "GET /calls"];
    let odd: Vec<String> = server
        .asked()
        .into_iter()
        .filter(|asked| !known.contains(&asked.as_str()))
        .collect();
    assert_eq!(odd, Vec::<String>::new());
    up.stop().await;
}
