//! A stand-in for the Python phone-call server: its HTTP contract, quirks included, without its telephone.
//!
//! Owns the HTTP side, the calls it pretends to have placed and, for v2, the events they cause. Knows nothing
//! of voicebus: it is what voicebus has to get along with. It dials nobody, and serves on loopback only, so that
//! nobody else can take it for the real one.
//!
//! Invariants: a dial is recorded before it is answered or announced; a dial whose client is gone is carried out all
//! the same; v1 and v3 send no event; `call_ended` is only ever sent for an `rtc_…` id.

mod calls;
mod dial;
mod fault;
mod leg;
mod page;
mod reads;
mod reply;
mod rules;
mod tap;
mod wire;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse as _;
use axum::routing::{delete, get, post};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use calls::Calls;
pub use calls::Dial;
use fault::Faults;
pub use fault::{Fault, Route, Twilio};
use leg::Timing;
use reply::{HangUp, Reply, hang_up};
pub use rules::{OWN_NUMBER, Setup};
pub use tap::Told;

use super::args::Version;
use super::emitter::Emitter;
use super::random::Random;
use super::record::Recorder;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the stand-in serves on a loopback address only (127.0.0.1 or [::1]), not on {addr}")]
    NotLoopback { addr: SocketAddr },
    #[error("failed to listen on {addr}")]
    Listen {
        addr: SocketAddr,
        source: std::io::Error,
    },
}

/// Whether `call_started` comes before or after the answer of `POST /call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Race {
    /// Either, chosen by the seed: after the answer in nine of ten, as was measured.
    #[default]
    Seeded,
    /// The event is accepted before the answer is written (or 50 ms have passed).
    EventFirst,
    /// The event follows the answer after some milliseconds.
    AnswerFirst,
}

/// How to stand in. `StandInConfig::default()` is a silent v2 on a free port.
#[derive(Debug, Clone)]
pub struct StandInConfig {
    /// Loopback only; port 0 takes any free port.
    pub listen: SocketAddr,
    pub version: Version,
    /// Decides the ids of calls. A stand-in that is started again with the same seed gives the same ids again, which
    /// Twilio never does: a test that restarts it should change the seed.
    pub seed: u64,
    pub setup: Setup,
    /// Where v2 sends its events; `None` sends none.
    pub emitter: Option<Emitter>,
    pub record: Option<Recorder>,
    /// Whether placed calls are answered and talked through.
    pub answer_calls: bool,
    /// Utterances of an answered call.
    pub transcripts: usize,
    /// The time between two things that happen in an answered call.
    pub pace: Duration,
    pub race: Race,
}

impl Default for StandInConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            version: Version::V2,
            seed: 0,
            setup: Setup::default(),
            emitter: None,
            record: None,
            answer_calls: true,
            transcripts: 6,
            pace: Duration::from_millis(50),
            race: Race::Seeded,
        }
    }
}

