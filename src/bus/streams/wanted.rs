//! The wanted state, from the data files in `nats/`.

use serde_json::{Value, json};

use super::{Error, Kind, Object, Options, Refusal};

const STREAMS: [&str; 4] = [
    // First, because it says whether these are our streams at all: nothing is touched before it is read.
    include_str!("../../../nats/streams/VOICE_IN.json"),
    include_str!("../../../nats/streams/VOICE_EVENT.json"),
    include_str!("../../../nats/streams/VOICE_CMD.json"),
    include_str!("../../../nats/streams/VOICE_DLQ.json"),
];
const BUCKETS: [&str; 5] = [
    include_str!("../../../nats/buckets/VOICE_INTENT.json"),
    include_str!("../../../nats/buckets/VOICE_NUMBER.json"),
    include_str!("../../../nats/buckets/VOICE_LINK.json"),
    include_str!("../../../nats/buckets/VOICE_LIMIT.json"),
    include_str!("../../../nats/buckets/VOICE_FORGOTTEN.json"),
];
/// A template: `{k}` is the number of the partition.
const PARTITION_CONSUMER: &str = include_str!("../../../nats/consumers/VOICE_IN.partition.json");
const EGRESS_CONSUMER: &str = include_str!("../../../nats/consumers/VOICE_CMD.egress.json");
const CONTROL_CONSUMER: &str = include_str!("../../../nats/consumers/VOICE_CMD.control.json");

pub(super) const INPUTS: &str = "VOICE_IN";
const COMMANDS: &str = "VOICE_CMD";

/// One object as it should be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) object: Object,
    pub(super) config: Value,
    /// Whether somebody said how old messages may become, and so that older ones are to go.
    pub(super) is_age_decided: bool,
}

impl Wanted {
    /// Whether this is the stream that holds partitions and salt.
    pub(super) fn is_inputs(&self) -> bool {
        self.object == Object::stream(INPUTS)
    }

    pub(super) fn refused(&self, operation: &'static str, refusal: Refusal) -> Error {
        Error::Refused {
            operation,
            object: self.object.clone(),
            refusal,
        }
    }
}

/// Streams, then the streams under the buckets.
pub(super) fn streams(options: &Options) -> Result<Vec<Wanted>, Error> {
    let mut all: Vec<Wanted> = STREAMS
        .iter()
        .map(|text| stream(Kind::Stream, text, options))
        .chain(
            BUCKETS
                .iter()
                .map(|text| stream(Kind::Bucket, text, options)),
        )
        .collect();
    for (name, bytes) in &options.bytes_max {
        let refuse = |reason| Error::BytesMax {
            name: name.clone(),
            reason,
        };
        if name == INPUTS {
            return Err(refuse("it may only lose messages to age"));
        }
        let limit = i64::try_from(*bytes).map_err(|_| refuse("too large"))?;
        if limit == 0 {
            return Err(refuse("0 would mean no limit"));
        }
        let known = all
            .iter_mut()
            .find(|wanted| wanted.object.stream_name() == *name)
            .ok_or_else(|| refuse("no such stream"))?;
        known.config["max_bytes"] = json!(limit);
    }
    Ok(all)
}

pub(super) fn consumers() -> Vec<Wanted> {
    let mut all: Vec<Wanted> = (0..partitions())
        .map(|k| consumer(INPUTS, &PARTITION_CONSUMER.replace("{k}", &k.to_string())))
        .collect();
    all.push(consumer(COMMANDS, EGRESS_CONSUMER));
    all.push(consumer(COMMANDS, CONTROL_CONSUMER));
    all
}

/// The number of partitions a new `VOICE_IN` gets.
pub(super) fn partitions() -> u32 {
    parse(STREAMS[0])["metadata"][super::layout::PARTITIONS_KEY]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("VOICE_IN.json names its partitions, which a test checks")
}

fn stream(kind: Kind, text: &str, options: &Options) -> Wanted {
    let mut config = parse(text);
    config["num_replicas"] = json!(options.replicas.get());
    let name = text_of(&config, "name");
    let age_max = options.retention.age_max(&name);
    if let Some(age_max) = age_max {
        config["max_age"] = json!(age_max);
    }
    Wanted {
        object: match kind {
            Kind::Bucket => Object::bucket(name.trim_start_matches("KV_")),
            Kind::Stream | Kind::Consumer => Object::stream(&name),
        },
        config,
        is_age_decided: age_max.is_some(),
    }
}

