//! Quotas, permits, and the queue in front of them.
//!
//! Every call to Alexa needs a [`Permit`], and only [`Limits::admit`] makes one.
//! Each of the three regions has a lane for each [`Family`] of calls, so that a
//! progressive response never waits behind profile calls. A lane keeps quotas
//! strictly (see [`window`]): the region's, each skill's, and, where Alexa has
//! answered 429, what it has learned of a quota that nobody publishes.
//!
//! | room | job |
//! |---|---|
//! | `quota`, [`window`], `pace`, `gate` | one quota: as said, its slots, the pace within, both |
//! | `adaptive` | what is believed of a hidden quota (pure) |
//! | `share` | how many of a region's slots a skill may hold (pure) |
//! | `tenant`, `queue` | one skill; who waits and who goes next |
//! | `lane` | the lock, the wake-ups, the permits |
//!
//! State outlives a reload: [`Limits::reconfigure`] resizes quotas in place.

mod adaptive;
mod estimate;
mod gate;
mod lane;
mod pace;
mod queue;
mod quota;
mod share;
mod tenant;
pub mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use lane::Lane;
pub use lane::Permit;
pub use quota::{Quota, QuotaError};

use crate::route::Region;
use crate::token::SkillId;

/// Which calls share a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// GETs of the cached templates.
    Profile,
    /// Everything else.
    Passthrough,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Profile, Self::Passthrough];

    /// The name in configuration, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Passthrough => "passthrough",
        }
    }
}

/// The limits of one family; without a quota, nothing is limited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FamilyLimits {
    /// Whether quotas that are not configured are learned from 429s.
    pub adaptive: bool,
    /// The quota of all calls to a region.
    pub region: Option<Quota>,
    /// The quota of the calls of one skill to a region.
    pub skill: Option<Quota>,
    /// What differs for single skills.
    pub skills: Arc<BTreeMap<SkillId, SkillLimits>>,
}

/// What differs for one skill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkillLimits {
    /// Its quota in place of [`FamilyLimits::skill`].
    pub quota: Option<Quota>,
    /// Its part of the region's quota when skills compete: twice the weight, twice
    /// the part. At least 1.
    pub weight: u32,
    /// How many requests of the region's quota, in each of its windows, are kept
    /// for this skill alone.
    pub floor: u32,
}

impl FamilyLimits {
    /// Quota, weight and floor of a tenant.
    fn of(&self, skill: Option<&SkillId>) -> (Option<Quota>, u32, u32) {
        match skill.and_then(|skill| self.skills.get(skill)) {
            Some(own) => (own.quota.or(self.skill), own.weight, own.floor),
            None => (self.skill, 1, 0),
        }
    }

    fn floors(&self) -> usize {
        self.skills.values().map(|own| own.floor as usize).sum()
    }

    /// Whether any skill's window is longer than in `old`, or new: then what was
    /// sent before is not known of skills that are not known.
    fn lengthens(&self, old: &Self) -> bool {
        let skills = self.skills.keys().chain(old.skills.keys()).map(Some);
        skills
            .chain([None])
            .any(|skill| match (self.of(skill).0, old.of(skill).0) {
                (Some(new), Some(old)) => old.per < new.per,
                (new, _) => new.is_some(),
            })
    }
}

/// Bounds on what a lane remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// How many requests may wait in one lane.
    pub max_queue: usize,
    /// How many skills have a quota of their own in one lane at a time.
    pub max_skills: usize,
}

/// Everything that is configured about limits.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Limits for [`Family::Profile`].
    pub profile: FamilyLimits,
    /// Limits for [`Family::Passthrough`].
    pub passthrough: FamilyLimits,
    /// Bounds on each lane.
    pub queue: QueueLimits,
}

impl LimitsConfig {
    fn of(&self, family: Family) -> &FamilyLimits {
        match family {
            Family::Profile => &self.profile,
            Family::Passthrough => &self.passthrough,
        }
    }
}

/// Where a request enters the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Behind those of its skill that came before.
    New,
    /// Before those that are new: it was sent once already, has waited for longer,
    /// and has less time left.
    Again,
}