/// A stand-in that serves. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct StandIn {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl StandIn {
    /// Binds the address and serves until stopped.
    ///
    /// # Errors
    /// When the address is not loopback, or is taken.
    pub async fn start(config: StandInConfig) -> Result<Self, Error> {
        let addr = config.listen;
        if !addr.ip().is_loopback() {
            return Err(Error::NotLoopback { addr });
        }
        let listen = |source| Error::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared {
            addr,
            version: config.version,
            seed: config.seed,
            emitter: config.emitter,
            record: config.record,
            answer_calls: config.answer_calls,
            transcripts: config.transcripts,
            pace: config.pace,
            race: config.race,
            setup: Mutex::new(config.setup),
            calls: Mutex::default(),
            faults: Mutex::default(),
            journal: Mutex::default(),
            spoken: Mutex::default(),
            ids: Mutex::new(Random::stream(config.seed, "call id", 0)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        shared
            .tasks
            .spawn(accept(listener, router(&shared), Arc::clone(&shared)));
        Ok(Self { addr, shared })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every `POST /call` so far, in the order in which they came, whatever was answered.
    pub fn calls(&self) -> Vec<Dial> {
        self.shared.calls().dials().cloned().collect()
    }

    /// What the tap has told conversations so far, in order.
    pub fn told(&self) -> Vec<Told> {
        self.shared.spoken().told.clone()
    }

    /// How many calls `GET /calls` lists.
    pub fn active_calls(&self) -> usize {
        self.shared.calls().active.len()
    }

    /// Puts a fault on the next request to a route. Several are used up one by one.
    pub fn inject(&self, route: Route, fault: Fault) {
        self.shared.faults().inject(route, fault);
    }

    /// Puts a fault on every request to a route, or takes it away.
    pub fn always(&self, route: Route, fault: Option<Fault>) {
        self.shared.faults().always(route, fault);
    }

    /// Changes what the server is configured with.
    pub fn set_setup(&self, setup: Setup) {
        *self
            .shared
            .setup
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = setup;
    }

    /// Forgets the active calls but not the history, as a restart of the real server does.
    pub fn forget_active_calls(&self) {
        self.shared.calls().active.clear();
    }

    /// Closes all connections and waits until everything under way has ended; events not accepted by then are lost.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    version: Version,
    seed: u64,
    emitter: Option<Emitter>,
    record: Option<Recorder>,
    answer_calls: bool,
    transcripts: usize,
    pace: Duration,
    race: Race,
    setup: Mutex<Setup>,
    calls: Mutex<Calls>,
    faults: Mutex<Faults>,
    journal: Mutex<tap::Journal>,
    spoken: Mutex<tap::Spoken>,
    ids: Mutex<Random>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Shared {
    // A panic while a lock was held leaves values that are whole: each is changed by single insertions and removals.
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, tap::Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spoken(&self) -> MutexGuard<'_, tap::Spoken> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn setup(&self) -> Setup {
        self.setup
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn take_fault(&self, route: Route) -> Option<Fault> {
        self.faults().take(route)
    }

    /// Meets the fault of a route: ends the request with an answer or without one, or waits and lets it go on. What
    /// concerns the end of the request, or Twilio, is handed back.
    async fn stumble(&self, route: Route) -> Result<Option<Fault>, Response<Body>> {
        match self.take_fault(route) {
            Some(Fault::HangUp) => Err(hang_up()),
            Some(Fault::Answer { status, body }) => Err(Reply { status, body }.into_response()),
            Some(Fault::Delay(wait)) => {
                tokio::time::sleep(wait).await;
                Ok(None)
            }
            other => Ok(other),
        }
    }

    /// An id as Twilio gives them.
    fn new_call_id(&self) -> String {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        format!("CA{}", ids.hex(32))
    }

    fn timing(&self, call_id: &str) -> Timing {
        match self.race {
            Race::EventFirst => Timing::BeforeAnswer,
            Race::AnswerFirst => Timing::AfterAnswer,
            Race::Seeded if Random::stream(self.seed, call_id, 0).percent(EVENT_FIRST_PERCENT) => {
                Timing::BeforeAnswer
            }
            Race::Seeded => Timing::AfterAnswer,
        }
    }

    fn stream_url(&self) -> String {
        format!("ws://{}/media-stream", self.addr)
    }
}

/// 14 of 120 with one client on the real server.
const EVENT_FIRST_PERCENT: f64 = 12.0;

/// All paths on one screen. v3 knows neither history nor storage.
fn router(shared: &Arc<Shared>) -> Router {
    let reads = Router::new()
        .route("/", get(reads::root))
        .route("/health", get(reads::health))
        .route("/calls", get(reads::calls));
    let reads = match shared.version {
        Version::V3 => reads,
        Version::V1 | Version::V2 => reads
            .route("/history", get(reads::history))
            .route("/history/{id}", get(reads::details).delete(reads::forget))
            .route("/history/{id}/transcript", get(reads::transcript))
            .route("/history/{id}/audio", get(reads::audio))
            .route("/storage/stats", get(reads::stats)),
    };
    reads
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(shared),
            reads::with_faults,
        ))
        .route("/call", post(dial::place))
        .route("/call/{id}", delete(dial::cancel))
        .route("/voicebus/tap", get(tap::tap))
        .route("/voicebus/intents/{id}", get(tap::intent))
        .route("/voicebus/calls/{id}/{verb}", post(tap::speak))
        .fallback(reads::not_found)
        .method_not_allowed_fallback(reads::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(shared),
            tap::stand_before,
        ))
        .with_state(Arc::clone(shared))
}

/// Accepts connections until stopped. Each is served in a task of its own.
async fn accept(listener: TcpListener, router: Router, shared: Arc<Shared>) {
    while let Some(accepted) = shared.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, router.clone());
                let stop = shared.stop.clone();
                shared.tasks.spawn(async move {
                    stop.run_until_cancelled(serving).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: accepting again at once would only spin.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn serve(stream: TcpStream, router: Router) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let answered: Result<Response<Body>, Infallible> =
                router.oneshot(request.map(Body::new)).await;
            let mut response = answered.unwrap_or_else(|never| match never {});
            if response.extensions().get::<HangUp>().is_some() {
                return Err(HungUp);
            }
            response
                .headers_mut()
                .insert(header::SERVER, HeaderValue::from_static("uvicorn"));
            Ok(response)
        }
    });
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The error that makes the HTTP library close a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the stand-in hangs up, as it was told to")]
struct HungUp;
