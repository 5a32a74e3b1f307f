//! The document of the HTTP routes: complete, and true of a running ingress.

use std::collections::BTreeSet;

use serde_json::Value;
use voicebus::app::document;

use crate::harness::{Bus, Http, Options, Up, voicebus};

fn of_ingress() -> Value {
    serde_json::to_value(document::of_ingress()).unwrap()
}

/// Path and method of every operation of a document.
pub fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| (path.clone(), method.to_uppercase()))
    });
    all.collect()
}

/// The path as a request has it.
pub fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{token}" => "path-token-0123456789",
        part if part.starts_with('{') => "x",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether anything is at a path, whoever may have it.
async fn is_there(http: &Http, method: &str, path: &str) -> bool {
    let answer = http.send(method, path, &[], b"").await;
    let nothing = answer.status == 404 && answer.json()["code"] == "not_found";
    !nothing && answer.status != 405
}

#[test]
fn routes_are_added_with_their_description_and_in_no_other_way() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let by_hand = [".route(\"", ".route_service(", ".nest_service("];
    let mut folders = vec![std::path::PathBuf::from(source)];
    let mut found = Vec::new();
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            // The stand-in for the call server serves that server's routes, not ours.
            let inside = std::fs::read_dir(&path).unwrap();
            let inside = inside.map(|entry| entry.unwrap().path());
            folders.extend(inside.filter(|path| !path.ends_with("simulate")));
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            if by_hand.iter().any(|way| text.contains(way)) {
                found.push(path);
            }
        }
    }
    assert_eq!(found, Vec::<std::path::PathBuf>::new());
}

#[test]
fn every_operation_is_named_once_and_says_what_a_refusal_looks_like() {
    let document = of_ingress();
    let mut ids = BTreeSet::new();
    for (path, method) in operations(&document) {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let what = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].to_string()), "{what}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{what}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.contains_key("200"), "{what}");
        for (status, answer) in answers {
            assert_ne!(answer["description"], "", "{what} {status}");
            let tells_more = path == "/ready" && status == "503";
            let refused = status.as_str() >= "400" && !tells_more;
            let schema = &answer["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(
                refused,
                schema == "#/components/schemas/Refusal",
                "{what} {status}"
            );
        }
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = name.trim_end_matches('}');
            let declared = operation["parameters"].as_array().unwrap().iter();
            let mut declared = declared.filter(|parameter| parameter["in"] == "path");
            assert!(
                declared.any(|parameter| parameter["name"] == name),
                "{what}"
            );
        }
    }
    assert!(ids.len() > 18, "{ids:?}");
}

#[tokio::test]
async fn what_the_document_names_is_there_and_only_who_may_read_gets_it() {
    let pairs = [
        ("VOICEBUS_EVENT_PATH_TOKEN", "path-token-0123456789"),
        ("VOICEBUS_READ_TOKEN", "read-token-0123456789"),
        ("VOICEBUS_TWILIO_AUTH_TOKEN", "twilio-token-0123456789"),
        ("VOICEBUS_PUBLIC_URL", "https://hooks.example.com"),
    ];
    let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let up = Up::start(Options {
        env: env.to_vec(),
        ..Options::default()
    })
    .await;
    assert_eq!(up.http.get("/openapi.json").await.status, 401);
    let reader = up.http.with_token("read-token-0123456789");
    let served = reader.get("/openapi.json").await;
    assert_eq!(served.status, 200);
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert_eq!(served.json(), of_ingress());
    for (path, method) in operations(&of_ingress()) {
        assert!(
            is_there(&up.http, &method, &filled(&path)).await,
            "{method} {path}"
        );
    }
    assert!(!is_there(&up.http, "GET", "/openclaw").await);
    up.stop().await;
}

#[tokio::test]
async fn a_role_without_doors_describes_what_it_has() {
    let bus = Bus::provisioned().await;
    let mut router = bus.role("router", &[]);
    let http = router.ready().await;
    let served = http.get("/openapi.json").await.json();
    let paths: Vec<_> = operations(&served)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        paths,
        ["/live", "/metrics", "/openapi.json", "/ready", "/status"]
    );
    for path in paths {
        assert!(is_there(&http, "GET", &path).await, "{path}");
    }
    router.stop().await;
}

#[test]
fn the_document_can_be_printed_without_anything_that_runs() {
    let said = std::process::Command::new(voicebus())
        .arg("openapi")
        .output();
    let said = said.unwrap();
    assert!(said.status.success());
    let printed: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(printed, of_ingress());
}