/// What a request would wait for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The region's quota.
    Region,
    /// The skill's quota, configured or learned, or a pause that Alexa asked for.
    Skill,
    /// The queue is full, whatever the quotas.
    Queue,
}

impl Scope {
    /// The word for messages, logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Skill => "skill",
            Self::Queue => "queue",
        }
    }
}

/// What an answer says about the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Upstream took the call, whatever came of it.
    Counted,
    /// Upstream answered 429.
    Throttled {
        /// How long it asked to stay away.
        retry_after: Option<Duration>,
    },
}

/// A request was not admitted: it would have had to wait for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How long it would have had to wait.
    pub wait: Duration,
    /// What for.
    pub scope: Scope,
}

/// One lane as the status page shows it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LaneSnapshot {
    /// The region's quota.
    pub quota_region: Option<Quota>,
    /// The quota of each skill.
    pub quota_skill: Option<Quota>,
    /// Calls on their way.
    pub in_flight: u32,
    /// Slots of the region's quota that are held or cooling.
    pub region_slots_used: usize,
    /// Requests that wait for a permit.
    pub queued: usize,
    /// Skills that are remembered.
    pub skills: usize,
    /// How long answers have taken of late.
    pub round_trip_seconds: f64,
}

/// What has been learned of one skill's quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// The skill; none for requests that name none.
    pub skill: Option<String>,
    /// The rate in force.
    pub limit_per_second: f64,
    /// The rate that is thought to be allowed; the one in force is below it after
    /// a 429 and above it during a try.
    pub safe_per_second: f64,
    /// From 0, a first guess, towards 1, as the same ceiling is met again.
    pub confidence: f64,
    /// How many 429s there were.
    pub throttled: u64,
    /// How long ago the last one was.
    pub last_429_seconds_ago: u64,
    /// For how much longer nothing is sent.
    pub paused_seconds: f64,
    /// How many requests wait.
    pub queued: usize,
}

/// The lanes of all regions. Dropping it ends the tasks that hand out permits.
pub struct Limits {
    lanes: [[Arc<Lane>; 2]; 3],
    tasks: Vec<JoinHandle<()>>,
}

