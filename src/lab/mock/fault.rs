//! The faults of the mock: by rate, or scripted in order.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::lab::names::UnknownName;

/// One way for a request to fail.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
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
    parse_err_fn = UnknownName::of::<Fault>
)]
pub enum Fault {
    /// 500 instead of the response.
    #[serde(rename = "500")]
    #[strum(serialize = "500")]
    Error500,
    /// 503 instead of the response.
    #[serde(rename = "503")]
    #[strum(serialize = "503")]
    Unavailable503,
    /// 429 instead of the response, regardless of the quotas.
    #[serde(rename = "429")]
    #[strum(serialize = "429")]
    Throttle429,
    /// The connection (in HTTP/2 the stream) is reset without a response.
    Reset,
    /// The response ends after half of its declared length.
    Cut,
    /// No response; the connection stays open.
    Stall,
    /// The HTML page of a captive portal, with status 200.
    #[serde(rename = "html")]
    #[strum(serialize = "html")]
    Html200,
    /// The response arrives in eight pieces, 50 ms apart.
    #[serde(rename = "slow")]
    #[strum(serialize = "slow")]
    SlowBody,
}

/// What a script does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptStep {
    /// It is served as usual. Written `ok`.
    Normal,
    /// It meets a fault. Written as the fault's name.
    Fault(Fault),
}

impl FromStr for ScriptStep {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "ok" {
            return Ok(Self::Normal);
        }
        let fault = text.parse().map(Self::Fault);
        fault.map_err(|unknown: UnknownName| unknown.or("ok"))
    }
}

/// The rate of each fault: numbers from 0 to 1 whose sum is at most 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Fault, f64>", into = "BTreeMap<Fault, f64>")]
pub struct Faults(BTreeMap<Fault, f64>);

/// A fault rate is outside 0 to 1, or their sum exceeds 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault rates must be from 0 to 1, and their sum at most 1")]
pub struct BadRates;

impl Faults {
    /// Checks the rates. The rate of any other fault is 0.
    ///
    /// # Errors
    ///
    /// A rate is outside 0 to 1, or the sum is above 1.
    pub fn new(rates: impl IntoIterator<Item = (Fault, f64)>) -> Result<Self, BadRates> {
        let mut rates: BTreeMap<_, _> = rates.into_iter().collect();
        let sound = rates.values().all(|rate| (0.0..=1.0).contains(rate));
        // The margin allows for rounding: ten times 0.1 is not exactly 1.
        if !sound || rates.values().sum::<f64>() > 1.0 + 1e-9 {
            return Err(BadRates);
        }
        rates.retain(|_, rate| *rate > 0.0);
        Ok(Self(rates))
    }

    /// Returns the fault for a `roll` from 0 to below 1.
    pub(super) fn strike(&self, roll: f64) -> Option<Fault> {
        let mut below = 0.0;
        let mut struck = self.0.iter().filter(|(_, rate)| {
            below += **rate;
            roll < below
        });
        struck.next().map(|(fault, _)| *fault)
    }
}

impl TryFrom<BTreeMap<Fault, f64>> for Faults {
    type Error = BadRates;

    fn try_from(rates: BTreeMap<Fault, f64>) -> Result<Self, Self::Error> {
        Self::new(rates)
    }
}

impl From<Faults> for BTreeMap<Fault, f64> {
    fn from(faults: Faults) -> Self {
        faults.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_selects_a_fault_by_its_rate() {
        let faults = Faults::new([(Fault::Reset, 0.25), (Fault::Error500, 0.5)]).unwrap();
        assert_eq!(faults.strike(0.0), Some(Fault::Error500));
        assert_eq!(faults.strike(0.49), Some(Fault::Error500));
        assert_eq!(faults.strike(0.5), Some(Fault::Reset));
        assert_eq!(faults.strike(0.75), None);
        assert_eq!(Faults::default().strike(0.0), None);
    }

    #[test]
    fn rates_outside_0_to_1_are_refused() {
        for rate in [-0.1, 1.1, f64::NAN] {
            assert_eq!(Faults::new([(Fault::Cut, rate)]), Err(BadRates));
        }
        assert_eq!(
            Faults::new([(Fault::Cut, 0.6), (Fault::Stall, 0.6)]),
            Err(BadRates)
        );
        assert!(Faults::new([(Fault::Cut, 1.0)]).is_ok());
    }

    #[test]
    fn script_steps_are_parsed_by_name() {
        assert_eq!("ok".parse(), Ok(ScriptStep::Normal));
        assert_eq!("reset".parse(), Ok(ScriptStep::Fault(Fault::Reset)));
        let refusal = "nok".parse::<ScriptStep>().unwrap_err().to_string();
        assert!(
            refusal.starts_with("unknown name `nok`: expected one of ok, 500,"),
            "{refusal}"
        );
    }
}
