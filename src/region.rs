//! The three regions of the Alexa APIs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of the three regional deployments of the Alexa APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// North America.
    Na,
    /// Europe and India.
    Eu,
    /// Far East: Japan and Australia.
    Fe,
}

impl Region {
    /// Every region, in the order in which tables list them.
    pub const ALL: [Self; 3] = [Self::Na, Self::Eu, Self::Fe];

    /// The name used in configuration, paths, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Na => "na",
            Self::Eu => "eu",
            Self::Fe => "fe",
        }
    }

    /// The host that Alexa serves the region's APIs from.
    #[must_use]
    pub fn host(self) -> &'static str {
        &self.endpoint()["https://".len()..]
    }

    /// The same as a URL, as skills and tokens name it.
    #[must_use]
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Na => "https://api.amazonalexa.com",
            Self::Eu => "https://api.eu.amazonalexa.com",
            Self::Fe => "https://api.fe.amazonalexa.com",
        }
    }

    /// This region's place in a table of one row per region.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for Region {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let region = Self::ALL.into_iter().find(|region| region.name() == name);
        region.ok_or_else(|| format!("'{name}' is no region; there are na, eu and fe"))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
