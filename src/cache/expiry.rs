//! When stored responses expire: a wheel of marks, in slots of a quarter of a second.
//!
//! The wheel reaches one minute ahead. A mark for later comes around once a minute, and
//! is filed again if its response is still stored; the marks of replaced and evicted
//! responses are dropped then. The wheel thus holds one mark for each stored response,
//! and one for each that was replaced or evicted within the last minute.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::slot::{SlotMark, Tick};

/// The marks of one table. The lock is held for a few instructions.
pub(super) struct ExpiryWheel {
    /// Tick 0.
    started_at: Instant,
    wheel: Mutex<Wheel>,
}

struct Wheel {
    slots: Box<[Slot]>,
    /// The first tick whose slot has not been emptied.
    next: Tick,
}

/// Pieces of bounded size, so that no mark waits while a million others are copied.
type Slot = VecDeque<Vec<SlotMark>>;

const TICK: Duration = Duration::from_millis(250);
const SLOTS: usize = 256;
const PIECE: usize = 1024;

impl ExpiryWheel {
    /// An empty wheel.
    pub(super) fn new() -> Self {
        Self {
            started_at: Instant::now(),
            wheel: Mutex::new(Wheel {
                slots: vec![Slot::new(); SLOTS].into(),
                next: 0,
            }),
        }
    }

    /// The last tick that has begun at `at`.
    pub(super) fn tick(&self, at: Instant) -> Tick {
        ticks(at.saturating_duration_since(self.started_at))
    }

    /// The first tick at which what expires `span` after `at` has expired.
    pub(super) fn tick_after(&self, at: Instant, span: Duration) -> Tick {
        let expires = at
            .saturating_duration_since(self.started_at)
            .saturating_add(span);
        ticks(expires.saturating_add(TICK - Duration::from_nanos(1)))
    }

    /// Files a mark.
    pub(super) fn file(&self, mark: SlotMark) {
        let mut wheel = self.wheel.lock();
        let last = wheel.next.saturating_add(SLOTS as Tick - 1);
        let tick = mark.expires().clamp(wheel.next, last);
        let slot = &mut wheel.slots[tick as usize % SLOTS];
        match slot.back_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(mark),
            _ => slot.push_back(vec![mark]),
        }
    }

    /// Whether there are marks that have come around by `now`.
    pub(super) fn is_due(&self, now: Tick) -> bool {
        let wheel = self.wheel.lock();
        let turn = wheel.next.saturating_add(SLOTS as Tick - 1);
        (wheel.next..=now.min(turn)).any(|tick| !wheel.slots[tick as usize % SLOTS].is_empty())
    }

    /// Takes out a piece of the marks that have come around by `now`, the oldest first.
    pub(super) fn take(&self, now: Tick) -> Option<Vec<SlotMark>> {
        let mut wheel = self.wheel.lock();
        while wheel.next <= now {
            let next = wheel.next as usize % SLOTS;
            if let Some(piece) = wheel.slots[next].pop_front() {
                return Some(piece);
            }
            wheel.slots[next] = Slot::new();
            wheel.next += 1;
        }
        None
    }
}

fn ticks(span: Duration) -> Tick {
    Tick::try_from(span.as_millis() / TICK.as_millis()).unwrap_or(Tick::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::slot::SlotKey;
    use crate::cache::testing::key;
    use crate::token::DigestKey;

    const SECOND: Duration = Duration::from_secs(1);

    /// As many as `count` different marks for one tick.
    fn marks(count: usize, expires: Tick) -> Vec<SlotMark> {
        let digest_key = DigestKey::random().unwrap();
        (0..count)
            .map(|n| SlotKey::new(key(&digest_key, n), expires).mark())
            .collect()
    }

    fn take_all(wheel: &ExpiryWheel, now: Tick) -> Vec<SlotMark> {
        std::iter::from_fn(|| wheel.take(now)).flatten().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_has_expired_when_its_tick_begins() {
        let wheel = ExpiryWheel::new();
        tokio::time::advance(SECOND / 10).await;
        let now = Instant::now();
        for span in [Duration::ZERO, SECOND / 10, SECOND / 4, SECOND] {
            let expires = SECOND / 10 + span;
            let begins = TICK * wheel.tick_after(now, span);
            assert!((expires..expires + TICK).contains(&begins), "{span:?}");
        }
        assert!(wheel.tick_after(now, Duration::MAX) > wheel.tick_after(now, 1_000_000 * SECOND));
        assert_eq!(wheel.tick(now + SECOND), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn marks_come_around_when_they_are_due() {
        let wheel = ExpiryWheel::new();
        for mark in marks(3000, 4).into_iter().chain(marks(10, 5)) {
            wheel.file(mark);
        }
        assert!(!wheel.is_due(3));
        assert_eq!(take_all(&wheel, 3).len(), 0);
        assert!(wheel.is_due(4) && wheel.is_due(1000));
        assert_eq!(take_all(&wheel, 4).len(), 3000);
        assert!(!wheel.is_due(4));
        assert_eq!(take_all(&wheel, 4).len(), 0);
        assert_eq!(take_all(&wheel, 100).len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_that_is_far_off_comes_around_within_one_turn() {
        let wheel = ExpiryWheel::new();
        wheel.file(marks(1, 100_000)[0]);
        assert_eq!(take_all(&wheel, 254).len(), 0);
        assert_eq!(take_all(&wheel, 255).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_that_is_overdue_comes_around_at_once() {
        let wheel = ExpiryWheel::new();
        assert_eq!(take_all(&wheel, 50).len(), 0);
        wheel.file(marks(1, 7)[0]);
        assert_eq!(take_all(&wheel, 51).len(), 1);
    }
}
