//! One pass over the wheel: removes expired responses and files the other marks again.
//!
//! It runs on a thread of its own. To remove a response, moka now and then copies a 64th of
//! its table. With a million responses that takes milliseconds, which no request may wait
//! for; the scheduler lets requests in between, also on a single core.

use std::sync::Arc;

use super::expiry::ExpiryWheel;
use super::slot::{Table, Tick};

pub(super) struct Sweep {
    pub(super) entries: Table,
    pub(super) expiry: Arc<ExpiryWheel>,
    pub(super) now: Tick,
}

impl Sweep {
    pub(super) fn run(self) {
        while let Some(marks) = self.expiry.take(self.now) {
            for mark in marks {
                if mark.expires() <= self.now {
                    self.entries.invalidate(&mark);
                } else if self.entries.contains_key(&mark) {
                    self.expiry.file(mark);
                }
            }
        }
        self.entries.run_pending_tasks();
    }
}
