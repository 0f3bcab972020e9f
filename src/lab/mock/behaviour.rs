//! How the mock behaves: values only. They can be replaced as a whole while
//! the mock runs, or in part as JSON; a bad value is refused and changes
//! nothing.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use crate::lab::names::UnknownName;
use crate::lab::window::WindowKind;
use crate::limits::Quota;

/// Everything about the mock that can change while it runs.
///
/// In JSON, durations and quotas are text (`"60ms"`, `"20/1s"`), kinds are
/// their names and faults are rates by name (`{"reset": 0.01}`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockBehaviour {
    /// From request to answer. A request is judged half-way through.
    #[serde(with = "crate::duration")]
    pub latency: Duration,
    /// How far an answer may stray from `latency`, uniformly, either way.
    #[serde(with = "crate::duration")]
    pub jitter: Duration,
    /// What one skill may ask of one region.
    #[serde(with = "quota")]
    pub skill_quota: Option<Quota>,
    /// What all skills together may ask of one region.
    #[serde(with = "quota")]
    pub region_quota: Option<Quota>,
    /// How both quotas count. Another kind starts with empty windows.
    pub window: WindowKind,
    /// What a 429 says about when to come back.
    pub retry_after: RetryAfter,
    /// How the name operations write a name.
    pub name_shape: NameShape,
    /// How often which fault strikes.
    pub faults: Faults,
    /// Where the random numbers start: the same seed and the same requests one
    /// after the other meet the same faults.
    pub seed: u64,
}

/// How the name operations write a name: it is unknown which Alexa does.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(
    serialize_all = "lowercase",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<NameShape>
)]
pub enum NameShape {
    /// `{"name": "Jane Doe"}`, as documented.
    #[default]
    Object,
    /// `"Jane Doe"`, as the SDKs expect.
    String,
}

/// The form of `Retry-After` in a 429.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(
    serialize_all = "lowercase",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<RetryAfter>
)]
pub enum RetryAfter {
    /// No such header.
    #[default]
    None,
    /// Whole seconds, rounded up.
    Seconds,
    /// An HTTP date, rounded up.
    Date,
}

impl RetryAfter {
    /// Writes the header for a client that should stay away for `wait`.
    pub(super) fn header(self, wait: Duration, now: SystemTime) -> Option<String> {
        let up = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        match self {
            Self::None => None,
            Self::Seconds => Some(up(wait).to_string()),
            Self::Date => {
                let epoch = SystemTime::UNIX_EPOCH;
                let then = (now + wait).duration_since(epoch).unwrap_or_default();
                let then = epoch + Duration::from_secs(up(then));
                Some(httpdate::fmt_http_date(then))
            }
        }
    }
}

impl MockBehaviour {
    /// Returns this behaviour with the fields that `change` names replaced.
    /// Objects are merged; `null` takes a quota away.
    ///
    /// # Errors
    ///
    /// Fails on an unknown field or a value that its field cannot hold.
    pub(super) fn merged(&self, change: serde_json::Value) -> serde_json::Result<Self> {
        let mut merged = serde_json::to_value(self)?;
        merge(&mut merged, change);
        serde_json::from_value(merged)
    }

    /// Returns when to answer, for a `roll` from 0 to 1.
    pub(super) fn latency(&self, roll: f64) -> Duration {
        (self.latency + self.jitter.mul_f64(2.0 * roll)).saturating_sub(self.jitter)
    }
}

fn merge(into: &mut serde_json::Value, change: serde_json::Value) {
    match (into, change) {
        (serde_json::Value::Object(into), serde_json::Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// A quota as people write it, or `null`.
mod quota {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::limits::Quota;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Quota>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(quota) => to.collect_str(quota),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Quota>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let quota = text.map(|text| text.parse()).transpose();
        quota.map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_behaviour_reads_back_from_its_json() {
        let behaviour = MockBehaviour {
            latency: Duration::from_millis(60),
            skill_quota: Some("20/1s".parse().unwrap()),
            window: WindowKind::Fixed,
            retry_after: RetryAfter::Date,
            ..MockBehaviour::default()
        };
        let json = serde_json::to_value(&behaviour).unwrap();
        assert_eq!(
            (&json["latency"], &json["skill_quota"]),
            (&json!("60ms"), &json!("20/1s"))
        );
        assert_eq!(
            serde_json::from_value::<MockBehaviour>(json).unwrap(),
            behaviour
        );
    }

    #[test]
    fn a_partial_change_leaves_the_rest_alone() {
        let before = MockBehaviour {
            skill_quota: Some("20/1s".parse().unwrap()),
            seed: 7,
            ..MockBehaviour::default()
        };
        let change = json!({"latency": "1s", "skill_quota": null, "faults": {"reset": 0.5}});
        let after = before.merged(change).unwrap();
        assert_eq!((after.latency, after.seed), (Duration::from_secs(1), 7));
        assert_eq!(after.skill_quota, None);
        let calm = after.merged(json!({"faults": {"reset": 0}})).unwrap();
        assert_eq!(calm.faults, Faults::default());
    }

    #[test]
    fn a_bad_change_is_refused() {
        let behaviour = MockBehaviour::default();
        for bad in [
            json!({"latancy": "1s"}),
            json!({"skill_quota": "0/1s"}),
            json!(5),
        ] {
            assert!(behaviour.merged(bad).is_err());
        }
        assert!(behaviour.merged(json!({"faults": {"reset": 1.5}})).is_err());
    }

    #[test]
    fn latency_strays_by_no_more_than_the_jitter() {
        let millis = Duration::from_millis;
        let behaviour = MockBehaviour {
            latency: millis(60),
            jitter: millis(20),
            ..MockBehaviour::default()
        };
        let latencies = [0.0, 0.5, 1.0].map(|roll| behaviour.latency(roll));
        assert_eq!(latencies, [millis(40), millis(60), millis(80)]);
    }

    #[test]
    fn retry_after_never_calls_a_client_back_too_early() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let header = |form: RetryAfter| form.header(Duration::from_millis(1_200), now);
        assert_eq!(header(RetryAfter::None), None);
        assert_eq!(header(RetryAfter::Seconds).as_deref(), Some("2"));
        let date = Some("Thu, 01 Jan 1970 00:00:03 GMT");
        assert_eq!(header(RetryAfter::Date).as_deref(), date);
    }
}
