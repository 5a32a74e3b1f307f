//! Doing one thing again and again, as fast as the answers come or at a pace, and how long it took.

use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Somebody who does one thing at a time.
pub(super) trait Lane: Send + 'static {
    /// Does it once and waits for its outcome.
    fn once(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// How long each time took, and all of them together.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    took: Vec<Duration>,
    elapsed: Duration,
}

/// The times that matter, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// Nine of ten are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Sample {
    pub fn new(took: Vec<Duration>, elapsed: Duration) -> Self {
        Self { took, elapsed }
    }

    /// Takes the times of another turn in.
    pub fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.elapsed += other.elapsed;
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    pub fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// `None` when there is nothing.
    pub fn latency(&self) -> Option<Latency> {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            // The smallest time that `percent` of all do not exceed.
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map(|took| took.as_secs_f64() * 1e3)
        };
        Some(Latency {
            p50: at(50)?,
            p90: at(90)?,
            p99: at(99)?,
            max: at(100)?,
        })
    }
}

/// All lanes at once, each as fast as its answers come, for `time`. Gives the lanes back.
pub(super) async fn flat_out<L: Lane>(
    lanes: Vec<L>,
    time: Duration,
) -> anyhow::Result<(Vec<L>, Sample)> {
    let start = Instant::now();
    let end = start + time;
    let mut tasks = JoinSet::new();
    for mut lane in lanes {
        tasks.spawn(async move {
            let mut took = Vec::new();
            let mut begun = Instant::now();
            while begun < end {
                lane.once().await?;
                let done = Instant::now();
                took.push(done - begun);
                begun = done;
            }
            anyhow::Ok((lane, took))
        });
    }
    collect(tasks, start).await
}

/// `per_second` times a second in total, spread over the lanes, for `time`. Gives the lanes back.
pub(super) async fn paced<L: Lane>(
    lanes: Vec<L>,
    per_second: u32,
    time: Duration,
) -> anyhow::Result<(Vec<L>, Sample)> {
    let start = Instant::now();
    let step = Duration::from_secs(1) / per_second.max(1);
    let stride = step * u32::try_from(lanes.len()).unwrap_or(1);
    let mut tasks = JoinSet::new();
    for (number, mut lane) in (0u32..).zip(lanes) {
        let mut due = start + step * number;
        tasks.spawn(async move {
            let mut took = Vec::new();
            while due < start + time {
                tokio::time::sleep_until(due).await;
                let begun = Instant::now();
                lane.once().await?;
                took.push(begun.elapsed());
                due += stride;
            }
            anyhow::Ok((lane, took))
        });
    }
    collect(tasks, start).await
}

async fn collect<L: 'static>(
    mut tasks: JoinSet<anyhow::Result<(L, Vec<Duration>)>>,
    start: Instant,
) -> anyhow::Result<(Vec<L>, Sample)> {
    let (mut lanes, mut sample) = (Vec::new(), Sample::default());
    while let Some(ended) = tasks.join_next().await {
        let (lane, took) = ended??;
        lanes.push(lane);
        sample.took.extend(took);
    }
    sample.elapsed = start.elapsed();
    Ok((lanes, sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let took = (1..=200).map(Duration::from_millis).collect();
        let sample = Sample::new(took, Duration::from_secs(2));
        let latency = sample.latency().unwrap();
        let all = [latency.p50, latency.p90, latency.p99, latency.max];
        assert_eq!(all, [100.0, 180.0, 198.0, 200.0]);
        assert!((sample.per_second() - 100.0).abs() < 1e-9);
        assert_eq!(Sample::default().latency(), None);
    }
}
