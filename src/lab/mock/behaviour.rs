//! How the mock behaves: values only. They can be replaced while the mock runs, as a
//! whole or in part as JSON; an invalid value changes nothing.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use crate::lab::names::UnknownName;
use crate::lab::window::WindowKind;
use crate::limits::Quota;

/// Everything about the mock that can change while it runs.
///
/// In JSON, durations and quotas are strings (`"60ms"`, `"20/1s"`), and faults are rates
/// by name (`{"reset": 0.01}`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockBehaviour {
    /// Mean time from request to response. Quotas count a request half-way through.
    #[serde(with = "crate::duration")]
    pub latency: Duration,
    /// Maximum deviation from `latency`, either way; uniform.
    #[serde(with = "crate::duration")]
    pub jitter: Duration,
    /// The quota of each skill in each region.
    #[serde(with = "quota")]
    pub skill_quota: Option<Quota>,
    /// The quota of all skills together in each region.
    #[serde(with = "quota")]
    pub region_quota: Option<Quota>,
    /// How both quotas count. Another kind starts with empty windows.
    pub window: WindowKind,
    /// `Retry-After` of a 429.
    pub retry_after: RetryAfter,
    /// The JSON of a name.
    pub name_shape: NameShape,
    /// The rates of the faults.
    pub faults: Faults,
    /// Seed of the random numbers: the same requests in the same order meet the same
    /// faults.
    pub seed: u64,
}

/// The JSON of a name. The documentation and the SDKs disagree.
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
    /// Returns the header's value for a client that has to wait.
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
    /// Returns this behaviour with the fields of `change` replaced. Objects are merged;
    /// `null` removes a quota.
    ///
    /// # Errors
    ///
    /// A field is unknown or its value is invalid.
    pub(super) fn merged(&self, change: serde_json::Value) -> serde_json::Result<Self> {
        let mut merged = serde_json::to_value(self)?;
        merge(&mut merged, change);
        serde_json::from_value(merged)
    }

    /// Returns the latency for a `roll` from 0 to 1.
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
    fn a_behaviour_is_restored_from_its_json() {
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
    fn latency_deviates_by_at_most_the_jitter() {
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
    fn retry_after_is_rounded_up() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let header = |form: RetryAfter| form.header(Duration::from_millis(1_200), now);
        assert_eq!(header(RetryAfter::None), None);
        assert_eq!(header(RetryAfter::Seconds).as_deref(), Some("2"));
        let date = Some("Thu, 01 Jan 1970 00:00:03 GMT");
        assert_eq!(header(RetryAfter::Date).as_deref(), date);
    }
}
