//! The three regions of the Alexa APIs.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// One of the three regional deployments of the Alexa APIs.
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
    Display,
    EnumString,
    IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown)]
pub enum Region {
    /// North America.
    Na,
    /// Europe and India.
    Eu,
    /// Far East: Japan and Australia.
    Fe,
}

impl Region {
    /// All regions, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Na, Self::Eu, Self::Fe];

    /// The name used in configuration, paths, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The host name of the region's APIs.
    #[must_use]
    pub fn host(self) -> &'static str {
        &self.endpoint()["https://".len()..]
    }

    /// The URL of the region's APIs, as skills and tokens contain it.
    #[must_use]
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Na => "https://api.amazonalexa.com",
            Self::Eu => "https://api.eu.amazonalexa.com",
            Self::Fe => "https://api.fe.amazonalexa.com",
        }
    }

    /// The index of this region in an array of [`Region::ALL`]'s order.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

fn unknown(name: &str) -> String {
    format!("'{name}' is not a region; the regions are na, eu and fe")
}
