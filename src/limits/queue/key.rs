//! How a tenant is identified.

use crate::token::SkillId;

/// The skill of a tenant; `None` for the tenant of all requests without a skill.
pub(crate) type TenantKey = Option<SkillId>;

/// The place of a tenant in its table. Valid while the tenant holds or waits for a
/// slot, so a permit finds its tenant without hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TenantId(pub(super) usize);
