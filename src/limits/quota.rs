//! One quota, kept strictly: at most L requests in any window of length W.
//!
//! A token bucket with burst b and rate r does not keep such a quota: one window
//! can see b + r·W requests. So a quota is kept by **slots**:
//!
//! - A quota has L slots. A request takes one before it is sent.
//! - When its response head arrives, the slot starts a **cool-down** of W, and is
//!   free after that. A request that times out or is reset starts the cool-down at
//!   the moment it is known to be dead. A request that was never sent frees its
//!   slot at once.
//! - Upstream counts a request at some time between its sending and its response.
//!   Two uses of one slot are therefore at least W apart on upstream's clock,
//!   whatever the network does, for fixed and sliding windows alike.
//! - The price is a rate of L / (W + round trip) instead of L / W.
//!
//! Within a window, an optional burst limit spaces requests evenly. That is GCRA
//! (ITU-T I.371, "generic cell rate algorithm"), and governor decides it.
//!
//! | file | noun |
//! |---|---|
//! | `definition` | the quota as configured: requests, window, burst |
//! | `window` | its slots and their cool-down (pure) |
//! | `pace` | its burst limit: GCRA |
//! | `readiness` | when a request may go |
//! | `gate` | slots and pace together: what a request passes |

mod definition;
mod gate;
mod pace;
mod readiness;
mod window;

pub use definition::{Quota, QuotaError};
pub(super) use gate::{Gate, QueuePosition};
pub(super) use readiness::Readiness;