fn consumer(stream: &str, text: &str) -> Wanted {
    let config = parse(text);
    Wanted {
        object: Object::consumer(stream, &text_of(&config, "durable_name")),
        config,
        is_age_decided: false,
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("the compiled-in data is JSON, which a test checks")
}

fn text_of(config: &Value, field: &str) -> String {
    config[field]
        .as_str()
        .expect("the compiled-in data names itself, which a test checks")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Value {
        let all = streams(&Options::default()).unwrap();
        let found = all
            .iter()
            .find(|wanted| wanted.object.stream_name() == name);
        found.unwrap().config.clone()
    }

    #[test]
    fn every_file_parses_and_every_partition_has_its_consumer() {
        assert_eq!(partitions(), 32);
        assert_eq!(streams(&Options::default()).unwrap().len(), 9);
        let consumers = consumers();
        assert_eq!(consumers.len(), 34);
        assert_eq!(consumers[31].config["durable_name"], "p31");
        assert_eq!(consumers[31].config["filter_subject"], "voice.in.31.>");
    }

    #[test]
    fn the_control_consumer_has_what_the_other_one_leaves() {
        let control = parse(CONTROL_CONSUMER);
        let filters = control["filter_subjects"].as_array().unwrap();
        for filter in filters {
            let one = filter.as_str().unwrap().replace('*', "x");
            assert!(crate::bus::subjects::is_control(&one), "{one}");
        }
        assert_eq!(filters.len(), 8);
        for other in [
            "voice.cmd.dial.x",
            "voice.cmd.cancel.x.y",
            "voice.cmd.dance.x",
        ] {
            assert!(!crate::bus::subjects::is_control(other), "{other}");
        }
    }

    #[test]
    fn inputs_are_never_pushed_out_by_size() {
        let inputs = named("VOICE_IN");
        for limit in ["max_bytes", "max_msgs", "max_msgs_per_subject"] {
            assert_eq!(inputs[limit], -1, "{limit}");
        }
    }

    #[test]
    fn every_other_stream_refuses_when_full_and_has_a_bound() {
        for wanted in streams(&Options::default()).unwrap() {
            if !wanted.is_inputs() {
                assert_eq!(wanted.config["discard"], "new", "{}", wanted.object);
                assert!(
                    wanted.config["max_bytes"].as_i64().unwrap() > 0,
                    "{}",
                    wanted.object
                );
            }
        }
    }

    #[test]
    fn reserved_bytes_leave_room_for_inputs_in_a_store_of_ten_gigabytes() {
        let reserved: i64 = streams(&Options::default())
            .unwrap()
            .iter()
            .filter_map(|wanted| wanted.config["max_bytes"].as_i64())
            .filter(|bytes| *bytes > 0)
            .sum();
        assert!(reserved < 7_000_000_000, "{reserved}");
    }

    #[test]
    fn a_dead_letter_may_be_larger_than_what_it_carries_and_fits_the_default_payload() {
        let letter = named("VOICE_DLQ")["max_msg_size"].as_i64().unwrap();
        for name in ["VOICE_IN", "VOICE_CMD"] {
            assert!(letter > named(name)["max_msg_size"].as_i64().unwrap());
        }
        assert!(letter < 1_048_576);
    }

    #[test]
    fn replicas_and_byte_limits_come_from_the_options() {
        let options = Options {
            replicas: std::num::NonZeroU8::new(3).unwrap(),
            bytes_max: [("KV_VOICE_LINK".to_owned(), 1234)].into(),
            ..Options::default()
        };
        for wanted in streams(&options).unwrap() {
            assert_eq!(wanted.config["num_replicas"], 3);
            if wanted.object == Object::bucket("VOICE_LINK") {
                assert_eq!(wanted.config["max_bytes"], 1234);
            }
        }
    }

    #[test]
    fn a_byte_limit_that_makes_no_sense_is_refused() {
        for (name, bytes) in [
            ("VOICE_IN", 1),
            ("VOICE_EVENTS", 1),
            ("VOICE_EVENT", 0),
            ("VOICE_EVENT", u64::MAX),
        ] {
            let options = Options {
                bytes_max: [(name.to_owned(), bytes)].into(),
                ..Options::default()
            };
            assert!(streams(&options).is_err(), "{name} {bytes}");
        }
    }
}
