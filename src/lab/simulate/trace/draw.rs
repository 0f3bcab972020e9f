//! Draws the requests of a load from a seed, in order of time.
//!
//! Each skill has one pending turn, and requests of turns that have begun wait in a
//! heap, so memory depends on the number of skills and not on the length.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use super::load::Load;
use super::request::TraceRequest;
use crate::lab::demo::schedule::{AT_ONCE, LATER};

/// The requests of a load, as an iterator.
pub(super) struct Draw<'a> {
    load: &'a Load,
    rng: Rng,
    /// Pending events. The number keeps events of the same time in the order in which
    /// they were created.
    heap: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    created: u64,
    turns: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A turn of a skill begins.
    Turn {
        skill: u32,
        /// The position in its unit-rate Poisson process, as the bits of a float.
        position: u64,
    },
    Request {
        skill: u32,
        turn: u32,
        target: u32,
        no_cache: bool,
    },
}

impl<'a> Draw<'a> {
    pub(super) fn new(load: &'a Load, seed: u64) -> Self {
        let mut draw = Self {
            load,
            rng: Rng::with_seed(seed),
            heap: BinaryHeap::new(),
            created: 0,
            turns: 0,
        };
        for skill in 0..load.skills.len() {
            draw.schedule_turn(u32::try_from(skill).unwrap_or(u32::MAX), 0.0);
        }
        draw
    }

    /// Draws when a skill's next turn begins: a Poisson process of unit rate whose time
    /// is stretched to the rate of the load.
    fn schedule_turn(&mut self, skill: u32, position: f64) {
        let position = position - (1.0 - self.rng.f64()).ln();
        let seconds = position / self.load.turn_rate(skill);
        if let Some(at) = self.load.shape.warp(seconds, self.load.length) {
            let position = position.to_bits();
            self.push(at, Event::Turn { skill, position });
        }
    }

    fn begin_turn(&mut self, at: Duration, skill: u32) {
        let (fan_out, turn) = (self.load.fan_out(), self.turns);
        self.turns = self.turns.wrapping_add(1);
        for service in 1..=fan_out {
            let last_of_several = service > 1 && service == fan_out;
            let start = if last_of_several {
                at + LATER.start + (LATER.end - LATER.start).mul_f64(self.rng.f64())
            } else {
                at
            };
            for target in 0..self.load.operations() {
                let at = start + AT_ONCE.mul_f64(self.rng.f64());
                let request = Event::Request {
                    skill,
                    turn,
                    target: u32::try_from(target).unwrap_or(0),
                    no_cache: self.load.no_cache > 0.0 && self.rng.f64() < self.load.no_cache,
                };
                self.push(at, request);
            }
        }
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.heap.push(Reverse((at, self.created, event)));
        self.created += 1;
    }
}

impl Iterator for Draw<'_> {
    type Item = TraceRequest;

    fn next(&mut self) -> Option<TraceRequest> {
        loop {
            let Reverse((at, _, event)) = self.heap.pop()?;
            match event {
                Event::Turn { skill, position } => {
                    self.begin_turn(at, skill);
                    self.schedule_turn(skill, f64::from_bits(position));
                }
                Event::Request {
                    skill,
                    turn,
                    target,
                    no_cache,
                } => {
                    let timeout = self.load.timeout.map_or(0, |timeout| timeout.as_millis());
                    return Some(TraceRequest {
                        at,
                        turn,
                        skill,
                        target,
                        timeout_ms: u32::try_from(timeout).unwrap_or(u32::MAX),
                        region: self.load.skills[skill as usize].region,
                        no_cache,
                    });
                }
            }
        }
    }
}
