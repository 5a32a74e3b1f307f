//! Why a connection did not come about, in a sentence that says what to do.

use std::error::Error;
use std::io;

use async_nats::{ConnectError, ConnectErrorKind as Kind};
use rustls::{AlertDescription, CertificateError};

use super::identity::Auth;

/// What went wrong and what to do.
pub(super) fn advice(error: &ConnectError, auth: &Auth) -> String {
    if let Some(error) = find::<rustls::Error>(error) {
        return of_tls(error);
    }
    let text = match error.kind() {
        Kind::Authentication | Kind::AuthorizationViolation => return auth.advice(),
        Kind::ServerParse => "the URL is not of the form nats://host:port",
        Kind::Dns => "the host name is not known",
        Kind::TimedOut => "no answer in time",
        Kind::Tls => "TLS cannot be set up",
        Kind::MaxReconnects | Kind::Io => match find::<io::Error>(error).map(io::Error::kind) {
            None | Some(io::ErrorKind::ConnectionRefused) => {
                "nobody listens there; is nats-server running?"
            }
            Some(_) => "the server hung up; its log says why",
        },
    };
    match find::<io::Error>(error) {
        Some(cause) if error.kind() == Kind::Tls => format!("{text}: {cause}"),
        _ => text.to_owned(),
    }
}

/// The error of a kind among the causes. An I/O error keeps the one that it was made from apart from
/// its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(wrong) => of_their_certificate(wrong),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(_) => {
            "the server speaks no TLS; set it up there, or leave out tls:// and the certificates here".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

fn of_their_certificate(wrong: &CertificateError) -> String {
    use CertificateError as Wrong;
    match wrong {
        Wrong::UnknownIssuer => "the server's certificate is of an authority that is not trusted here; name the file of the right one with --nats-ca or VOICEBUS_NATS_CA".to_owned(),
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            "the server's certificate has expired; renew it there".to_owned()
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; check the clocks of both machines".to_owned()
        }
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
            "the server's certificate is for another name; write the server into the URL as its certificate has it, or have one made for this name".to_owned()
        }
        other => format!("the server's certificate cannot be trusted: {other:?}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => "the server wants to see a certificate of ours; set --nats-cert and --nats-key, or VOICEBUS_NATS_CERT and VOICEBUS_NATS_KEY".to_owned(),
        Alert::BadCertificate | Alert::UnknownCA | Alert::CertificateUnknown => {
            "the server does not trust our certificate; have it signed by the authority in the server's `ca_file`".to_owned()
        }
        Alert::CertificateExpired => "our certificate has expired; renew the file of --nats-cert".to_owned(),
        other => format!("the server refuses TLS: {other:?}"),
    }
}
