//! What is counted and measured, for `GET /metrics`.
//!
//! Metrics belong to the process, so what is counted as it happens lives in one place of the
//! process: the functions below. What is known anyway (how full the spool is, whether NATS is
//! there) is asked for at the moment of a scrape, by [`Source`]s.
//!
//! Every label is a word of this program, `&'static str`, so that no id, no number and nothing else
//! that a caller sent can become one, and their number is bounded. It knows nothing of calls.
//!
//! The text is OpenMetrics, which Prometheus and its relatives read. The table of all metrics is
//! in the README; a test compares the two.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a publish on a fast disk to a sender that has given up.
const SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
/// The same, and beyond: an input may wait for as long as an outage takes.
const AGES: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0,
];
/// Up to the largest batch.
const BATCHES: [f64; 8] = [2.0, 10.0, 30.0, 50.0, 100.0, 200.0, 300.0, 500.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, Buckets>;

/// Makes the histograms of one metric.
#[derive(Clone)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

struct Metrics {
    registry: Registry,
    requests: Counters<3>,
    request_seconds: Histograms<1>,
    publish_seconds: Histograms<2>,
    batch_messages: Histogram,
    deliveries: Counters<2>,
    redeliveries: Counters<1>,
    delivery_age: Histograms<1>,
    timers_armed: Counter,
    timers_fired: Counter,
    dead_letters: Counters<2>,
    commands: Counters<2>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("voicebus");
        let seconds = |buckets| Family::new_with_constructor(Buckets(buckets));
        let metrics = Self {
            requests: Family::default(),
            request_seconds: seconds(&SECONDS),
            publish_seconds: Family::new_with_constructor(Buckets(&SECONDS)),
            batch_messages: Buckets(&BATCHES).new_metric(),
            deliveries: Family::default(),
            redeliveries: Family::default(),
            delivery_age: seconds(&AGES),
            timers_armed: Counter::default(),
            timers_fired: Counter::default(),
            dead_letters: Family::default(),
            commands: Family::default(),
            registry: Registry::default(),
        };
        registry.register(
            "ingress_requests",
            "Requests answered, by route, outcome and code",
            metrics.requests.clone(),
        );
        registry.register(
            "ingress_request_duration_seconds",
            "From a request to its answer",
            metrics.request_seconds.clone(),
        );
        registry.register(
            "publish_duration_seconds",
            "From a publish to its acknowledgement, or to the end of waiting for it",
            metrics.publish_seconds.clone(),
        );
        registry.register(
            "publish_batch_messages",
            "Messages in an atomic batch",
            metrics.batch_messages.clone(),
        );
        registry.register(
            "deliveries",
            "Messages taken from a stream, by what was answered to it",
            metrics.deliveries.clone(),
        );
        registry.register(
            "redeliveries",
            "Of these, messages that had been delivered before",
            metrics.redeliveries.clone(),
        );
        registry.register(
            "delivery_age_seconds",
            "How long ago a message was stored when it was done",
            metrics.delivery_age.clone(),
        );
        registry.register(
            "timers_armed",
            "Timers that were armed, again or anew",
            metrics.timers_armed.clone(),
        );
        registry.register(
            "timers_fired",
            "Timers that fired",
            metrics.timers_fired.clone(),
        );
        registry.register(
            "dead_letters",
            "Messages that could not be used, by who says so and why",
            metrics.dead_letters.clone(),
        );
        registry.register(
            "commands",
            "What egress reported about commands",
            metrics.commands.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }
}

/// A request was answered; `code` is the stable word of its error, or `ok`.
pub fn request(route: &'static str, outcome: &'static str, code: &'static str, took: Duration) {
    let labels = [("route", route), ("outcome", outcome), ("code", code)];
    METRICS.requests.get_or_create(&labels).inc();
    let seconds = METRICS.request_seconds.get_or_create(&[("route", route)]);
    seconds.observe(took.as_secs_f64());
}

/// A publish into a stream came to an end.
pub fn publish(stream: &'static str, outcome: &'static str, took: Duration) {
    let labels = [("stream", stream), ("outcome", outcome)];
    let seconds = METRICS.publish_seconds.get_or_create(&labels);
    seconds.observe(took.as_secs_f64());
}

/// An atomic batch was stored.
pub fn batch(messages: usize) {
    // No batch has more messages than a float counts exactly.
    METRICS.batch_messages.observe(messages as f64);
}

/// A message of a stream was settled.
pub fn delivery(stream: &'static str, outcome: &'static str, is_again: bool) {
    let labels = [("stream", stream), ("outcome", outcome)];
    METRICS.deliveries.get_or_create(&labels).inc();
    if is_again {
        let again = METRICS.redeliveries.get_or_create(&[("stream", stream)]);
        again.inc();
    }
}

/// A message of a stream is done, so long after it was stored.
pub fn done(stream: &'static str, age: Duration) {
    let ages = METRICS.delivery_age.get_or_create(&[("stream", stream)]);
    ages.observe(age.as_secs_f64());
}

/// A timer was armed.
pub fn timer_armed() {
    METRICS.timers_armed.inc();
}

/// A timer fired.
pub fn timer_fired() {
    METRICS.timers_fired.inc();
}

/// A message was put into the dead letters.
pub fn dead_letter(role: &'static str, reason: &'static str) {
    let labels = [("role", role), ("reason", reason)];
    METRICS.dead_letters.get_or_create(&labels).inc();
}

/// Egress told what became of a command.
pub fn command(verb: &'static str, outcome: &'static str) {
    let labels = [("verb", verb), ("outcome", outcome)];
    METRICS.commands.get_or_create(&labels).inc();
}

/// Says what is known anyway, when it is asked.
pub type Source = Arc<dyn Fn(&mut Scrape) + Send + Sync>;

/// What the [`Source`]s say in one scrape.
#[derive(Debug, Default)]
pub struct Scrape {
    metrics: BTreeMap<&'static str, Asked>,
}

#[derive(Debug)]
struct Asked {
    help: &'static str,
    is_counter: bool,
    values: Vec<(Vec<(&'static str, &'static str)>, f64)>,
}

impl Scrape {
    /// How something is at the moment.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &'static str)],
        value: f64,
    ) {
        self.say(name, help, false, labels, value);
    }

    /// How often something happened; the text adds `_total` to the name.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &'static str)],
        value: u64,
    ) {
        // Exact up to nine thousand million millions.
        self.say(name, help, true, labels, value as f64);
    }

    fn say(
        &mut self,
        name: &'static str,
        help: &'static str,
        is_counter: bool,
        labels: &[(&'static str, &'static str)],
        value: f64,
    ) {
        let asked = self.metrics.entry(name).or_insert_with(|| Asked {
            help,
            is_counter,
            values: Vec::new(),
        });
        asked.values.push((labels.to_vec(), value));
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (name, asked) in &self.metrics {
            let kind = if asked.is_counter {
                MetricType::Counter
            } else {
                MetricType::Gauge
            };
            // A registry ends the sentences of its own metrics.
            let help = format!("{}.", asked.help);
            let mut metric = encoder.encode_descriptor(name, &help, None, kind)?;
            for (labels, value) in &asked.values {
                if labels.is_empty() {
                    write(&mut metric, asked.is_counter, *value)?;
                } else {
                    write(&mut metric.encode_family(labels)?, asked.is_counter, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(metric: &mut MetricEncoder, is_counter: bool, value: f64) -> Result<(), fmt::Error> {
    if is_counter {
        metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)
    } else {
        metric.encode_gauge(&value)
    }
}

/// Everything as text.
///
/// # Errors
/// When it cannot be written, which a text always can.
pub fn render(sources: &[Source]) -> Result<String, fmt::Error> {
    let mut scrape = Scrape::default();
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    scrape.gauge("build_info", "Which voicebus this is", &build, 1.0);
    for source in sources {
        source(&mut scrape);
    }
    let mut asked = Registry::with_prefix("voicebus");
    asked.register_collector(Box::new(scrape));
    let mut written = String::new();
    text::encode_registry(&mut written, &METRICS.registry)?;
    text::encode_registry(&mut written, &asked)?;
    text::encode_eof(&mut written)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_parts_say_of_one_metric_stands_together() {
        let of = |role: &'static str, value: f64| -> Source {
            Arc::new(move |scrape| {
                scrape.gauge(
                    "connected",
                    "Whether NATS is there",
                    &[("role", role)],
                    value,
                );
            })
        };
        let alone: Source = Arc::new(|scrape| scrape.counter("losses", "How often", &[], 3));
        let text = render(&[of("router", 1.0), alone, of("egress", 0.0)]).unwrap();
        let found: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("voicebus_connected"))
            .collect();
        assert_eq!(
            found,
            [
                "# HELP voicebus_connected Whether NATS is there.",
                "# TYPE voicebus_connected gauge",
                "voicebus_connected{role=\"router\"} 1.0",
                "voicebus_connected{role=\"egress\"} 0.0",
            ]
        );
        assert!(text.contains("voicebus_losses_total 3.0"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
