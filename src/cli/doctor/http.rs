//! Whether the ingress takes events.

use std::net::IpAddr;
use std::time::Duration;

use super::Check;

/// How long the ingress may take to say that it is ready.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) async fn check(url: &str) -> Check {
    const NAME: &str = "ingress";
    match ready(url).await {
        Ok(()) => Check::fine(NAME, format!("ready at {}", address(url))),
        Err(reason) => Check::wrong(
            NAME,
            format!("not ready at {}: {reason}", address(url)),
            "events of calls are not taken, or wait in its spool; see the log of `voicebus up` or `voicebus ingress`",
        ),
    }
}

/// Asks URL/ready.
pub(super) async fn ready(url: &str) -> Result<(), String> {
    // Another one may be there already, which is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let base = address(url);
    let mut client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    if base.starts_with("http://") {
        // A container may have no certificates, and plain HTTP needs none.
        client = client.tls_certs_only([]);
    } else if is_this_machine(&base) {
        // The certificate is for the name on the outside. Nothing secret is asked or told.
        client = client.tls_danger_accept_invalid_certs(true);
    }
    let client = client.build().map_err(|error| said(&error))?;
    let answer = client
        .get(format!("{base}/ready"))
        .send()
        .await
        .map_err(|error| said(&error))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

fn is_this_machine(base: &str) -> bool {
    let url = base.parse::<reqwest::Url>().ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str);
    let host = host.unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = |address: IpAddr| address.is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

fn address(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    }
}

fn said(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() && format!("{error:?}").contains("InvalidCertificate") {
        "its certificate is not trusted on this machine, or is for another name".to_owned()
    } else if error.is_connect() {
        "nobody listens there".to_owned()
    } else if error.is_builder() {
        "not a URL that can be asked".to_owned()
    } else {
        "no usable answer".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::is_this_machine;

    #[test]
    fn only_loopback_is_this_machine() {
        for here in [
            "https://127.0.0.1:8082",
            "https://localhost",
            "https://[::1]:1",
        ] {
            assert!(is_this_machine(here), "{here}");
        }
        for other in [
            "https://10.0.0.1",
            "https://localhost.example.com",
            "https://127.0.0.1.nip.io",
            "x",
        ] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
