//! Which Alexa region gets a request.

use std::fmt;

/// One of the three regional deployments of the Alexa APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
        match self {
            Self::Na => "api.amazonalexa.com",
            Self::Eu => "api.eu.amazonalexa.com",
            Self::Fe => "api.fe.amazonalexa.com",
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