impl Limits {
    /// Opens the lanes. Must be called within a runtime.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Self {
        let lanes = Region::ALL.map(|region| {
            Family::ALL.map(|family| {
                let limits = config.of(family).clone();
                Arc::new(Lane::new(region, family, limits, config.queue))
            })
        });
        let tasks = lanes
            .iter()
            .flatten()
            .map(|lane| tokio::spawn(Arc::clone(lane).run()));
        Self {
            tasks: tasks.collect(),
            lanes,
        }
    }

    /// Waits for the right to make one call, in order, and no longer than it
    /// takes to see that the wait does not fit the deadline. Cancelling gives up
    /// the place in the queue.
    ///
    /// # Errors
    /// The expected wait and the usual time of an answer do not fit the deadline,
    /// or too many wait already.
    pub async fn admit(
        &self,
        region: Region,
        family: Family,
        skill: Option<&SkillId>,
        entry: Entry,
        deadline: Instant,
    ) -> Result<Permit, Refusal> {
        let lane = self.lane(region, family);
        lane.admit(skill, entry, deadline).await
    }

    /// Tells whether a request that came now could be served before `deadline`.
    ///
    /// # Errors
    /// It could not; see [`Limits::admit`].
    pub fn check(
        &self,
        region: Region,
        family: Family,
        skill: Option<&SkillId>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        self.lane(region, family).check(skill, deadline)
    }

    /// Applies a new configuration to the lanes as they are.
    pub fn reconfigure(&self, config: &LimitsConfig) {
        for lanes in &self.lanes {
            for (family, lane) in Family::ALL.into_iter().zip(lanes) {
                lane.reconfigure(config.of(family).clone(), config.queue);
            }
        }
    }

    /// How one lane stands.
    #[must_use]
    pub fn snapshot(&self, region: Region, family: Family) -> LaneSnapshot {
        self.lane(region, family).snapshot()
    }

    /// What one lane has learned, by skill.
    #[must_use]
    pub fn learned(&self, region: Region, family: Family) -> Vec<Learned> {
        self.lane(region, family).learned()
    }

    fn lane(&self, region: Region, family: Family) -> &Arc<Lane> {
        &self.lanes[region.index()][family as usize]
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const MS: Duration = Duration::from_millis(1);

    fn quota(requests: u32, per: Duration) -> Option<Quota> {
        Some(Quota {
            requests: requests.try_into().unwrap(),
            per,
            burst: None,
        })
    }

    fn config(region: Option<Quota>, skill: Option<Quota>) -> LimitsConfig {
        LimitsConfig {
            profile: FamilyLimits {
                region,
                skill,
                ..FamilyLimits::default()
            },
            passthrough: FamilyLimits::default(),
            queue: QueueLimits {
                max_queue: 10_000,
                max_skills: 100,
            },
        }
    }

    fn skill(n: usize) -> SkillId {
        SkillId::parse(&format!("amzn1.ask.skill.{n}")).unwrap()
    }

    async fn admit(limits: &Limits, skill: &SkillId, within: Duration) -> Result<Permit, Refusal> {
        let deadline = Instant::now() + within;
        limits
            .admit(
                Region::Eu,
                Family::Profile,
                Some(skill),
                Entry::New,
                deadline,
            )
            .await
    }

    /// Makes a call that is answered after `round_trip`; answers when the upstream
    /// saw it, at some moment on the way.
    async fn call(mut permit: Permit, round_trip: Duration, seed: u64) -> Instant {
        permit.sent();
        let seen = round_trip.mul_f64(fastrand::Rng::with_seed(seed).f64());
        tokio::time::sleep(seen).await;
        let stamp = Instant::now();
        tokio::time::sleep(round_trip - seen).await;
        permit.answered(Answered::Counted);
        stamp
    }

    fn most_in_any_window(mut stamps: Vec<Instant>, per: Duration) -> usize {
        stamps.sort();
        let mut window = VecDeque::new();
        let mut most = 0;
        for stamp in stamps {
            while window.front().is_some_and(|&first| first + per <= stamp) {
                window.pop_front();
            }
            window.push_back(stamp);
            most = most.max(window.len());
        }
        most
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_is_kept_in_every_window_and_used() {
        let limits = Arc::new(Limits::new(&config(None, quota(50, 1000 * MS))));
        let start = Instant::now();
        let calls: Vec<_> = (0..500u64)
            .map(|n| {
                let limits = Arc::clone(&limits);
                tokio::spawn(async move {
                    let permit = admit(&limits, &skill(1), 60_000 * MS).await.unwrap();
                    call(permit, MS * (20 + (n % 80) as u32), n).await
                })
            })
            .collect();
        let mut stamps = Vec::new();
        for call in calls {
            stamps.push(call.await.unwrap());
        }
        let took = start.elapsed();
        assert_eq!(most_in_any_window(stamps, 1000 * MS), 50);
        // Ten windows' worth; the first goes at once, each other costs W + RTT.
        assert!(took < 9 * 1100 * MS + 200 * MS, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_does_not_fit_is_refused_at_once_with_its_length() {
        let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
        let permit = admit(&limits, &skill(1), 100 * MS).await.unwrap();
        call(permit, 100 * MS, 1).await;
        let before = Instant::now();
        let refusal = admit(&limits, &skill(1), 900 * MS).await.unwrap_err();
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(
            refusal,
            Refusal {
                wait: 1000 * MS,
                scope: Scope::Skill
            }
        );
        let permit = admit(&limits, &skill(1), 1200 * MS).await.unwrap();
        assert_eq!(permit.waited(), 1000 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn skills_do_not_wait_for_each_other() {
        let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
        let _held = admit(&limits, &skill(1), 100 * MS).await.unwrap();
        assert!(admit(&limits, &skill(2), MS).await.is_ok());
        let one = skill(1);
        let other_family = limits.admit(
            Region::Eu,
            Family::Passthrough,
            Some(&one),
            Entry::New,
            Instant::now(),
        );
        assert!(other_family.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_skill_waits_in_order() {
        let limits = Arc::new(Limits::new(&config(None, quota(1, 10 * MS))));
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                let (limits, order) = (Arc::clone(&limits), Arc::clone(&order));
                tokio::spawn(async move {
                    let permit = admit(&limits, &skill(1), 10_000 * MS).await.unwrap();
                    order.lock().unwrap().push(n);
                    call(permit, MS, n).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(order.lock().unwrap().is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_noisy_skill_cannot_hold_up_another_at_the_region() {
        let limits = Arc::new(Limits::new(&config(quota(1, 100 * MS), None)));
        let noisy: Vec<_> = (0..50)
            .map(|n| {
                let limits = Arc::clone(&limits);
                tokio::spawn(async move {
                    let permit = admit(&limits, &skill(1), 60_000 * MS).await.unwrap();
                    call(permit, MS, n).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let permit = admit(&limits, &skill(2), 500 * MS).await.unwrap();
        assert!(permit.waited() <= 210 * MS, "{:?}", permit.waited());
        drop(permit);
        for task in noisy {
            task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_gives_up_the_place_and_an_unsent_permit_its_slots() {
        let limits = Arc::new(Limits::new(&config(None, quota(1, 1000 * MS))));
        let held = admit(&limits, &skill(1), 100 * MS).await.unwrap();
        let waiting = tokio::spawn({
            let limits = Arc::clone(&limits);
            async move { admit(&limits, &skill(1), 60_000 * MS).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(limits.snapshot(Region::Eu, Family::Profile).queued, 1);
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(limits.snapshot(Region::Eu, Family::Profile).queued, 0);
        drop(held);
        assert!(admit(&limits, &skill(1), MS).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_comes_too_late_for_its_receiver_is_not_lost() {
        let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
        let held = admit(&limits, &skill(1), 100 * MS).await.unwrap();
        {
            let one = skill(1);
            let mut waiting = Box::pin(admit(&limits, &one, 60_000 * MS));
            assert!(poll_once(&mut waiting).await.is_none());
            drop(held);
            // The lane hands the permit over while nobody looks.
            while limits.snapshot(Region::Eu, Family::Profile).queued > 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(admit(&limits, &skill(1), MS).await.is_ok());
    }

    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_forgets_nothing() {
        let limits = Limits::new(&config(None, quota(2, 1000 * MS)));
        for n in 0..2 {
            call(admit(&limits, &skill(1), MS).await.unwrap(), MS, n).await;
        }
        limits.reconfigure(&config(None, quota(3, 1000 * MS)));
        assert!(
            admit(&limits, &skill(1), MS).await.is_ok(),
            "one more than before"
        );
        limits.reconfigure(&config(None, quota(1, 1000 * MS)));
        assert!(admit(&limits, &skill(1), 500 * MS).await.is_err());
        assert!(admit(&limits, &skill(1), 1500 * MS).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_appears_starts_spent_for_known_and_new_skills() {
        let limits = Limits::new(&config(None, None));
        for n in 0..100 {
            call(admit(&limits, &skill(1), MS).await.unwrap(), MS, n).await;
        }
        limits.reconfigure(&config(None, quota(5, 1000 * MS)));
        for n in [1, 2] {
            let refusal = admit(&limits, &skill(n), 500 * MS).await.unwrap_err();
            assert_eq!(refusal.wait, 1000 * MS);
        }
        tokio::time::advance(1000 * MS).await;
        assert!(admit(&limits, &skill(1), MS).await.is_ok());
        assert!(admit(&limits, &skill(3), MS).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses() {
        let mut config = config(None, quota(1, 1000 * MS));
        config.queue.max_queue = 0;
        let limits = Limits::new(&config);
        let _held = admit(&limits, &skill(1), MS).await.unwrap();
        let refusal = admit(&limits, &skill(1), 60_000 * MS).await.unwrap_err();
        assert_eq!(refusal.scope, Scope::Queue);
    }

    #[tokio::test(start_paused = true)]
    async fn invented_skills_cannot_fill_the_memory() {
        let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
        let mut held = Vec::new();
        for n in 0..500 {
            held.extend(admit(&limits, &skill(n), MS).await.ok());
        }
        assert!(limits.snapshot(Region::Eu, Family::Profile).skills <= 101);
        assert_eq!(
            held.len(),
            101,
            "one for each skill and one that the others share"
        );
    }
}
